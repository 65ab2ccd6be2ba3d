"""Objects of a class map: its connected areas of one class, each split by itself.

An area is split whole, wherever the blocks that the map is gone through in have their seams. So no
object is cut or counted twice, and nothing depends on the blocks. Only areas that are longer than
`LONGEST_PX` are split piece by piece, each piece with a margin; an object then belongs to the piece
that holds its centre.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from saccade.pipeline.objects.batch import ObjectBatch
from saccade.pipeline.segment.areas import Places
from saccade.pipeline.segment.class_map import BLOCK_PX, ClassMap, Part
from saccade.pipeline.segment.shapes import Drawing
from saccade.pipeline.stages.outlines import outlines
from saccade.pipeline.stages.patches import Patch, patches
from saccade.pipeline.stages.tile_plan import TilePlan, Window

AREA = "area um2"
LONGEST_PX, PIECE_PX, MARGIN_PX = 2048, 1024, 128

Mask = NDArray[np.bool_]
Split = Callable[[NDArray[np.float32], Mask], NDArray[np.integer]]
"""Objects within a mask (rows, cols), numbered from 1, by the probabilities of the model's classes
(classes, rows, cols) there, which are 0 elsewhere. What becomes of an area depends on it alone.
"""


@dataclass(frozen=True, slots=True)
class Size:
    """What objects have to be, and where pieces end.

    Attributes:
        least_cells: objects of fewer cells are left out.
        block_px: side of the blocks that the map is gone through in.
        longest_px: of an area that is split whole.
    """

    least_cells: float
    block_px: int = BLOCK_PX
    longest_px: int = LONGEST_PX


class ObjectFinder:
    """Finds the objects of a class map, in memory that does not grow with the slide.

    Args:
        of: the class map, of a model with instances.
        split: what makes objects of an area.
        places: regions, to count objects by.
        drawing: how outlines are drawn.
        size: of objects, blocks and pieces.

    Attributes:
        counts: int64 (regions,), objects that were gone through so far, by their centres.
    """

    def __init__(
        self, of: ClassMap, split: Split, places: Places, drawing: Drawing, size: Size
    ) -> None:
        assert of.instances is not None
        self._of, self._label, self._split = of, of.instances, split
        self._places, self._drawing, self._size = places, drawing, size
        self.counts = np.zeros(len(places.names), np.int64)

    def batches(self) -> Iterator[ObjectBatch]:
        """Objects whose centres count, some at a time.

        Their class is 0, their score the mean probability of the class over their cells.
        """
        for found in self._found():
            if len(found):
                yield found

    def _found(self) -> Iterator[ObjectBatch]:
        """First those of areas within a block; after a band of blocks, of those across seams."""
        within: list[tuple[Part, Mask]] = []

        def seams() -> Iterator[tuple[Window, NDArray[np.uint8]]]:
            for window in self._of.windows(self._size.block_px):
                part = self._of.read(window)
                mask = part.of(self._label)
                at_edge = _touching_the_edge(mask)
                within.append((part, mask & ~at_edge))
                yield window, at_edge.astype(np.uint8)

        for complete in patches(seams()):
            while within:
                part, mask = within.pop()
                yield self._objects(part, mask, part.counts)
            for patch in complete:
                yield from self._across_seams(patch)

    def _across_seams(self, patch: Patch) -> Iterator[ObjectBatch]:
        """Objects of an area that lies in several blocks, or at the edge of one."""
        box = _window_of(patch.shape)
        if max(box.shape) <= self._size.longest_px:
            part = self._of.read(box)
            numbers, _ = ndimage.label(part.of(self._label))
            row, col = patch.first
            yield self._objects(
                part, numbers == numbers[row - box.top, col - box.left], part.counts
            )
            return
        for tile in TilePlan(self._of.field.grid.shape, PIECE_PX, MARGIN_PX, 1).tiles():
            if shapely.intersects(patch.shape, shapely.box(*_edges(tile.core))):
                part = self._of.read(tile.read)
                mask = part.of(self._label) & _cells_in(patch.shape, tile.read)
                core = np.zeros(mask.shape, bool)
                core[tile.core.seen_from(tile.read).slices] = True
                yield self._objects(part, mask, core & part.counts)

    def _objects(self, part: Part, mask: Mask, owned: Mask) -> ObjectBatch:
        """Objects within a mask whose centres lie in cells that are owned."""
        numbers = numbered(self._split, part, mask)
        _, shapes = outlines(numbers)
        index = np.arange(1, len(shapes) + 1)
        cells = np.bincount(numbers.ravel(), minlength=len(shapes) + 1)[1:]
        centres = np.array(ndimage.center_of_mass(mask, numbers, index)).reshape(-1, 2) + 0.5
        rows, cols = np.floor(centres).astype(int).T
        kept = np.flatnonzero((cells >= self._size.least_cells) & owned[rows, cols])
        corner = np.array([part.window.left, part.window.top])
        self.counts += self._places.counted(centres[kept, ::-1] + corner)
        moved = shapely.transform(shapes[kept], lambda xy: xy + corner)
        drawn = self._drawing.drawn(np.array([_largest(each) for each in moved], object))
        means = np.asarray(ndimage.mean(part.shown[self._label], numbers, index[kept]))
        area = cells[kept] * self._of.cell_mm2 * 1e6
        return ObjectBatch.of_polygons(
            list(drawn), np.zeros(len(kept), int), means.reshape(-1), {AREA: area}
        )


def numbered(split: Split, part: Part, mask: Mask) -> NDArray[np.int64]:
    """Objects within a mask of a part of the map, numbered from 1 without gaps."""
    if not mask.any():
        return np.zeros(mask.shape, np.int64)
    # With a frame of nothing, so that the edge of the window is an edge of the area.
    scores = np.pad(np.where(mask, part.scores, 0), ((0, 0), (1, 1), (1, 1)))
    found = split(scores, np.pad(mask, 1))[1:-1, 1:-1]
    known, numbers = np.unique(np.where(mask, found, 0), return_inverse=True)
    numbers = numbers.reshape(mask.shape)
    return numbers if known[0] == 0 else numbers + 1


def _touching_the_edge(mask: Mask) -> Mask:
    """The areas of a mask that reach its edge."""
    numbers, count = ndimage.label(mask)
    reached = np.zeros(count + 1, bool)
    for side in (numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]):
        reached[side] = True
    reached[0] = False
    at_edge: Mask = reached[numbers]
    return at_edge


def _largest(shape: shapely.Geometry) -> shapely.Polygon:
    parts = shapely.get_parts(shape)
    return parts[np.argmax(shapely.area(parts))]


def _window_of(shape: shapely.Geometry) -> Window:
    left, top, right, bottom = map(int, shape.bounds)
    return Window(top, left, bottom, right)


def _cells_in(shape: shapely.Geometry, window: Window) -> Mask:
    shapely.prepare(shape)
    cols = np.arange(window.left, window.right) + 0.5
    rows = np.arange(window.top, window.bottom) + 0.5
    inside: Mask = shapely.contains_xy(shape, *np.broadcast_arrays(cols, rows[:, None]))
    return inside


def _edges(window: Window) -> tuple[int, int, int, int]:
    return window.left, window.top, window.right, window.bottom
