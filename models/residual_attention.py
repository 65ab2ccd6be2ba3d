"""Residual Attention Network: an image classifier whose stages learn where to look within it.

A stage splits in two. The trunk `T` computes features; beside it a small hourglass halves the map,
looks at it, and brings it back to its size as a soft mask `M` of the same shape. The stage goes on
with `(1 + M) * T`: what the mask finds is made stronger, and nothing is lost where it finds none.

Source: Wang, Jiang, Qian, Yang, Li, Zhang, Wang and Tang, "Residual attention network for image
classification", CVPR 2017, https://arxiv.org/abs/1704.06904: residual attention learning is
equation 3, the three kinds of attention are equations 4 to 6. What the paper leaves open follows
the network definitions that its authors published: units that share their pre-activation with the
shortcut, pooling that reaches beyond the edge, upsampling whose corners are those of the map. The
small network for tiles is ours, and so is the group norm in it.

A mask depends on the whole map that the hourglass halved, and on its size. So a network sees tiles
of the size that it was trained at, never a larger region at once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float
from torch import Tensor, nn

Maps = Float[Tensor, "n channels rows cols"]
Norm = Callable[[int], nn.Module]
"""Makes the norm of so many channels."""

AttentionKind = Literal["mixed", "channel", "spatial"]
Learning = Literal["residual", "naive", "none"]
"""What a stage goes on with: (1 + M) * T, M * T, or T alone, without a mask branch."""

_FLAT = 1e-2  # deviation that a channel counts as having at least: rounding is no attention


def mixed_attention(x: Maps) -> Maps:
    """Attention of each channel at each position by itself, in (0, 1): equation 4."""
    return x.sigmoid()


def channel_attention(x: Maps) -> Maps:
    """Channels at each position, scaled to a vector of length one, in [-1, 1]: equation 5."""
    return F.normalize(x, dim=1, eps=1e-6)


def spatial_attention(x: Maps) -> Maps:
    """Positions of each channel, against their mean and deviation, in (0, 1): equation 6.

    A channel that is the same everywhere is at 1/2 everywhere.
    """
    std, mean = torch.std_mean(x, dim=(2, 3), correction=0, keepdim=True)
    return ((x - mean) / std.clamp_min(_FLAT)).sigmoid()


_ATTENTION: Mapping[AttentionKind, Callable[[Tensor], Tensor]] = {
    "mixed": mixed_attention,
    "channel": channel_attention,
    "spatial": spatial_attention,
}


def group_norm(channels: int) -> nn.GroupNorm:
    """Norm in groups of eight channels that looks at no other tile of a batch.

    The tiles of a batch come from few slides. A wide `eps`: an even tile must not have its noise
    blown up to unit variance.
    """
    return nn.GroupNorm(max(1, channels // 8) if channels % 8 == 0 else 1, channels, eps=1e-3)


class ResidualUnit(nn.Module):
    """Bottleneck of three convolutions, each after its norm and ReLU, beside a shortcut.

    The shortcut is the input itself; where channels or size change, a convolution of the input
    after its first norm and ReLU.

    Args:
        inputs: channels.
        outputs: channels, a multiple of 4.
        stride: of the middle convolution.
        norm: makes the norms.
    """

    def __init__(
        self, inputs: int, outputs: int, *, stride: int = 1, norm: Norm = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        if outputs % 4:
            raise ValueError(f"a unit needs a multiple of 4 channels, got {outputs}.")
        narrow = outputs // 4
        self.before = nn.Sequential(norm(inputs), nn.ReLU())
        self.residual = nn.Sequential(
            _convolution(inputs, narrow),
            norm(narrow),
            nn.ReLU(),
            _convolution(narrow, narrow, 3, stride),
            norm(narrow),
            nn.ReLU(),
            _convolution(narrow, outputs),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else _convolution(inputs, outputs, 1, stride)

    def forward(self, x: Maps) -> Float[Tensor, "n outputs out_rows out_cols"]:
        """Return the sum of both ways."""
        active = self.before(x)
        residual: Tensor = self.residual(active)
        return residual + (x if self.shortcut is None else self.shortcut(active))


class MaskBranch(nn.Module):
    """The hourglass beside a trunk: a mask of the shape of its input.

    The map is halved `depth` times, with `r` units after each time and twice as many at the
    bottom; on the way back each size meets what was there on the way down, after a unit of its own.

    Args:
        channels: of the map.
        depth: how often the map is halved. Each side has to be longer than one cell each time.
        r: units between two sizes.
        attention: what the mask's last step is.
        norm: makes the norms.
    """

    def __init__(
        self,
        channels: int,
        *,
        depth: int,
        r: int = 1,
        attention: AttentionKind = "mixed",
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"a mask branch halves its map at least once, got depth {depth}.")
        self.attention = _ATTENTION[attention]
        counts = [r] * (depth - 1) + [2 * r]
        self.down = nn.ModuleList(_units(channels, count, norm) for count in counts)
        self.skip = nn.ModuleList(_units(channels, 1, norm) for _ in range(depth - 1))
        self.up = nn.ModuleList(_units(channels, r, norm) for _ in range(depth - 1))
        self.head = nn.Sequential(
            *(norm(channels), nn.ReLU(), _convolution(channels, channels)),
            *(norm(channels), nn.ReLU(), _convolution(channels, channels)),
        )

    def forward(self, x: Maps) -> Maps:
        """Return the mask.

        Raises:
            ValueError: if the map is too small to be halved so often.
        """
        seen, h = [], x
        for units in self.down:
            if min(h.shape[2:]) < 2:
                raise ValueError(
                    f"a map of {x.shape[2]} x {x.shape[3]} cells is too small to be halved "
                    f"{len(self.down)} times; give the network larger tiles."
                )
            h = units(F.max_pool2d(h, 3, 2, ceil_mode=True))
            seen.append(h)
        rising = zip(self.skip, self.up, seen[:-1], strict=True)
        for skip, units, there in reversed(list(rising)):
            h = units(_resized(h, there.shape[2:]) + skip(there))
        return self.attention(self.head(_resized(h, x.shape[2:])))


class AttentionModule(nn.Module):
    """A stage of the network: trunk and mask side by side, put together as (1 + M) * T.

    Args:
        channels: of its input and output, a multiple of 4.
        depth: how often the mask branch halves the map.
        p: units before the two ways part, and after they meet.
        t: units of the trunk.
        r: units between two sizes of the mask branch.
        attention: kind of the mask.
        learning: `residual` for (1 + M) * T, `naive` for M * T, `none` for T without a mask branch.
        norm: makes the norms.
    """

    def __init__(
        self,
        channels: int,
        *,
        depth: int = 1,
        p: int = 1,
        t: int = 2,
        r: int = 1,
        attention: AttentionKind = "mixed",
        learning: Learning = "residual",
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.learning = learning
        self.before = _units(channels, p, norm)
        self.trunk = _units(channels, t, norm)
        self.mask = (
            None
            if learning == "none"
            else MaskBranch(channels, depth=depth, r=r, attention=attention, norm=norm)
        )
        self.after = _units(channels, p, norm)

    def forward(self, x: Maps) -> Maps:
        """Return a map of the shape of `x`."""
        x = self.before(x)
        trunk: Tensor = self.trunk(x)
        if self.mask is not None:
            mask: Tensor = self.mask(x)
            trunk = (1 + mask) * trunk if self.learning == "residual" else mask * trunk
        out: Tensor = self.after(trunk)
        return out


class ResidualAttentionNetwork(nn.Sequential):
    """Stages of attention modules, each after a unit that widens the map, then a mean and logits.

    The default is Attention-56; layers have the names of the authors' network definition.

    Args:
        stem: brings an image to a map.
        stem_width: channels of that map.
        widths: channels of the stages.
        modules: attention modules of each stage.
        depths: how often the mask branches of each stage halve their map.
        post_width: channels of three more units at the end; None for none.
        classes: logits; None for the features, the mean of each channel.
        norm: makes the norms.
        options: further ones of `AttentionModule`.
    """

    def __init__(
        self,
        *,
        stem: Mapping[str, nn.Module],
        stem_width: int,
        widths: Sequence[int],
        modules: Sequence[int],
        depths: Sequence[int],
        post_width: int | None,
        classes: int | None,
        norm: Norm = nn.BatchNorm2d,
        **options: Any,
    ) -> None:
        super().__init__()
        layers = dict(stem)
        stages = zip(pairwise((stem_width, *widths)), modules, depths, strict=True)
        for i, ((before, width), count, depth) in enumerate(stages, start=1):
            stride = 1 if i == 1 else 2
            layers[f"pre_res_{i}"] = ResidualUnit(before, width, stride=stride, norm=norm)
            for j in range(1, count + 1):
                module = AttentionModule(width, depth=depth, norm=norm, **options)
                layers[f"attention_{i}_{j}"] = module
        width = widths[-1]
        if post_width is not None:
            layers["post_res_4_1"] = ResidualUnit(width, post_width, stride=2, norm=norm)
            for j in (2, 3):
                layers[f"post_res_4_{j}"] = ResidualUnit(post_width, post_width, norm=norm)
            width = post_width
        layers["norm"] = nn.Sequential(norm(width), nn.ReLU())
        layers["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if classes is not None:
            layers["fc"] = nn.Linear(width, classes)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.features = width
        _start(self)


def attention56(classes: int = 1000) -> ResidualAttentionNetwork:
    """Attention-56, for images of 224 px: 31,810,728 parameters with 1000 classes."""
    return _published(classes, modules=(1, 1, 1))


def attention92(classes: int = 1000) -> ResidualAttentionNetwork:
    """Attention-92, for images of 224 px: 52,466,344 parameters with 1000 classes."""
    return _published(classes, modules=(1, 2, 3))


def small_attention(
    *,
    in_channels: int = 3,
    width: int = 16,
    classes: int | None = None,
    t: int = 2,
    attention: AttentionKind = "mixed",
    learning: Learning = "residual",
) -> ResidualAttentionNetwork:
    """Three stages for tiles of 32 to 128 px that train from nothing; 237,840 parameters.

    As the published ones, but for narrow stages, a first convolution of 3 x 3, group norm instead
    of batch norm, and no units after the stages. Masks have cells of 4, 8 and 16 px.

    Args:
        in_channels: channels of a tile.
        width: channels of the stem, a multiple of 16; the stages have 2, 4 and 8 times as many.
        classes: logits; None for the features.
        t: units of each trunk.
        attention: kind of the masks.
        learning: how masks and trunks are put together.
    """
    conv1 = nn.Sequential(_convolution(in_channels, width, 3, 2), group_norm(width), nn.ReLU())
    return ResidualAttentionNetwork(
        stem={"conv1": conv1, "pool1": nn.MaxPool2d(3, 2, ceil_mode=True)},
        stem_width=width,
        widths=(2 * width, 4 * width, 8 * width),
        modules=(1, 1, 1),
        depths=(3, 2, 1),
        post_width=None,
        classes=classes,
        norm=group_norm,
        t=t,
        attention=attention,
        learning=learning,
    )


def start_at_identity(module: AttentionModule) -> AttentionModule:
    """Let a module begin with (1 + M) * x, all its units passing on what they get.

    For a module behind an encoder that has learned already, whose features it then scales only.
    """
    for unit in module.modules():
        if isinstance(unit, ResidualUnit):
            last = unit.residual[-1]
            nn.init.zeros_(cast("nn.Conv2d", last).weight)
    return module


@contextmanager
def watched_masks(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the masks of each forward pass of a network that has attention modules.

    Yields:
        A list to which each pass adds its masks, (n, channels, rows, cols) each, in the order in
        which they were made; where nothing is in the way, from the finest to the coarsest.

    >>> network = small_attention()
    >>> with watched_masks(network) as masks:
    ...     features = network(torch.zeros(1, 3, 64, 64))
    >>> [tuple(mask.shape[1:]) for mask in masks]
    [(32, 16, 16), (64, 8, 8), (128, 4, 4)]
    """
    masks: list[Tensor] = []
    handles = [
        branch.register_forward_hook(lambda _, __, mask: masks.append(mask))
        for branch in mask_branches(network)
    ]
    try:
        yield masks
    finally:
        for handle in handles:
            handle.remove()


def mask_branches(network: nn.Module) -> list[MaskBranch]:
    """The parts of a network that make masks."""
    return [each for each in network.modules() if isinstance(each, MaskBranch)]


def _published(classes: int, modules: Sequence[int]) -> ResidualAttentionNetwork:
    conv1 = nn.Sequential(_convolution(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU())
    return ResidualAttentionNetwork(
        stem={"conv1": conv1, "pool1": nn.MaxPool2d(3, 2, ceil_mode=True)},
        stem_width=64,
        widths=(256, 512, 1024),
        modules=modules,
        depths=(3, 2, 1),
        post_width=2048,
        classes=classes,
    )


def _units(channels: int, count: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(*(ResidualUnit(channels, channels, norm=norm) for _ in range(count)))


def _convolution(inputs: int, outputs: int, side: int = 1, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False)


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Linear interpolation that puts the corners of a map onto those of the new size."""
    return F.interpolate(x, size=list(size), mode="bilinear", align_corners=True)


def _start(network: nn.Module) -> None:
    """He's initialisation, and a classifier that begins near zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
