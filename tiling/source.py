"""What a file format has to offer, and what it is told in: levels, rectangles, facts of a slide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from saccade.tiling.counting import ReadCount
from saccade.tiling.remote import Stamp
from saccade.tiling.threads import in_parts

RGB = NDArray[np.uint8]
Rect = tuple[float, float, int, int]
"""(x, y, width, height) in pixels of a level."""
IntRect = tuple[int, int, int, int]
"""The same, whole pixels only."""


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of a slide; `downsample` is exact, and often not a whole number."""

    width: int
    height: int
    downsample: float

    def __post_init__(self) -> None:
        if min(self.width, self.height, self.downsample) <= 0:
            raise ValueError(f"sizes of a level must be positive, got {self}.")


@dataclass(frozen=True, slots=True)
class Cut:
    """A rectangle that is wanted of a level: its corner (x, y), and where its pixels go."""

    x: int
    y: int
    out: RGB


@dataclass(frozen=True, slots=True)
class SlideInfo:
    """The facts of a slide that its file records; None where the file says nothing.

    Attributes:
        levels: finest first; `levels[0].downsample` is 1.
        mpp: (x, y) micrometres per pixel of level 0.
        bounds_l0: (x, y, width, height) of the scanned area, where the format records one.
        background: RGB that the format declares for unscanned area; white where it declares none.
        reader: which reader opened it: openslide, tiff, ome-zarr, image or array.
    """

    levels: tuple[Level, ...]
    reader: str
    mpp: tuple[float, float] | None = None
    vendor: str | None = None
    objective_power: float | None = None
    bounds_l0: tuple[int, int, int, int] | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    icc_profile: bytes | None = None
    associated_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.levels or abs(self.levels[0].downsample - 1) > 1e-6:
            raise ValueError(f"levels must begin with the finest, got {self.levels}.")
        if self.mpp is not None and min(self.mpp) <= 0:
            raise ValueError(f"mpp must be positive or None, got {self.mpp}.")


class StoredTiles(Protocol):
    """The tiles that a level consists of, as they lie in the file."""

    @property
    def tile_px(self) -> tuple[int, int]:
        """(width, height) of each; those at the far edges overhang the level."""

    def has_jpeg(self) -> bool:
        """Whether they are JPEG streams of three 8-bit samples, decoded alike by everybody."""

    def jpegs(self, places: Sequence[tuple[int, int]]) -> list[bytes | None]:
        """Tiles (row, col) as JPEG streams of their own; None where there is none of that size."""


class Source(Protocol):
    """What a file format has to offer; everything else `Slide` does once for all formats."""

    info: SlideInfo

    def pitch_px(self, level: int) -> float:
        """Distance between the positions at which a read may begin, in pixels of the level.

        1 for whole pixels only. OpenSlide begins at any level-0 pixel, hence between the pixels
        of a level; reading where it can begin saves a second interpolation.
        """

    def begins_whole(self, level: int) -> bool:
        """Whether a read may begin at any whole pixel of the level, too."""
        return (1 / self.pitch_px(level)).is_integer()

    def shrinks(self, level: int) -> tuple[int, ...]:
        """By which whole numbers the level can be decoded smaller at once; 1 first."""
        return (1,)

    def tile_px(self, level: int) -> tuple[int, int]:
        """(width, height) of what is decoded at once; of the level where nothing has to be."""
        return self.info.levels[level].width, self.info.levels[level].height

    def read_level(self, level: int, x_px: float, y_px: float, size_px: tuple[int, int]) -> RGB:
        """Return (height, width, 3) of a level.

        `x_px` and `y_px` are multiples of the pitch, or whole where reads may begin whole. The
        rectangle lies inside the level; only one that begins between pixels may overhang, and
        shows the background there.
        """

    def read_shrunk(self, level: int, rect: IntRect, shrink: int) -> RGB:
        """Return (height, width, 3) of a level, decoded smaller by one of the `shrinks`.

        The rectangle (x, y, width, height) is in pixels of the smaller image, and inside it.
        """
        if shrink != 1:
            raise ValueError(f"level {level} cannot be decoded {shrink} times smaller.")
        x, y, *size = rect
        return self.read_level(level, x, y, (size[0], size[1]))

    def read_many(
        self, level: int, cuts: Sequence[Cut], *, shrink: int = 1, workers: int = 1
    ) -> None:
        """Fill rectangles that begin whole and lie inside a level, in up to `workers` threads."""

        def fill(part: Sequence[Cut]) -> None:
            for cut in part:
                height, width, _ = cut.out.shape
                cut.out[:] = self.read_shrunk(level, (cut.x, cut.y, width, height), shrink)

        in_parts(fill, cuts, workers)

    def in_order(self, level: int, rects: Sequence[Rect], *, shrink: int = 1) -> Iterator[int]:
        """Indices of rectangles in the order in which it costs least to read them, one by one.

        The next index is taken when the rectangle before it has been read: until then, what later
        ones share with it may be kept. Rectangles may overhang the level.
        """
        yield from sorted(range(len(rects)), key=lambda i: (rects[i][1], rects[i][0]))

    def stored_tiles(self, level: int) -> StoredTiles | None:
        """The tiles of a level, where its pixels are what decoding them gives."""
        return None

    def counts(self) -> ReadCount:
        """What was decoded since the file was opened; nothing where nothing needs decoding."""
        return ReadCount()

    def stamp(self) -> Stamp | None:
        """The version of a remote file; None for a local one."""
        return None

    def associated_images(self) -> Mapping[str, RGB]:
        """Label, macro and thumbnail images by name."""

    def close(self) -> None:
        """Release the file."""
