"""Numbers beside small marks on a picture, kept from lying on top of each other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_APART = 0.24  # inches between the centres of two badges
_CLEAR = 0.16  # and between a badge and a mark
_EDGE = 0.12  # and between a badge and the edge of the panel
_REACHES = (0.28, 0.42, 0.6, 0.85, 1.2)
_ANGLES = np.deg2rad(np.arange(-45, 315, 30))  # the upper right first


def place_badges(
    marks: NDArray[np.floating[Any]], size: tuple[float, float]
) -> NDArray[np.float64]:
    """Give each mark a place for its number: near, inside the panel, clear of all others.

    The marks are served in order, each with the nearest place that is still free; where none is,
    with the first tried.

    Args:
        marks: (n, 2) x, y in inches from the panel's upper-left corner.
        size: (width, height) of the panel in inches; a narrow panel lets badges out at its sides.

    Returns:
        (n, 2) centres of the badges, in the same frame.
    """
    directions = np.stack([np.cos(_ANGLES), -np.sin(_ANGLES)], axis=1)
    rings = np.concatenate([reach * directions for reach in _REACHES])
    placed = np.empty((0, 2))
    for mark in marks:
        tried = mark + rings
        free = _inside(tried, size) & _away(tried, placed, _APART) & _away(tried, marks, _CLEAR)
        placed = np.vstack([placed, tried[np.argmax(free)]])
    return placed


def _inside(points: NDArray[np.float64], size: tuple[float, float]) -> NDArray[np.bool_]:
    low = np.array([_EDGE if size[0] > 2 else -_EDGE, _EDGE])
    fits: NDArray[np.bool_] = np.all((points >= low) & (points <= np.array(size) - low), axis=1)
    return fits


def _away(
    points: NDArray[np.float64], others: NDArray[np.floating[Any]], distance: float
) -> NDArray[np.bool_]:
    gaps = np.linalg.norm(points[:, None] - others[None], axis=2)
    clear: NDArray[np.bool_] = np.all(gaps >= distance, axis=1)
    return clear
