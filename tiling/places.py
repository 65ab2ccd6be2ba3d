"""Chosen places on a slide, and the one function that rounds them to pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Square tiles drawn from the cells of a grid, in the order of the draw.

    The arrays are copied and made read-only.

    Attributes:
        corners_l0: int64 (n, 2), upper-left corners (x, y) in level-0 pixels; tiles may overhang
            the slide, so negative ones are fine.
        side_px: edge length of a tile, in pixels at `mpp`.
        mpp: micrometres per pixel at which tiles are read.
        side_l0: (x, y) level-0 pixels that a tile spans.
        cells: int64 (n,), numbers of the cells the tiles were drawn from, row by row.
        probability: float64 (n,), attention of these cells.

    Raises:
        ValueError: if lengths differ, a length or mpp is not positive, a cell is negative, or a
            probability is outside [0, 1].
    """

    corners_l0: NDArray[np.int64]
    side_px: int
    mpp: float
    side_l0: tuple[float, float]
    cells: NDArray[np.int64]
    probability: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name, kind in (("corners_l0", np.int64), ("cells", np.int64)):
            if not np.issubdtype(np.asarray(getattr(self, name)).dtype, np.integer):
                raise ValueError(f"{name} must be whole numbers, got {getattr(self, name)}.")
            self._freeze(name, np.array(getattr(self, name), kind))
        self._freeze("probability", np.array(self.probability, np.float64))
        self._check()

    def _freeze(self, name: str, values: NDArray[np.generic]) -> None:
        values.setflags(write=False)
        object.__setattr__(self, name, values)

    def _check(self) -> None:
        n = len(self.corners_l0)
        shapes = self.corners_l0.shape, self.cells.shape, self.probability.shape
        if shapes != ((n, 2), (n,), (n,)):
            raise ValueError(
                "corners_l0, cells and probability need the shapes (n, 2), (n,) and (n,), "
                f"got {shapes[0]}, {shapes[1]} and {shapes[2]}."
            )
        lengths = (self.side_px, self.mpp, *self.side_l0)
        if not all(0 < length < math.inf for length in lengths):
            raise ValueError(f"side_px, mpp and side_l0 must be positive, got {lengths}.")
        if n and self.cells.min() < 0:
            raise ValueError(f"cells must not be negative, got {self.cells.min()}.")
        # Attention is a float32 softmax; its sums may exceed 1 by rounding.
        if not ((self.probability >= 0) & (self.probability <= 1 + 1e-5)).all():
            raise ValueError(f"probability must lie in [0, 1], got {self.probability}.")

    def __len__(self) -> int:
        return len(self.corners_l0)

    def take(self, numbers: NDArray[np.integer]) -> Places:
        """Some of the places, by their numbers."""
        return replace(
            self,
            corners_l0=self.corners_l0[numbers],
            cells=self.cells[numbers],
            probability=self.probability[numbers],
        )


def together(draws: Sequence[Places]) -> tuple[Places, list[NDArray[np.intp]]]:
    """Places of several draws from one grid, each once.

    Returns:
        The places in the order in which they came first, and for each draw the numbers that its
        places have among them.
    """
    joined = replace(
        draws[0],
        corners_l0=np.concatenate([each.corners_l0 for each in draws]),
        cells=np.concatenate([each.cells for each in draws]),
        probability=np.concatenate([each.probability for each in draws]),
    )
    _, first, which = np.unique(joined.cells, return_index=True, return_inverse=True)
    order = np.argsort(first)  # of the distinct cells, by when they came first
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    ends = np.cumsum([len(each) for each in draws])[:-1]
    return joined.take(first[order]), np.split(number[which], ends)


def corners_l0(centres_l0: NDArray[np.floating], side_l0: tuple[float, float]) -> NDArray[np.int64]:
    """Upper-left corners of tiles around their centres, rounded half to even.

    Args:
        centres_l0: (n, 2) centres (x, y) in level-0 pixels.
        side_l0: (x, y) level-0 pixels that a tile spans.

    Returns:
        (n, 2) corners (x, y) in level-0 pixels.
    """
    return _round(np.asarray(centres_l0, np.float64) - np.array(side_l0, np.float64) / 2)


def patch_starts(
    index: NDArray[np.integer],
    *,
    grid: tuple[int, int],
    low: tuple[int, int],
    high: tuple[int, int],
    patch: tuple[int, int],
    receptive_field: int = 0,
) -> NDArray[np.int64]:
    """Where patches start in a high-resolution image, for places of an attention map.

    A patch is centred on the middle of the part of the image that its place stands for. This is
    the arithmetic of attention sampling (Katharopoulos and Fleuret, "Processing Megapixel Images
    with Deep Attention-Sampling Models", ICML 2019) with the rounding of its authors' program:
    in float32, halves to even. Kept exact, so that published models see the patches they learnt
    from. For slides use `corners_l0`, which knows their true scales.

    Args:
        index: (n, 2) rows and columns of `grid`.
        grid: (rows, cols) of the attention map.
        low: (rows, cols) of the low-resolution view the map was made from.
        high: (rows, cols) of the high-resolution image.
        patch: (rows, cols) of a patch.
        receptive_field: pixels of the view that a network without padding loses on the way.

    Returns:
        (n, 2) first rows and columns; may be negative or overhang.
    """
    one = np.float32
    space, view, image, size = (np.array(n, one) for n in (grid, low, high, patch))
    scale = image / view
    step = (view - one(receptive_field)) * scale / space
    offset = one(receptive_field / 2) * scale
    return _round(offset + np.asarray(index).astype(one) * step + step / 2 - size / 2)


def _round(position: NDArray[np.floating]) -> NDArray[np.int64]:
    """Half to even, as NumPy and TensorFlow do: neither side wins over many tiles."""
    whole: NDArray[np.int64] = np.rint(position).astype(np.int64)
    return whole
