"""Region proposal network: at every place of a feature map, where an object may be.

A small convolution looks at each cell of the map and says of each of its anchors how likely it is
an object, and how to move and stretch it so that it is one. Proposals are the best of these boxes.

Source: Ren, He, Girshick and Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region
Proposal Networks", NeurIPS 2015, https://arxiv.org/abs/1506.01497, section 3.1, and the published
code, which divides both parts of the loss by the number of anchors drawn; the paper's equation 1
weighs them by a lambda instead. Box decoding differs in a pixel (`decode_boxes`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float, Int64
from torch import Tensor, nn

from saccade.models.anchors import RATIOS, SCALES, anchors, assign_anchors, sample, spread
from saccade.models.boxes import (
    Boxes,
    ManyBoxes,
    Size,
    clip,
    decode_boxes,
    encode_boxes,
    sizes_of,
    smooth_l1,
    suppress,
)

_DRAWN = 256  # anchors of an image that the loss looks at
_SHARE = 0.5  # of objects among them, at most
_SIGMA = 3.0
_OVERLAP = 0.7  # IoU above which a better proposal suppresses another


class Glimpses(NamedTuple):
    """What the network says of each anchor of each image, cell by cell, row by row."""

    scores: Float[Tensor, "images anchors 2"]
    """Logits of background and object."""
    codes: Float[Tensor, "images anchors 4"]
    """The object, if it is one, relative to the anchor; for `decode_boxes`."""
    places: Float[Tensor, "anchors 4"]
    """The anchors."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many proposals of an image go on.

    Attributes:
        before: the best that may suppress each other.
        after: the best of those left.
    """

    before: int
    after: int


TRAINING = Limits(before=12_000, after=2_000)
TEST = Limits(before=6_000, after=300)


class RegionProposalNetwork(nn.Module):
    """Scores and boxes of the anchors at each cell. 2,387,510 parameters by default.

    Args:
        channels: of the feature map.
        stride: pixels of the image from one cell to the next.
        ratios: of the anchors, heights over widths.
        scales: of the anchors, sides of a square one in strides; see `anchors`.
        min_side_px: proposals that are narrower or lower are dropped.
        hidden: channels of the convolution.
    """

    cell: Tensor

    def __init__(
        self,
        channels: int = 512,
        *,
        stride: int = 16,
        ratios: Sequence[float] = RATIOS,
        scales: Sequence[float] = SCALES,
        min_side_px: float = 16,
        hidden: int = 512,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.min_side_px = min_side_px
        self.register_buffer("cell", anchors(stride, ratios=ratios, scales=scales))
        k = len(self.cell)
        self.look = nn.Conv2d(channels, hidden, 3, padding=1)
        self.score = nn.Conv2d(hidden, 2 * k, 1)
        self.code = nn.Conv2d(hidden, 4 * k, 1)
        for layer in (self.look, self.score, self.code):
            begin(layer, std=0.01)

    def forward(self, features: Float[Tensor, "images channels rows cols"]) -> Glimpses:
        """Look at each cell of feature maps."""
        seen = self.look(features).relu()
        rows, cols = features.shape[2:]
        k = len(self.cell)
        # All anchors' logits of background come first, as in the published code.
        scores = self.score(seen).unflatten(1, (2, k)).permute(0, 3, 4, 2, 1).flatten(1, 3)
        codes = self.code(seen).unflatten(1, (k, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
        return Glimpses(scores, codes, spread(self.cell, rows, cols, self.stride))

    def losses(
        self,
        seen: Glimpses,
        truths: ManyBoxes,
        size_px: Size,
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Loss of the scores and of the boxes, means over the images.

        Of each image up to 256 anchors count, up to half of them objects (`assign_anchors`):
        log-loss of the scores, and smooth L1 (sigma 3) of the codes of objects, both divided by
        the number of anchors that count. An image with no anchor inside it has no loss.

        Args:
            seen: what `forward` said.
            truths: boxes of the objects of each image.
            size_px: (width, height) of the images.
            generator: source of randomness of the draw of anchors, on the CPU.
        """
        of_images = []
        for scores, codes, boxes in zip(seen.scores, seen.codes, truths, strict=True):
            labels, nearest = assign_anchors(seen.places, boxes, size_px)
            drawn = sample(labels, _DRAWN, share=_SHARE, generator=generator)
            places = seen.places[drawn[0]]
            wanted = encode_boxes(boxes[nearest[drawn[0]]], places)
            both = torch.cat(drawn)
            of_images.append(
                (
                    log_loss(scores[both], labels[both]),
                    smooth_l1(codes[drawn[0]], wanted, sigma=_SIGMA) / max(1, len(both)),
                )
            )
        of_scores, of_codes = (torch.stack(each).mean() for each in zip(*of_images, strict=True))
        return of_scores, of_codes

    @torch.no_grad()
    def propose(self, seen: Glimpses, size_px: Size, limits: Limits) -> list[Float[Tensor, "_ 4"]]:
        """Boxes of each image that may hold an object, the likeliest first, none across its border.

        No gradient goes through them: training end to end takes them as given, as published.
        """
        likely = seen.scores.softmax(dim=2)[:, :, 1]
        return [
            self._best(decode_boxes(codes, seen.places), scores, size_px, limits)
            for scores, codes in zip(likely, seen.codes, strict=True)
        ]

    def _best(self, boxes: Boxes, scores: Tensor, size_px: Size, limits: Limits) -> Tensor:
        boxes = clip(boxes, size_px)
        large = sizes_of(boxes).amin(dim=1) >= self.min_side_px
        boxes, scores = boxes[large], scores[large]
        scores, order = scores.topk(min(limits.before, len(scores)))
        boxes = boxes[order]
        return boxes[suppress(boxes, scores, _OVERLAP)[: limits.after]]


def begin(layer: nn.Conv2d | nn.Linear, *, std: float) -> None:
    """Start a layer as the published detectors do: Gaussian weights, biases at zero."""
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def log_loss(scores: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean softmax log-loss; 0, not NaN, of nothing."""
    return F.cross_entropy(scores, labels, reduction="sum") / max(1, len(labels))
