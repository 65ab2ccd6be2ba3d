"""Connected patches of a class map too large for memory, each as one polygon.

The map comes block by block, row by row. What lies within a block is outlined at once; what reaches
a block's edge is kept until the band below it is seen, and joined where cells of one class meet
across the seam. Two cells that meet at a corner alone do not hang together.

Memory: a block, the last cells of a band of blocks, and the outlines of patches that may go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from saccade.pipeline.stages.outlines import outlines
from saccade.pipeline.stages.tile_plan import Window

Labels = NDArray[np.uint8]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """Cells of one class that hang together by their edges.

    Attributes:
        label: the class.
        cells: how many there are; the area of `shape`.
        shape: polygon along the cells' edges, (column, row) of the map.
        first: (row, column) of one of the cells, the uppermost left of a part.
    """

    label: int
    cells: int
    shape: shapely.Polygon
    first: tuple[int, int]


def patches(blocks: Iterable[tuple[Window, Labels]]) -> Iterator[list[Patch]]:
    """Find the patches of a class map.

    Args:
        blocks: windows of the map, and their labels (rows, cols), 0 for none. They are of one size
            but where the map ends, come row by row, and begin at multiples of it; windows without
            any label may be left out.

    Yields:
        Patches, when they are complete: those within a block, then those that went on below a
        band of blocks. All blocks together give each patch once, whatever their size.
    """
    seams = _Seams()
    for window, labels in blocks:
        if window.top != seams.top:
            yield seams.go_down(window.top)
        yield seams.add(window, labels)
    yield seams.finish()


@dataclass(slots=True)
class _Edge:
    """Cells along one side of a block: the number of each's patch, 0 for none, and its class."""

    numbers: Numbers
    labels: Labels


@dataclass(slots=True)
class _Seams:
    """Patches that may go on, and the cells that they may go on from.

    Attributes:
        top: first row of the band that is being filled.
    """

    top: int = 0
    _bottom: int = 0  # of that band
    _count: int = 0
    _above: dict[int, _Edge] = field(default_factory=dict)  # by the column they begin at
    _below: dict[int, _Edge] = field(default_factory=dict)
    _right: tuple[int, _Edge] | None = None  # of the last block, and the column behind it
    _parts: dict[int, list[Patch]] = field(default_factory=dict)  # of each patch, by its number
    _joined: dict[int, int] = field(default_factory=dict)  # a part's number to a lower one's

    def add(self, window: Window, labels: Labels) -> list[Patch]:
        """Take a block; the patches that lie within it."""
        numbers, found = _within(window, labels)
        numbers[numbers > 0] += self._count
        sides = {
            side: _Edge(numbers[cells], labels[cells])
            for side, cells in (("top", 0), ("bottom", -1), ("left", np.s_[:, 0]),
                                ("right", np.s_[:, -1]))
        }  # fmt: skip
        open_ones = set(np.unique(np.concatenate([each.numbers for each in sides.values()])))
        inside = []
        for number, patch in enumerate(found, start=self._count + 1):
            if number in open_ones:
                self._parts[number], self._joined[number] = [patch], number
            else:
                inside.append(patch)
        self._count += len(found)
        if window.left in self._above:
            self._join(self._above[window.left], sides["top"])
        if self._right is not None and self._right[0] == window.left:
            self._join(self._right[1], sides["left"])
        self._below[window.left], self._right = sides["bottom"], (window.right, sides["right"])
        self._bottom = window.bottom
        return inside

    def go_down(self, top: int) -> list[Patch]:
        """Begin a band; the patches that cannot go on in it."""
        adjoins = top == self._bottom
        self._above = self._below if adjoins else {}
        self.top, self._below, self._right = top, {}, None
        edges = [each.numbers for each in self._above.values()]
        reached = set(np.unique(np.concatenate(edges)).tolist()) if edges else set()
        return self._completed({self._root(number) for number in reached if number})

    def finish(self) -> list[Patch]:
        """The patches that are left."""
        return self._completed(set())

    def _join(self, one: _Edge, other: _Edge) -> None:
        """Join what meets across a seam."""
        meets = (one.labels == other.labels) & (one.labels > 0)
        pairs = np.stack([one.numbers[meets], other.numbers[meets]], axis=1)
        for a, b in np.unique(pairs, axis=0).tolist():
            low, high = sorted((self._root(a), self._root(b)))
            if low != high:
                self._joined[high] = low
                self._parts[low] += self._parts.pop(high)

    def _root(self, number: int) -> int:
        while self._joined[number] != number:
            self._joined[number] = self._joined[self._joined[number]]
            number = self._joined[number]
        return number

    def _completed(self, going_on: set[int]) -> list[Patch]:
        """Take out the patches that do not go on, in the order of their numbers."""
        done = sorted(set(self._parts) - going_on)
        found = [_united(self._parts.pop(number)) for number in done]
        self._joined = {
            number: root
            for number in self._joined
            if (root := self._root(number)) in self._parts
        }  # fmt: skip
        return found


def _within(window: Window, labels: Labels) -> tuple[Numbers, list[Patch]]:
    """Number the patches of a block from 1, class by class; and what each is."""
    numbers, count, classes = np.zeros(labels.shape, np.int64), 0, []
    for label in np.unique(labels[labels > 0]).tolist():
        part, several = ndimage.label(labels == label)
        numbers += np.where(part > 0, part + count, 0)
        classes += [label] * several
        count += several
    _, shapes = outlines(numbers)
    corner = np.array([window.left, window.top])
    moved = shapely.transform(shapes, lambda xy: xy + corner)
    cells = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    flat = numbers.ravel()
    _, first = np.unique(flat, return_index=True)
    rows, cols = np.divmod(first[-count:] if count else first[:0], labels.shape[1])
    places = zip((rows + window.top).tolist(), (cols + window.left).tolist(), strict=True)
    return numbers, [
        Patch(*each) for each in zip(classes, cells.tolist(), moved, places, strict=True)
    ]


def _united(parts: list[Patch]) -> Patch:
    if len(parts) == 1:
        return parts[0]
    # The corners of blocks lie on straight edges now; without a tolerance nothing else goes.
    shape = shapely.simplify(shapely.union_all([each.shape for each in parts]), 0)
    return Patch(parts[0].label, sum(each.cells for each in parts), shape, parts[0].first)
