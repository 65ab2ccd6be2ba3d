"""Networks that turn an image into a map of features, for what has to be found in places of it."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.encoders import require_timm_model
from saccade.models.pixels import Numbers, Standardise, Views

Norm = Literal["batch", "group"]


class Trunk(nn.Module):
    """Standardise images, then run a network over them that keeps rows and columns.

    Args:
        network: maps standardised images (images, channels, height, width) to features
            (images, features, rows, cols), or to a list of which these are all.
        channels: of the features.
        stride: pixels of the image that a cell of the features stands for.
        mean: of the channels of the image, for pixels in [0, 1].
        std: likewise.
        channels_last: the network gives (images, rows, cols, features) instead.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        channels: int,
        stride: int,
        mean: Numbers,
        std: Numbers,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.standardise = Standardise(mean, std)
        self.network = network
        self.channels = channels
        self.stride = stride
        self.channels_last = channels_last

    def forward(self, images: Views) -> Float[Tensor, "images features grid_rows grid_cols"]:
        """Return the features of images, RGB in [0, 1] or bytes."""
        features: Any = self.network(self.standardise(images))
        if not isinstance(features, Tensor):
            (features,) = features
        turned: Tensor = features.movedim(-1, 1) if self.channels_last else features
        return turned


def timm_trunk(
    name: str,
    *,
    stride: int = 16,
    pretrained: bool = False,
    norm: Norm = "batch",
    **options: Any,
) -> Trunk:
    """Take a timm model up to its last layer of a stride, with the mean and std of its training.

    Args:
        name: as timm knows it: `vgg16`, `resnet18`.
        stride: pixels that a cell stands for. Small objects want a small one.
        pretrained: fetch timm's weights; needs the network or timm's cache.
        norm: `group` puts group norms in place of batch norms, see `use_group_norms`.
        options: further ones of `timm.create_model`, say `dynamic_img_size=True` for a transformer.

    Raises:
        ValueError: if timm has no such model, or that has no features of such a stride.
    """
    import timm  # takes seconds; only those who ask for one of its models wait

    require_timm_model(name)
    with torch.device("meta"):  # only a built model knows its strides; this one weighs nothing
        unweighed: Any = timm.create_model(name, features_only=True, **options)
    info = unweighed.feature_info
    strides = info.reduction()
    if stride not in strides:
        raise ValueError(f"timm's {name!r} has features of the strides {strides}, not of {stride}.")
    level = max(
        index for index, each in zip(info.out_indices, strides, strict=True) if each == stride
    )
    network: Any = timm.create_model(
        name, pretrained=pretrained, features_only=True, out_indices=(level,), **options
    )
    if norm == "group":
        use_group_norms(network)
    return Trunk(
        network,
        channels=network.feature_info.channels()[0],
        stride=stride,
        mean=tuple(network.pretrained_cfg["mean"]),
        std=tuple(network.pretrained_cfg["std"]),
        channels_last=getattr(network, "output_fmt", "NCHW") == "NHWC",
    )


def use_group_norms(network: nn.Module, *, groups: int = 32) -> None:
    """Put a group norm in place of each batch norm; the network then learns from few tiles a batch.

    What a tile gives then hangs on nothing else in its batch. Weights and biases of the norms stay;
    the statistics that batch norms have gathered go, so weights of a network with batch norms have
    to learn on.

    Source: Wu and He, "Group Normalization", ECCV 2018, https://arxiv.org/abs/1803.08494.

    Args:
        network: changed in place.
        groups: of channels; where they do not divide the channels, the most that do.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, _group_norm(child, groups))


def _group_norm(norm: nn.BatchNorm2d, groups: int) -> nn.Module:
    channels = norm.num_features
    most = max(n for n in range(1, groups + 1) if channels % n == 0)
    group = nn.GroupNorm(most, channels, eps=norm.eps, affine=norm.affine)
    if norm.affine:
        group.weight, group.bias = norm.weight, norm.bias
    # Those of timm also drop and activate.
    further = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]
    return nn.Sequential(group, *further) if further else group
