"""The objects of a tile: their boxes, as much of them as the tile shows, turned as the tile is."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from torch import Tensor

from saccade.models.detector import Known
from saccade.pipeline.annotations.truth import IGNORED, SlideTruth


def known_in_tile(
    truth: SlideTruth,
    corner_l0: tuple[float, float],
    size_px: int,
    mpp: float,
    *,
    least_share: float,
) -> Known:
    """The objects of a tile.

    A box goes around those pixels of an object that the tile shows. An object counts if at least
    `least_share` of the area of the box around all of it lies in the tile; areas of the background,
    and those that do not count, are no objects. Classes count from 0, without the background.

    Args:
        truth: of the slide.
        corner_l0: upper-left corner (x, y) of the tile, in level-0 pixels.
        size_px: its side.
        mpp: micrometres per pixel of it.
        least_share: in [0, 1].
    """
    instances = truth.instances(*corner_l0, (size_px, size_px), mpp)
    numbers, boxes = boxes_of(instances)
    classes = truth.objects.classes[numbers - 1].astype(np.int64)
    side_l0 = size_px * np.array(truth.downsample(mpp))
    shown = share_within(truth.objects.boxes_l0[numbers - 1], corner_l0, side_l0)
    counts = (shown >= least_share) & (classes > 0) & (classes != IGNORED)
    return Known(torch.from_numpy(boxes[counts]), torch.from_numpy(classes[counts] - 1))


def boxes_of(
    instances: NDArray[np.integer],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Numbers of the objects of a map, (n,), and the edges (x1, y1, x2, y2) of their boxes, (n, 4).

    >>> boxes_of(np.array([[0, 3, 3], [0, 0, 3], [7, 0, 0]]))[1].tolist()
    [[1.0, 0.0, 3.0, 2.0], [0.0, 2.0, 1.0, 3.0]]
    """
    present, small = np.unique(instances, return_inverse=True)  # numbers may be in the millions
    found = find_objects(small.reshape(instances.shape) + 1)
    numbers, boxes = [], []
    for number, (rows, cols) in zip(present.tolist(), found, strict=True):
        if number > 0:
            numbers.append(number)
            boxes.append((cols.start, rows.start, cols.stop, rows.stop))
    return np.array(numbers, np.int64), np.array(boxes, np.float32).reshape(-1, 4)


def share_within(
    boxes: NDArray[np.float64], corner: tuple[float, float], side: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share of the area of each box (n, 4) that lies in the rectangle at `corner`, (n,)."""
    low, high = np.array(corner), np.array(corner) + side
    within = boxes[:, 2:].clip(low, high) - boxes[:, :2].clip(low, high)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    share: NDArray[np.float64] = within.prod(axis=1) / np.maximum(area, 1e-12)
    return share


def turn_boxes(boxes: Tensor, symmetry: int, side_px: int) -> Tensor:
    """Turn boxes (n, 4) of a square tile as `turn` turns the tile.

    >>> turn_boxes(torch.tensor([[0.0, 0.0, 2.0, 1.0]]), 1, 10)
    tensor([[ 0.,  8.,  1., 10.]])
    """
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    if symmetry >= 4:
        x1, x2 = side_px - x2, side_px - x1
    for _ in range(symmetry % 4):
        x1, y1, x2, y2 = y1, side_px - x2, y2, side_px - x1
    return torch.stack([x1, y1, x2, y2], dim=1)
