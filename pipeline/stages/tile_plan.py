"""Where the tiles of a view lie, and what each has to see: arithmetic, nothing is read here.

A tile has a core, which it answers for, and reads a margin around it. Cores lie side by side and
begin at multiples of the network's stride; margins are cut where the view ends, so that the network
pads there as it would pad the whole view, and nowhere else does its padding reach a core.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Shape = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Window:
    """Rows `top` up to, not including, `bottom` of a view, and columns `left` up to `right`.

    Raises:
        ValueError: if it is empty or begins before the view.
    """

    top: int
    left: int
    bottom: int
    right: int

    def __post_init__(self) -> None:
        if not (0 <= self.top < self.bottom and 0 <= self.left < self.right):
            raise ValueError(f"a window needs rows and columns from 0 on, got {self}.")

    @property
    def shape(self) -> Shape:
        """(rows, cols)."""
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an array with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def seen_from(self, outer: Window) -> Window:
        """The same rectangle, counted from the upper-left corner of another."""
        rows, cols = outer.top, outer.left
        return Window(self.top - rows, self.left - cols, self.bottom - rows, self.right - cols)

    def in_cells(self, cell_px: int) -> Window:
        """The cells of `cell_px` pixels a side that it touches, counted in cells."""
        down, right = -(-self.bottom // cell_px), -(-self.right // cell_px)
        return Window(self.top // cell_px, self.left // cell_px, down, right)


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of a plan.

    Attributes:
        number: row by row, from 0.
        core: what it answers for.
        read: what the network has to see for that.
    """

    number: int
    core: Window
    read: Window


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Tiles over a view.

    Attributes:
        shape: (rows, cols) of the view.
        tile_px: side of a core; the last ones end with the view.
        margin_px: what a tile sees around its core, as far as the view reaches.
        stride: of the network, pixels.

    Raises:
        ValueError: if a length is not positive, or tile or margin are not multiples of the stride:
            the network's grid would begin anew, elsewhere, in each tile.

    >>> plan = TilePlan(shape=(100, 50), tile_px=64, margin_px=16, stride=8)
    >>> [tile.read for tile in plan.tiles()]
    [Window(top=0, left=0, bottom=80, right=50), Window(top=48, left=0, bottom=100, right=50)]
    """

    shape: Shape
    tile_px: int
    margin_px: int
    stride: int

    def __post_init__(self) -> None:
        if min(*self.shape, self.tile_px, self.stride) < 1 or self.margin_px < 0:
            raise ValueError(f"lengths must be positive, got {self}.")
        if self.tile_px % self.stride or self.margin_px % self.stride:
            raise ValueError(
                f"tile_px={self.tile_px} and margin_px={self.margin_px} must be multiples of the "
                f"network's stride={self.stride}: what it computes depends on where its grid "
                "begins."
            )

    def __len__(self) -> int:
        rows, cols = self.grid
        return rows * cols

    @property
    def grid(self) -> Shape:
        """(rows, cols) of tiles."""
        return -(-self.shape[0] // self.tile_px), -(-self.shape[1] // self.tile_px)

    def tiles(self) -> Iterator[Tile]:
        """All tiles, row by row."""
        for number in range(len(self)):
            row, col = divmod(number, self.grid[1])
            core = self._cut(row * self.tile_px, col * self.tile_px, self.tile_px, 0)
            read = self._cut(row * self.tile_px, col * self.tile_px, self.tile_px, self.margin_px)
            yield Tile(number, core, read)

    def _cut(self, top: int, left: int, side: int, margin: int) -> Window:
        return Window(
            max(top - margin, 0),
            max(left - margin, 0),
            min(top + side + margin, self.shape[0]),
            min(left + side + margin, self.shape[1]),
        )


def in_batches(tiles: Iterable[Tile], size: int) -> list[tuple[Tile, ...]]:
    """Put tiles that see equally much together, at most `size` of them.

    The batches depend on the tiles alone, not on what of them is done already: a network may add
    in another order in a batch of another size, and a resumed run must give the same bytes.
    """
    ready: list[tuple[Tile, ...]] = []
    filling: dict[Shape, list[Tile]] = defaultdict(list)
    for tile in tiles:
        batch = filling[tile.read.shape]
        batch.append(tile)
        if len(batch) == size:
            ready.append(tuple(filling.pop(tile.read.shape)))
    return ready + [tuple(batch) for batch in filling.values()]
