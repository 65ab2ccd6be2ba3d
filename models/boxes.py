"""Boxes of whole pixels: their overlap, their code relative to others, and what suppresses what.

A box is (x1, y1, x2, y2), its first and its last pixels; so it is x2 - x1 + 1 pixels wide, and a
single pixel is a box. That is the convention of the published Fast and Faster R-CNN. Everything
else that counts in edges, torchvision's operators among it, takes `edges_of` boxes; without that
they would see each box one pixel too narrow and too low, which is a tenth of a small nucleus, and
would suppress a little less.

Source: Girshick, "Fast R-CNN", ICCV 2015, https://arxiv.org/abs/1504.08083, and Ren, He, Girshick
and Sun, "Faster R-CNN", NeurIPS 2015, https://arxiv.org/abs/1506.01497, equation 2.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float, Int64
from torch import Tensor
from torchvision.ops import box_iou, nms

Boxes = Float[Tensor, "n 4"]
Codes = Float[Tensor, "n 4"]
ManyBoxes = Sequence[Float[Tensor, "_ 4"]]
"""Boxes of each image."""
Size = tuple[int, int]
"""(width, height) in pixels."""

MOST_GROWTH = math.log(1000 / 16)
"""Decoded boxes are at most exp(this) = 62.5 times as wide and as high as what they start from."""


def edges_of(boxes: Boxes) -> Boxes:
    """Where boxes begin and end: one further than their last pixels.

    >>> edges_of(torch.tensor([[0.0, 0.0, 9.0, 4.0]]))
    tensor([[ 0.,  0., 10.,  5.]])
    """
    return boxes + boxes.new_tensor((0, 0, 1, 1))


def pixels_of(edges: Boxes) -> Boxes:
    """First and last pixels of boxes that are given by their edges; undoes `edges_of`."""
    return edges - edges.new_tensor((0, 0, 1, 1))


def sizes_of(boxes: Boxes) -> Float[Tensor, "n 2"]:
    """Width and height of boxes."""
    return boxes[:, 2:] - boxes[:, :2] + 1


def iou(boxes: Boxes, others: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """Intersection over union of each box with each of the others, in pixels.

    >>> iou(torch.tensor([[0.0, 0.0, 9.0, 9.0]]), torch.tensor([[0.0, 0.0, 9.0, 4.0]]))
    tensor([[0.5000]])
    """
    overlap: Tensor = box_iou(edges_of(boxes), edges_of(others))
    return overlap


def encode_boxes(boxes: Boxes, starts: Boxes) -> Codes:
    """Say boxes relative to others: shifts in widths and heights, and logarithms of growth.

    Args:
        boxes: what to say.
        starts: what to say it relative to, row by row: anchors, or proposals.

    Returns:
        (dx, dy, dw, dh) of each box. `decode_boxes` gives the boxes back.
    """
    size, start = sizes_of(boxes), sizes_of(starts)
    shift = (boxes[:, :2] + size / 2 - starts[:, :2] - start / 2) / start
    return torch.cat([shift, (size / start).log()], dim=1)


def decode_boxes(codes: Codes, starts: Boxes) -> Boxes:
    """Give back the boxes that codes say.

    The inverse of `encode_boxes`, but that no box grows by more than exp(`MOST_GROWTH`), lest an
    untrained network overflow; torchvision does that, too. The published code leaves the last
    pixels one too far here, so that boxes grow by a pixel on the way; this does not.
    """
    start = sizes_of(starts)
    centre = starts[:, :2] + start / 2 + codes[:, :2] * start
    size = codes[:, 2:].clamp(max=MOST_GROWTH).exp() * start
    return torch.cat([centre - size / 2, centre + size / 2 - 1], dim=1)


def clip(boxes: Boxes, size_px: Size) -> Boxes:
    """Move the pixels of boxes that lie outside an image to its nearest ones."""
    last = boxes.new_tensor((size_px[0] - 1, size_px[1] - 1)).repeat(2)
    return boxes.clamp(min=0).minimum(last)


def suppress(boxes: Boxes, scores: Float[Tensor, " n"], overlap: float) -> Int64[Tensor, " kept"]:
    """Numbers of the boxes that stay, best first: a better one suppresses those it covers.

    Args:
        boxes: of one class.
        scores: the higher the better; of equal ones the first is the better.
        overlap: with an IoU above it a box is suppressed; one just as large leaves it there.
    """
    exact = float(boxes.new_tensor(overlap))  # 3/10 in float32 is more than 0.3 in float64
    kept: Tensor = nms(edges_of(boxes), scores, exact)
    return kept


def smooth_l1(found: Codes, wanted: Codes, *, sigma: float) -> Float[Tensor, ""]:
    """Sum over all numbers of 0.5 (sigma x)^2 up to |x| = 1 / sigma^2, |x| - 0.5 / sigma^2 beyond.

    The loss of codes, of the difference x; equation 3 of Fast R-CNN has sigma = 1.
    """
    return F.smooth_l1_loss(found, wanted, beta=1 / sigma**2, reduction="sum")
