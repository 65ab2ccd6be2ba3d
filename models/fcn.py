"""FCN-32s, 16s and 8s: scores of the classes for each pixel, coarse ones made finer.

VGG16 with its classifier as convolutions scores the view on a grid of 32 pixels. Scores on grids of
16 and 8 pixels are added where a network has them, and fixed bilinear interpolation brings the sum
to the pixels of the view.

Source: Long, Shelhamer and Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR
2015, https://arxiv.org/abs/1411.4038, and the published networks, whose numbers are met: 100 pixels
of zeros around the view, pooling whose last cells may reach beyond the edge, and where maps are cut
so that they lie over each other. Channels are red, green and blue here, and there the reverse.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar, cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.pixels import Standardise, Views
from saccade.models.vgg16 import VGG16_WIDTHS, halve, vgg16_blocks

Scores = Float[Tensor, "images classes rows cols"]

PUBLISHED_MEANS = (122.67892, 116.66877, 104.00699)
"""What is taken off red, green and blue."""

_PADDING = 100  # zeros around the view, so that `fc6` finds its 7 x 7 cells in a view of any size


class FCN(nn.Module):
    """What the three networks share; build one of them.

    The first weights of the trunk may be those of a VGG16, by
    `saccade.models.saliency_weights.encoder_from_vgg16` and `strict=False`.

    Args:
        classes: number of classes.
        widths: channels of the five blocks of the trunk; those of VGG16 by default.
        hidden: channels of the layers that were VGG16's classifier.

    Attributes:
        stride: pixels by which a view may be moved without the grid lying elsewhere in it. Tiles
            of a view have to begin at multiples of it.
        margin: pixels that a tile has to be given beyond its own on each side to come out as it
            would in the whole view, a multiple of `stride`.

    Raises:
        ValueError: if a number of classes or channels is not positive, or there are not five
            blocks.
    """

    stride = 32
    margin = 224
    # Cells that are cut off the upper and the left edge of each finer map, beginning with the
    # fourth pooling's, and pixels that are cut off those of the enlarged scores.
    _finer_offsets: ClassVar[tuple[int, ...]]
    _offset: ClassVar[int]

    def __init__(
        self, *, classes: int = 21, widths: Sequence[int] = VGG16_WIDTHS, hidden: int = 4096
    ) -> None:
        super().__init__()
        if min(classes, hidden) < 1:
            raise ValueError(f"classes and hidden must be positive, got {classes} and {hidden}.")
        self.standardise = Standardise(PUBLISHED_MEANS, (1.0, 1.0, 1.0))
        self.encoder = vgg16_blocks(widths)
        cast("nn.Conv2d", self.encoder.get_submodule("0.0")).padding = (_PADDING, _PADDING)
        self.fc6 = nn.Conv2d(widths[-1], hidden, 7)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.dropout = nn.Dropout(0.5)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(cast("Tensor", layer.bias))
        self.score = zero_scores(hidden, classes)
        self.finer = nn.ModuleList(
            _Finer(width, classes, offset)
            for width, offset in zip(widths[3:0:-1], self._finer_offsets, strict=False)
        )
        self.enlarge = BilinearDeconvolution(self.stride >> len(self.finer))

    def forward(self, views: Views) -> Scores:
        """Scores for each pixel of views of any size, red, green and blue from 0 to 255."""
        poolings = self._poolings(views)
        x = self.dropout(self.fc6(poolings[4]).relu())
        x = self.dropout(self.fc7(x).relu())
        scores: Tensor = self.score(x)
        for finer, pooling in zip(self.finer, poolings[3:0:-1], strict=False):
            scores = finer(scores, pooling)
        return _cut(self.enlarge(scores), self._offset, like=views)

    def _poolings(self, views: Views) -> list[Tensor]:
        """What each block of the trunk sees, halved."""
        x = self.standardise(views.to(self.standardise.mean.dtype))
        poolings = []
        for block in self.encoder:
            for layer in cast("Iterable[nn.Module]", block):
                x = layer(x).relu()
            x = halve(x)
            poolings.append(x)
        return poolings


class FCN32s(FCN):
    """Scores on a grid of 32 pixels. 134,346,581 parameters for 21 classes."""

    _finer_offsets = ()
    _offset = 19


class FCN16s(FCN):
    """Scores on grids of 32 and 16 pixels. 134,357,354 parameters for 21 classes.

    Given the weights of a trained `FCN32s`, with `strict=False`, it begins where that one ended,
    but for interpolation in two steps.
    """

    _finer_offsets = (5,)
    _offset = 27


class FCN8s(FCN):
    """Scores on grids of 32, 16 and 8 pixels. 134,362,751 parameters for 21 classes.

    Given the weights of a trained `FCN16s`, it begins likewise.
    """

    _finer_offsets = (5, 9)
    _offset = 31


class BilinearDeconvolution(nn.Module):
    """Enlarge maps by bilinear interpolation, as a fixed deconvolution of each channel.

    Cells lie on a grid that begins half a cell before the first one and ends half a cell after the
    last; beyond it there are zeros.

    Args:
        factor: how much; even.
    """

    kernel: Tensor

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        taps = 1 - (torch.arange(2 * factor) + 0.5 - factor).abs() / factor
        self.register_buffer("kernel", taps[:, None] * taps, persistent=False)

    def forward(
        self, maps: Float[Tensor, "images channels rows cols"]
    ) -> Float[Tensor, "images channels large_rows large_cols"]:
        """Return maps of `factor * (sides + 1)`."""
        channels = maps.shape[1]
        kernel = self.kernel.expand(channels, 1, -1, -1)
        return F.conv_transpose2d(maps, kernel, stride=self.factor, groups=channels)


class _Finer(nn.Module):
    """Double the grid of scores, and add those of a map that has the finer grid already."""

    def __init__(self, channels: int, classes: int, offset: int) -> None:
        super().__init__()
        self.enlarge = BilinearDeconvolution(2)
        self.score = zero_scores(channels, classes)
        self.offset = offset

    def forward(
        self, scores: Scores, finer: Float[Tensor, "images channels fine_rows fine_cols"]
    ) -> Float[Tensor, "images classes double_rows double_cols"]:
        doubled: Tensor = self.enlarge(scores)
        return doubled + _cut(self.score(finer), self.offset, like=doubled)


def zero_scores(channels: int, classes: int) -> nn.Conv2d:
    """A linear layer at each place that scores all classes alike until it has learnt better."""
    score = nn.Conv2d(channels, classes, 1)
    nn.init.zeros_(score.weight)
    nn.init.zeros_(cast("Tensor", score.bias))
    return score


def _cut(maps: Tensor, offset: int, *, like: Tensor) -> Tensor:
    """Rows and columns from `offset` on, as many as another map has."""
    rows, cols = like.shape[2:]
    return maps[:, :, offset : offset + rows, offset : offset + cols]
