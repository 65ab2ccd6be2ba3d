"""Networks that look closely at one tile and sum it up in a vector of features."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.initialise import glorot_uniform
from saccade.models.pixels import Numbers, Standardise, Tiles, typical_pixels
from saccade.models.residual_attention import small_attention
from saccade.models.spatial_transformer import Maps, SpatialTransformer
from saccade.models.strongest_response import StrongestResponse

_OF_A_MODEL = "encoder.trunk."  # begins the names of a trunk's weights in an `AttentionSampling`


class Encoder(nn.Module):
    """Standardise the pixels of tiles, then run a trunk over them.

    Args:
        trunk: maps standardised tiles (n, channels, height, width) to features (n, features).
        features: length of a tile's feature vector.
        mean: of the channels that the trunk expects, for pixels in [0, 1].
        std: likewise.

    Attributes:
        transformer: says where in a tile to look; the trunk then sees what it gives. None: all.
    """

    transformer: SpatialTransformer | None

    def __init__(
        self,
        trunk: nn.Module,
        *,
        features: int,
        mean: Numbers,
        std: Numbers,
    ) -> None:
        super().__init__()
        self.standardise = Standardise(mean, std)
        self.trunk = trunk
        self.features = features
        self.register_module("transformer", None)
        self._frozen: frozenset[str] = frozenset()

    @property
    def mean(self) -> Float[Tensor, " channels"]:
        """What is taken off each channel."""
        return self.standardise.mean

    @property
    def std(self) -> Float[Tensor, " channels"]:
        """What each channel is divided by."""
        return self.standardise.std

    def forward(
        self,
        tiles: Tiles,
    ) -> Float[Tensor, "n features"]:
        """Return the features of tiles, RGB in [0, 1] or bytes."""
        features: Tensor = self.trunk(self.looked_at(tiles))
        return features

    def looked_at(self, tiles: Tiles) -> Float[Tensor, "n channels seen_rows seen_cols"]:
        """Return what the trunk sees of tiles, standardised; beyond their edges is the mean."""
        pixels: Tensor = self.standardise(tiles)
        return pixels if self.transformer is None else self.transformer(pixels)

    def where(self, tiles: Tiles) -> Maps | None:
        """Return where in each tile the trunk looks, as `look` has it; None without transformer."""
        return None if self.transformer is None else self.transformer.where(self.standardise(tiles))

    def freeze(self, names: Iterable[str]) -> None:
        """Keep parameters of the trunk as they are, and what belongs to them at rest.

        Frozen layers are in evaluation mode from the next `train()` on: without dropout, and with
        batch norms that neither look at the batch nor change their statistics.
        """
        self._frozen = frozenset(names)
        for name in self._frozen:
            self.trunk.get_parameter(name).requires_grad_(False)

    def train(self, mode: bool = True) -> "Encoder":
        """Set training mode, but for what is frozen."""
        super().train(mode)
        if self._frozen:
            rest(self.trunk, self._frozen)
        return self


def rest(module: nn.Module, frozen: frozenset[str], prefix: str = "") -> None:
    """Put a module into evaluation mode, but for those parts whose parameters all learn.

    Args:
        module: in training mode.
        frozen: names of the parameters that do not learn.
        prefix: what they begin with before the module's own names.
    """
    names = {prefix + name for name, _ in module.named_parameters()}
    if names and not names & frozen:
        return
    module.training = False
    for name, child in module.named_children():
        rest(child, frozen, f"{prefix}{name}.")


class MeanAndMax(nn.Module):
    """Mean and strongest response of each channel, side by side."""

    def forward(
        self, x: Float[Tensor, "n channels rows cols"]
    ) -> Float[Tensor, "n twice_channels"]:
        """Return the means, then the maxima, over rows and columns."""
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)


def paper_encoder(*, in_channels: int = 3) -> Encoder:
    """Four valid convolutions of 32 channels, then the maximum: 29,344 parameters on grey.

    Source: Katharopoulos and Fleuret, ICML 2019, network of the Megapixel MNIST experiment.
    Pixels enter as they are, in [0, 1]; tiles must be at least 13 px a side. The paper then scales
    features to length one; `AttentionSampling` does that.
    """
    further = (nn.Conv2d(32, 32, 3) for _ in range(3))
    trunk = StrongestResponse([nn.Conv2d(in_channels, 32, 7), *further])
    glorot_uniform(trunk)
    return Encoder(trunk, features=32, mean=(0.0,) * in_channels, std=(1.0,) * in_channels)


class _StridedBlock(nn.Module):
    """Halve the size, then refine; the norm sits inside the residual branch."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.shrink = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1)
        # A wide `eps`: an even tile must not have its noise blown up to unit variance.
        self.norm = nn.GroupNorm(8, channels, eps=1e-3)
        self.refine = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "n in_channels rows cols"]
    ) -> Float[Tensor, "n channels half_rows half_cols"]:
        x = self.shrink(x).relu()
        refined: Tensor = self.refine(self.norm(x)).relu()
        return x + refined


def compact_encoder(*, in_channels: int = 3, width: int = 24) -> Encoder:
    """Three strided residual blocks that train from nothing on a CPU, for tiles of 64 to 128 px.

    Group norm, not batch norm: the tiles of a batch come from few slides, and predictions must not
    depend on what else is in the batch. Mean and maximum over the tile are both kept, for texture
    and for the one odd nucleus.

    Args:
        in_channels: channels of a tile.
        width: channels of the first block, a multiple of 8; each further block has twice as many.
    """
    if width <= 0 or width % 8:
        raise ValueError(f"width must be a positive multiple of 8, got {width}.")
    widths = [width, 2 * width, 4 * width]
    blocks = [
        _StridedBlock(before, after)
        for before, after in zip([in_channels, *widths], widths, strict=False)
    ]
    trunk = nn.Sequential(*blocks, MeanAndMax())
    for layer in trunk.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    mean, std = typical_pixels(in_channels)
    return Encoder(trunk, features=2 * widths[-1], mean=mean, std=std)


