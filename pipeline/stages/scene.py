"""What a stage looks at: pixels at one scale, read in any window, and where they lie on a slide."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future
from itertools import product
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.stages.tile_plan import Window
from saccade.tiling import Slide
from saccade.tiling.errors import SlideError
from saccade.tiling.grid import CellGrid

Pixels = NDArray[Any]

_BLOCK_PX = 512
_BLOCKS_KEPT = 64  # 50 MB


class Scene(Protocol):
    """Pixels of a slide, or part of one, at one scale."""

    @property
    def grid(self) -> CellGrid:
        """Its pixels on level 0."""

    @property
    def slide_mpp(self) -> tuple[float, float]:
        """(x, y) micrometres per level-0 pixel."""

    @property
    def content(self) -> str:
        """What is seen, by hash: a stage that was cut off goes on only with the same."""

    def read(self, window: Window) -> Pixels:
        """(rows, cols, channels) of a window; the same pixels in whatever window they are asked."""


class ArrayScene:
    """Pixels in memory or in a zarr.

    Args:
        pixels: (rows, cols, channels), an array of NumPy's or an open zarr.
        content: hash of what is seen.
        grid: the pixels on level 0; pixels of level 0 itself if None.
        slide_mpp: (x, y) micrometres per level-0 pixel.

    Raises:
        ValueError: if the grid has another shape.
    """

    def __init__(
        self,
        pixels: Any,
        *,
        content: str,
        slide_mpp: tuple[float, float],
        grid: CellGrid | None = None,
    ) -> None:
        self.grid = CellGrid(tuple(pixels.shape[:2]), (1.0, 1.0)) if grid is None else grid
        if len(pixels.shape) != 3 or tuple(pixels.shape[:2]) != self.grid.shape:
            raise ValueError(
                f"pixels (rows, cols, channels) over {self.grid} are wanted, got {pixels.shape}."
            )
        self.slide_mpp, self.content, self._pixels = slide_mpp, content, pixels

    def read(self, window: Window) -> Pixels:
        """(rows, cols, channels) of a window."""
        return np.asarray(self._pixels[window.slices])


class SlideScene:
    """A region of a slide at some scale, read from its file.

    It is read in blocks that lie fast, and the last of them are kept: a pixel is then the same in
    every window, and the margins of tiles cost little. Beyond the slide is its background.

    Args:
        slide: open, with known mpp.
        mpp: micrometres per pixel.
        corner_l0: (x, y) of the region, level-0 pixels.
        size_l0: (width, height) of the region; as far as the slide goes if None.
    """

    def __init__(
        self,
        slide: Slide,
        mpp: float,
        *,
        corner_l0: tuple[int, int] = (0, 0),
        size_l0: tuple[int, int] | None = None,
    ) -> None:
        rest = slide.size_l0[0] - corner_l0[0], slide.size_l0[1] - corner_l0[1]
        cells = CellGrid.covering(size_l0 or rest, slide.downsample_for(mpp))
        self.grid = CellGrid(cells.shape, cells.cell_l0, (corner_l0[0], corner_l0[1]))
        self.slide_mpp = slide.mpp
        self.blocks_read = 0
        self._slide, self._mpp = slide, mpp
        self._kept: OrderedDict[tuple[int, int], Future[Pixels]] = OrderedDict()
        self._lock = Lock()

    @property
    def content(self) -> str:
        """Hash of the slide; found when it is asked for, as it takes a pass over the file."""
        return self._slide.content_hash

    def read(self, window: Window) -> Pixels:
        """(rows, cols, 3) of a window."""
        pixels = np.empty((*window.shape, 3), np.uint8)
        blocks = window.in_cells(_BLOCK_PX)
        for row, col in product(range(blocks.top, blocks.bottom), range(blocks.left, blocks.right)):
            top, left = row * _BLOCK_PX, col * _BLOCK_PX
            block = self._block(row, col)
            shared = Window(
                max(top, window.top),
                max(left, window.left),
                min(top + block.shape[0], window.bottom),
                min(left + block.shape[1], window.right),
            )
            within = Window(top, left, top + block.shape[0], left + block.shape[1])
            pixels[shared.seen_from(window).slices] = block[shared.seen_from(within).slices]
        return pixels

    def _block(self, row: int, col: int) -> Pixels:
        """A block, decoded by the thread that asks first; others wait for it."""
        with self._lock:
            block = self._kept.get((row, col))
            first = block is None
            if block is None:
                block = self._kept[row, col] = Future()
            self._kept.move_to_end((row, col))
            if len(self._kept) > _BLOCKS_KEPT:
                self._kept.popitem(last=False)
        if first:
            self.blocks_read += 1
            try:
                block.set_result(self._decoded(row, col))
            except SlideError as error:
                block.set_exception(error)
        return block.result()

    def _decoded(self, row: int, col: int) -> Pixels:
        top, left = row * _BLOCK_PX, col * _BLOCK_PX
        size = min(_BLOCK_PX, self.grid.shape[1] - left), min(_BLOCK_PX, self.grid.shape[0] - top)
        x_l0, y_l0 = self.grid.affine_l0 @ (left, top, 1)
        return self._slide.read(x_l0, y_l0, size, self._mpp)
