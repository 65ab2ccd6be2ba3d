"""Anchors: boxes of a few sizes and shapes at every place, and which of them are to be objects.

Source: Ren, He, Girshick and Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region
Proposal Networks", NeurIPS 2015, https://arxiv.org/abs/1506.01497, sections 3.1.1 and 3.1.2, and
the published code.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from saccade.models.boxes import Boxes, Size, iou

RATIOS = (0.5, 1.0, 2.0)
SCALES = (8.0, 16.0, 32.0)

OBJECT, BACKGROUND, IGNORED = 1, 0, -1


class Assignment(NamedTuple):
    """What each box is to be taken for."""

    labels: Int64[Tensor, " n"]
    """OBJECT, BACKGROUND or IGNORED."""
    nearest: Int64[Tensor, " n"]
    """Number of the truth that it overlaps most; 0 where there is none."""


def anchors(
    stride: int = 16, *, ratios: Sequence[float] = RATIOS, scales: Sequence[float] = SCALES
) -> Float[Tensor, "k 4"]:
    """Anchors of the first cell of a feature map: all scales of the first ratio, then of the next.

    Each is as a square of `stride` pixels made as many times as high as wide as its ratio says,
    sides rounded, then scaled; and has its centre on that of the cell's pixels.

    Args:
        stride: pixels of the image a cell stands for.
        ratios: heights over widths.
        scales: sides of a square anchor in strides: 128, 256 and 512 px by default. Nuclei of 10
            to 40 px want, say, a stride of 8 and the scales 1.5, 3 and 5.

    Raises:
        ValueError: if there is no ratio or scale, or any number is not positive.

    >>> anchors(ratios=[1.0], scales=[8.0])
    tensor([[-56., -56.,  71.,  71.]])
    """
    if not ratios or not scales or min(stride, *ratios, *scales) <= 0:
        raise ValueError(
            "anchors need a positive stride, and ratios and scales above 0, "
            f"got {stride}, {tuple(ratios)} and {tuple(scales)}."
        )
    centre = (stride - 1) / 2
    table = []
    for ratio in ratios:
        width = round((stride**2 / ratio) ** 0.5)
        height = round(width * ratio)
        for scale in scales:
            half_x, half_y = (width * scale - 1) / 2, (height * scale - 1) / 2
            table.append((centre - half_x, centre - half_y, centre + half_x, centre + half_y))
    return torch.tensor(table)


def spread(cell: Float[Tensor, "k 4"], rows: int, cols: int, stride: int) -> Boxes:
    """Anchors of all cells of a feature map, row by row, those of a cell one after the other.

    Args:
        cell: anchors of the first cell.
        rows: of the feature map.
        cols: likewise.
        stride: pixels of the image from one cell to the next.
    """
    y, x = torch.meshgrid(
        torch.arange(rows, device=cell.device) * stride,
        torch.arange(cols, device=cell.device) * stride,
        indexing="ij",
    )
    corners = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
    return (corners + cell).flatten(0, 1)


def assign_anchors(
    places: Boxes,
    truths: Float[Tensor, "m 4"],
    size_px: Size,
    *,
    objects_from: float = 0.7,
    background_below: float = 0.3,
) -> Assignment:
    """Say which anchors are to be objects, which background, and which neither.

    An anchor is an object if it overlaps a truth by `objects_from` (IoU), or if none overlaps that
    truth more, ties included; background if it overlaps each truth by less than
    `background_below`. Others are ignored, and so are those that cross the border of the image. A
    truth that no anchor within the image touches has none; the published code makes them all its
    own then.

    Args:
        places: anchors.
        truths: boxes of the objects that are there, if any.
        size_px: (width, height) of the image.
        objects_from: least IoU with a truth of what is surely an object.
        background_below: IoU that background does not reach.
    """
    width, height = size_px
    last = places.new_tensor((width - 1, height - 1))
    inside = ((places[:, :2] >= 0) & (places[:, 2:] <= last)).all(dim=1)
    best, nearest, overlap = _overlap_most(places, truths)
    overlap = overlap.masked_fill(~inside[:, None], 0)
    labels = torch.full_like(nearest, IGNORED)
    labels[best < background_below] = BACKGROUND
    labels[best >= objects_from] = OBJECT
    if len(truths):
        most = overlap.amax(dim=0)
        labels[((overlap == most) & (most > 0)).any(dim=1)] = OBJECT
    labels[~inside] = IGNORED
    return Assignment(labels, nearest)


def assign_proposals(
    proposals: Boxes,
    truths: Float[Tensor, "m 4"],
    *,
    objects_from: float = 0.5,
    background_from: float = 0.1,
) -> Assignment:
    """Say which proposals are to be objects (IoU >= `objects_from`), and which background.

    Background overlaps a truth at least by `background_from`: what is hard to tell from an object,
    rather than what is easy. Others are ignored; but where nothing is there, all is background.
    """
    best, nearest, _ = _overlap_most(proposals, truths)
    labels = torch.full_like(nearest, IGNORED)
    labels[(best >= background_from) | (len(truths) == 0)] = BACKGROUND
    labels[best >= objects_from] = OBJECT
    return Assignment(labels, nearest)


def sample(
    labels: Int64[Tensor, " n"],
    most: int,
    *,
    share: float,
    generator: torch.Generator | None = None,
) -> tuple[Int64[Tensor, " objects"], Int64[Tensor, " background"]]:
    """Draw what a loss is to look at: up to `most` boxes, objects being no more than a share.

    Background fills up what objects leave free.

    Args:
        labels: of `assign_anchors` or `assign_proposals`.
        most: boxes to draw.
        share: of objects among them, at most.
        generator: source of randomness, on the CPU whatever the device of `labels`, so that the
            draw is the same on each; None for torch's own.

    Returns:
        Numbers of the objects, and of the background.
    """
    objects = _some(labels == OBJECT, int(most * share), generator)
    return objects, _some(labels == BACKGROUND, most - len(objects), generator)


def _some(wanted: Tensor, most: int, generator: torch.Generator | None) -> Tensor:
    numbers = wanted.nonzero().squeeze(1)
    drawn = torch.randperm(len(numbers), generator=generator)[:most]
    return numbers[drawn.to(numbers.device)]


def _overlap_most(boxes: Tensor, truths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """IoU of each box with its nearest truth, the number of that, and the IoU with all."""
    overlap = iou(boxes, truths)
    if not len(truths):
        nothing = overlap.new_zeros(len(boxes))
        return nothing, nothing.long(), overlap
    best, nearest = overlap.max(dim=1)
    return best, nearest, overlap