def residual_attention_encoder(*, in_channels: int = 3, width: int = 16) -> Encoder:
    """The small Residual Attention Network, whose stages have masks, for tiles of 32 to 128 px.

    Args:
        in_channels: channels of a tile.
        width: as `small_attention` has it.
    """
    trunk = small_attention(in_channels=in_channels, width=width)
    mean, std = typical_pixels(in_channels)
    return Encoder(trunk, features=trunk.features, mean=mean, std=std)


def timm_encoder(
    name: str,
    *,
    in_channels: int = 3,
    pretrained: bool = False,
    state_dict: Mapping[str, Tensor] | None = None,
    **options: Any,
) -> Encoder:
    """Take the trunk of a timm model, with the mean and std that it was trained with.

    Args:
        name: as timm knows it, `resnet18`, or `hf-hub:owner/name`.
        in_channels: channels of a tile.
        pretrained: fetch timm's weights; needs the network or timm's cache.
        state_dict: weights of the same model at hand instead; those of its classifier are dropped.
        options: further ones of `timm.create_model`, say `dynamic_img_size=True` for a transformer.

    Raises:
        ValueError: if timm has no such model, both kinds of weights are asked for, or the
            weights are of another model.
    """
    import timm  # takes seconds; only those who ask for one of its models wait

    if pretrained and state_dict is not None:
        raise ValueError("pretrained=True and state_dict both name weights; choose one.")
    require_timm_model(name)
    trunk: Any = timm.create_model(
        name, pretrained=pretrained, num_classes=0, in_chans=in_channels, **options
    )
    if state_dict is not None:
        _load_trunk(trunk, state_dict, f"timm:{name}", dropped=_classifiers(trunk))
    # Some heads keep a layer before the classifier; features are then not as wide as the trunk.
    features = getattr(trunk, "head_hidden_size", None) or trunk.num_features
    mean, std = (_per_channel(trunk.pretrained_cfg[key], in_channels) for key in ("mean", "std"))
    return Encoder(trunk, features=features, mean=mean, std=std)


def require_timm_model(name: str) -> None:
    """Refuse names that are neither timm's nor of its hub, with some that are like them."""
    import timm

    if not name.startswith(("hf-hub:", "hf_hub:")) and not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ValueError(f"timm has no model {name!r}; close to it: {', '.join(close) or 'none'}.")


def _per_channel(values: Numbers, channels: int) -> Numbers:
    """Take three numbers for RGB as they are; their average for any other number of channels."""
    return tuple(values) if len(values) == channels else (sum(values) / len(values),) * channels


def _classifiers(trunk: Any) -> tuple[str, ...]:
    """Names of the layers of a timm model that come after its features."""
    classifier = trunk.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return tuple(f"{head}." for head in heads)


def _load_trunk(
    trunk: nn.Module,
    state_dict: Mapping[str, Tensor],
    name: str,
    dropped: tuple[str, ...] = (),
) -> None:
    """Give a trunk weights of its own kind; those that `dropped` begins are left out."""
    own: dict[str, Tensor] = trunk.state_dict()
    if any(key.startswith(_OF_A_MODEL) for key in state_dict):
        state_dict = {
            key.removeprefix(_OF_A_MODEL): value
            for key, value in state_dict.items()
            if key.startswith(_OF_A_MODEL)
        }
    missing = own.keys() - state_dict.keys()
    strange = {key for key in state_dict.keys() - own.keys() if not key.startswith(dropped)}
    unlike = {
        key for key in own.keys() & state_dict.keys() if own[key].shape != state_dict[key].shape
    }
    if wrong := missing | strange | unlike:
        raise ValueError(
            f"these weights are not of the encoder {name!r}: {len(missing)} are missing, "
            f"{len(strange)} are unknown to it and {len(unlike)} have another shape, "
            f"such as {min(wrong)!r}."
        )
    trunk.load_state_dict({key: state_dict[key] for key in own})


def build_encoder(
    name: str,
    *,
    in_channels: int = 3,
    pretrained: bool = False,
    state_dict: Mapping[str, Tensor] | None = None,
    **options: Any,
) -> Encoder:
    """Build an encoder by name: `paper`, `compact`, `residual_attention`, or `timm:resnet18`.

    Args:
        name: which.
        in_channels: channels of a tile.
        pretrained: fetch the weights of a timm model.
        state_dict: weights of the trunk at hand, or of a whole `AttentionSampling` with such an
            encoder; those of a timm model's classifier are dropped.
        options: `width` of all but the paper's; those of `timm.create_model`.

    Raises:
        ValueError: if there is no encoder of that name, or no weights for it.
    """
    if name.startswith("timm:"):
        return timm_encoder(
            name.removeprefix("timm:"),
            in_channels=in_channels,
            pretrained=pretrained,
            state_dict=state_dict,
            **options,
        )
    builders = {
        "paper": paper_encoder,
        "compact": compact_encoder,
        "residual_attention": residual_attention_encoder,
    }
    if name not in builders:
        raise ValueError(f"no encoder {name!r}; there are: {', '.join(builders)}, timm:NAME.")
    if pretrained:
        raise ValueError(
            f"there are no published weights of the encoder {name!r}; only of timm:NAME."
        )
    encoder = builders[name](in_channels=in_channels, **options)
    if state_dict is not None:
        _load_trunk(encoder.trunk, state_dict, name)
    return encoder
