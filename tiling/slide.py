"""A slide: where its pixels are, how large they are, and reading any of them at any scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from saccade.tiling.counting import ReadCount
from saccade.tiling.errors import MissingMppError
from saccade.tiling.hashing import array_hash, file_hash
from saccade.tiling.lattice import Lattice, Snap
from saccade.tiling.rasters import FINE_ENOUGH, Raster, choose_rasters, finest_first
from saccade.tiling.remote import Place, Stamp, Url, stamp_hash
from saccade.tiling.resample import Box, block_means, resample
from saccade.tiling.threads import in_parts

RGB = NDArray[np.uint8]
Rect = tuple[float, float, int, int]
"""(x, y, width, height) in pixels of a level."""
IntRect = tuple[int, int, int, int]
"""The same, whole pixels only."""

_MOST_PIXELS = 2**23  # read at once: 100 MB on the way through, and block edges cost little

_WHOLE = 1e-6  # pixels: so little is what is left of dividing and multiplying by a downsample


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


class Slide:
    """An open slide. Made by `open_slide`; travels to another process as its path or URL.

    Frames: `_l0` is level-0 pixels, origin at the top left of the file as OpenSlide sees it.

    Args:
        source: the format's reader.
        origin: what `open_slide` was given, so that a worker can open the same slide again.
        mpp: micrometres per pixel of level 0 that the caller knows better than the file.
        channels: what `open_slide` was given, for the same reason as `origin`.

    Raises:
        ValueError: if `mpp` is not positive and finite.
    """

    def __init__(
        self,
        source: Source,
        origin: Place | RGB,
        mpp: float | None = None,
        channels: tuple[int, ...] | None = None,
    ) -> None:
        if mpp is not None and not 0 < mpp < math.inf:
            raise ValueError(f"mpp must be a positive number of micrometres, got {mpp}.")
        self._source = source
        self._origin = origin
        self._given_mpp = mpp
        self._channels = channels
        self._is_open = True
        self.info = source.info

    def __reduce__(self) -> tuple[object, ...]:
        from saccade.tiling.open import reopen  # the opener knows every reader; this module none

        return reopen, (self._origin, self._given_mpp, self._channels)

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; reading is over then."""
        if self._is_open:
            self._is_open = False
            self._source.close()

    @property
    def name(self) -> str:
        """File name, for messages."""
        return self._origin.name if isinstance(self._origin, Place) else "array"

    @property
    def path(self) -> Place | None:
        """Where the slide lies; None for an array in memory."""
        return self._origin if isinstance(self._origin, Place) else None

    @property
    def size_l0(self) -> tuple[int, int]:
        """(width, height) of level 0."""
        return self.levels[0].width, self.levels[0].height

    @property
    def levels(self) -> tuple[Level, ...]:
        """Resolutions, finest first."""
        return self.info.levels

    @property
    def recorded_mpp(self) -> tuple[float, float] | None:
        """(x, y) micrometres per pixel of level 0, given or recorded; None if neither."""
        if self._given_mpp is not None:
            return self._given_mpp, self._given_mpp
        return self.info.mpp

    @property
    def mpp(self) -> tuple[float, float]:
        """(x, y) micrometres per pixel of level 0.

        Raises:
            MissingMppError: if neither the file nor the caller said.
        """
        if self.recorded_mpp is None:
            raise MissingMppError(self.name)
        return self.recorded_mpp

    @cached_property
    def content_hash(self) -> str:
        """`sha256:...` of the file's bytes (of the array's, for an array).

        Of a remote slide `etag:...` or `modified:...`: see `stamp_hash`.

        Raises:
            UnreadableSlideError: if a server does not tell versions of the slide apart.
        """
        stamp = self._source.stamp()
        if isinstance(self._origin, Url) and stamp is not None:
            return stamp_hash(self._origin, stamp)
        if isinstance(self._origin, Path):
            return file_hash(self._origin)
        assert isinstance(self._origin, np.ndarray)
        return array_hash(self._origin)

    def associated_images(self) -> Mapping[str, RGB]:
        """Label, macro and thumbnail images by name, as far as the file holds them."""
        return self._source.associated_images()

    def downsample_for(self, mpp: float) -> tuple[float, float]:
        """(x, y) level-0 pixels that one pixel at `mpp` stands for."""
        return mpp / self.mpp[0], mpp / self.mpp[1]

    def read(self, x_l0: float, y_l0: float, size_px: int | tuple[int, int], mpp: float) -> RGB:
        """Read a rectangle at exactly `mpp`.

        The coarsest level that is still fine enough is read and resampled with antialiasing, see
        `resample`: whole blocks of pixels become their mean, and a read that fits the pixels of a
        level returns them untouched. Outside the slide the result has the slide's background, and
        the filter sees it there.
        Memory is bounded by the result plus about 8 million source pixels, however large the
        area: larger ones are read in blocks. The same read gives the same pixels in any thread.

        Args:
            x_l0: left edge, in level-0 pixels; may be fractional or negative.
            y_l0: top edge, likewise.
            size_px: (width, height) of the result, or one number for a square.
            mpp: micrometres per pixel of the result; finer than level 0 enlarges.

        Returns:
            uint8 (rows, cols, 3).

        Raises:
            MissingMppError: if the slide's own mpp is not known.
            UnreadableSlideError: if the pixels cannot be decoded.
            ValueError: if a size or `mpp` is not positive, or a number is not finite.
        """
        size = size_px if isinstance(size_px, tuple) else (size_px, size_px)
        _refuse_odd_numbers(x_l0, y_l0, size, mpp)
        scale = self.downsample_for(mpp)
        corner = np.array([[x_l0, y_l0]])
        ((raster, _),) = choose_rasters(self._rasters(scale), corner, scale, max(size))
        pixels = np.empty((size[1], size[0], 3), np.uint8)
        self._fill(pixels, raster, self._box((x_l0, y_l0), size, scale, raster))
        return pixels

    def read_tiles(
        self,
        corners_l0: NDArray[np.floating] | NDArray[np.integer],
        size_px: int,
        mpp: float,
        *,
        workers: int = 1,
    ) -> RGB:
        """Read square tiles; `corners_l0` (n, 2) are their upper-left corners (x, y).

        Each tile is what `read` gives. Of TIFF, every source tile is decoded once, however many of
        the tiles share it; what has to be kept for that takes at most 256 MB.

        Args:
            corners_l0: level-0 pixels; may be fractional or negative.
            size_px: side of a tile.
            mpp: micrometres per pixel of the tiles.
            workers: threads to read in; the pixels do not depend on it.

        Returns:
            uint8 (n, rows, cols, 3), in the order of `corners_l0`.
        """
        corners = np.asarray(corners_l0, float).reshape(-1, 2)
        tiles = np.empty((len(corners), size_px, size_px, 3), np.uint8)
        if not len(corners):
            return tiles
        x_sum, y_sum = corners.sum(axis=0)  # nan and inf show in a sum
        _refuse_odd_numbers(x_sum, y_sum, (size_px, size_px), mpp)
        scale = self.downsample_for(mpp)
        for raster, mine in choose_rasters(self._rasters(scale), corners, scale, size_px):
            outs = [tiles[i] for i in mine]
            plain = raster.plain(corners[mine], size_px, scale)
            starts = (corners[mine] / raster.downsample).round().astype(int).tolist()
            cuts = [Cut(starts[i][0], starts[i][1], outs[i]) for i in np.flatnonzero(plain)]
            self._open_source().read_many(raster.level, cuts, shrink=raster.shrink, workers=workers)
            boxes = [
                (outs[i], self._box(tuple(corners[mine[i]]), (size_px, size_px), scale, raster))
                for i in np.flatnonzero(~plain)
            ]
            self._fill_many(raster, boxes, workers)
        return tiles

    def _fill_many(self, raster: Raster, boxes: Sequence[tuple[RGB, Box]], workers: int) -> None:
        """Write what every box shows; neighbours are neighbours in the file, too."""
        order = sorted(range(len(boxes)), key=lambda i: boxes[i][1].outer_px[1::-1])

        def fill(part: Sequence[int]) -> None:
            rects = [boxes[i][1].outer_px for i in part]
            for i in self._source.in_order(raster.level, rects, shrink=raster.shrink):
                self._fill(boxes[part[i]][0], raster, boxes[part[i]][1])

        in_parts(fill, order, workers)

    def stored_tiles(self) -> StoredTiles | None:
        """The tiles that level 0 consists of; None where it is no matter of decoding tiles."""
        return self._open_source().stored_tiles(0)

    def read_stored(self, rect_l0: IntRect, *, shrink: int = 1) -> RGB:
        """Read level 0 as it is stored, whatever its mpp, or decoded `shrink` times smaller.

        Tiles that lie under the rectangle as a whole are decoded straight into place; memory is
        then ordered plane by plane, as whoever stores pixels wants it.

        Args:
            rect_l0: (x, y, width, height) inside level 0, all in pixels of the result.
            shrink: 1; 2, 4 and 8, too, where the tiles are JPEG.

        Returns:
            uint8 (height, width, 3).

        Raises:
            UnreadableSlideError: if the pixels cannot be decoded.
        """
        source, (x, y, width, height) = self._open_source(), rect_l0
        tiles = source.stored_tiles(0)
        if tiles is None or not _consists_of_tiles(rect_l0, tiles, self.size_l0, shrink):
            return source.read_shrunk(0, rect_l0, shrink)
        pixels = np.empty((3, height, width), np.uint8).transpose(1, 2, 0)
        source.read_many(0, [Cut(x, y, pixels)], shrink=shrink)
        return pixels

    def counts(self) -> ReadCount:
        """What was decoded since the slide was opened: source tiles, bytes, pixels, seconds."""
        return self._source.counts()

    def peek(self, level: int, most_px: int) -> RGB:
        """Read up to `most_px` pixels a side from the middle of a level, as they are stored."""
        shape = self.levels[level]
        size = min(most_px, shape.width), min(most_px, shape.height)
        pitch = self._source.pitch_px(level)
        x, y = ((shape.width - size[0]) // 2, (shape.height - size[1]) // 2)
        return self._read_padded(
            self._raster(level), (x // pitch * pitch, y // pitch * pitch, *size)
        )

    def level_for(self, downsample: float) -> int:
        """Index of the coarsest level that is not coarser than `downsample`."""
        most = downsample * FINE_ENOUGH
        fits = [i for i, level in enumerate(self.levels) if level.downsample <= most]
        return max(fits, key=lambda i: self.levels[i].downsample, default=0)

    def raster_for(self, mpp: float) -> Raster:
        """What reads at `mpp` take their pixels from, where the place allows it."""
        scale = self.downsample_for(mpp)
        return finest_first(self._rasters(scale), scale)[-1]

    def lattice_for(self, size_px: int, mpp: float, snap: Snap) -> Lattice | None:
        """Where tiles of `size_px` pixels at `mpp` fit what is read for them.

        None where they are not to be moved, or cannot be: corners are whole level-0 pixels, and a
        pixel of the raster may not be a whole number of those.

        Raises:
            MissingMppError: if the slide's own mpp is not known.
        """
        raster, scale = self.raster_for(mpp), self.downsample_for(mpp)
        if snap == "none" or not raster.downsample.is_integer():
            return None
        pixel = int(raster.downsample)
        side = size_px * scale[0], size_px * scale[1]
        if snap == "pixel":
            return Lattice(self.size_l0, side, pixel)
        wide, high = (n // raster.shrink * pixel for n in self._source.tile_px(raster.level))
        left, top, *size = (round(n) for n in raster.box((0, 0), (size_px,) * 2, scale).outer_px)
        return Lattice(
            self.size_l0,
            side,
            pixel,
            source_l0=(wide, high),
            before_l0=(-left * pixel, -top * pixel),
            span_l0=(size[0] * pixel, size[1] * pixel),
        )

    def _rasters(self, scale: tuple[float, float]) -> list[Raster]:
        """The level that serves a scale, as it is and smaller."""
        number = self.level_for(min(scale))
        shape = self.levels[number]
        shrinks = self._open_source().shrinks(number)
        return [self._raster(number, n) for n in shrinks if n <= min(shape.width, shape.height)]

    def _raster(self, number: int, shrink: int = 1) -> Raster:
        level, source = self.levels[number], self._source
        size, downsample = (level.width // shrink, level.height // shrink), level.downsample
        if shrink > 1:
            return Raster(number, shrink, *size, downsample * shrink)
        return Raster(
            number, 1, *size, downsample, source.pitch_px(number), source.begins_whole(number)
        )

    def _open_source(self) -> Source:
        if not self._is_open:
            raise ValueError(f"{self.name} was closed; open it again to read from it.")
        return self._source

    def _box(
        self,
        corner_l0: tuple[float, float],
        size_px: tuple[int, int],
        scale: tuple[float, float],
        raster: Raster,
    ) -> Box:
        box = raster.box(corner_l0, size_px, scale)
        return box if box.area_px <= _MOST_PIXELS else box.divisible()

    def _fill(self, pixels: RGB, raster: Raster, box: Box) -> None:
        """Write what `box` shows into `pixels`, in blocks if it covers too much at once."""
        level = self.levels[raster.level]
        if not box.touches(level.width / raster.shrink, level.height / raster.shrink):
            pixels[:] = self.info.background
        elif box.area_px <= _MOST_PIXELS:
            patch = self._read_padded(raster, box.outer_px)
            pixels[:] = resample(patch, box.inner_px, box.size_px)
        elif box.size_px == (1, 1):
            finer = np.empty((2, 2, 3), np.uint8)
            self._fill(finer, raster, box.halved())
            pixels[:] = finer.mean(axis=(0, 1)).round()
        else:
            for window, half in box.halves():
                self._fill(pixels[window], raster, half)

    def _read_padded(self, raster: Raster, rect_px: Rect) -> RGB:
        """Read (x, y, width, height) of a raster; what lies outside the level is background."""
        source, shrink = self._open_source(), raster.shrink
        x, y, width, height = rect_px
        if max(abs(x - round(x)), abs(y - round(y))) > _WHOLE:
            # Cut off at the edge of the level, it would begin elsewhere.
            return source.read_level(raster.level, x, y, (width, height))
        x, y = round(x), round(y)
        left, right = max(0, -x), min(width, raster.width - x)
        top, bottom = max(0, -y), min(height, raster.height - y)
        inside = right > left and bottom > top
        if inside and (left, top, right, bottom) == (0, 0, width, height):
            return source.read_shrunk(raster.level, (x, y, width, height), shrink)
        padded = np.empty((height, width, 3), np.uint8)
        padded[:] = self.info.background
        if inside:
            part = x + left, y + top, right - left, bottom - top
            padded[top:bottom, left:right] = source.read_shrunk(raster.level, part, shrink)
        if shrink > 1:
            self._fill_far_edges(padded, raster, (x, y))
        return padded

    def _fill_far_edges(self, padded: RGB, raster: Raster, corner: tuple[int, int]) -> None:
        """Write the last column and row where the level fills their pixels only in part."""
        level, shrink = self.levels[raster.level], raster.shrink
        whole = self._raster(raster.level)
        (x, y), (height, width, _) = corner, padded.shape
        if level.width % shrink and 0 <= (col := raster.width - x) < width:
            strip = (raster.width * shrink, y * shrink, shrink, height * shrink)
            padded[:, col] = block_means(self._read_padded(whole, strip), (shrink, shrink))[:, 0]
        if level.height % shrink and 0 <= (row := raster.height - y) < height:
            strip = (x * shrink, raster.height * shrink, width * shrink, shrink)
            padded[row] = block_means(self._read_padded(whole, strip), (shrink, shrink))[0]


def _consists_of_tiles(
    rect: IntRect, tiles: StoredTiles, size_l0: tuple[int, int], shrink: int
) -> bool:
    """Whether a rectangle begins and ends between tiles, or ends with the level."""
    ends = rect[0] + rect[2], rect[1] + rect[3]
    axes = zip(rect[:2], ends, tiles.tile_px, size_l0, strict=True)
    return all(
        start * shrink % side == 0 and (end * shrink % side == 0 or end == length // shrink)
        for start, end, side, length in axes
    )


def _refuse_odd_numbers(x_l0: float, y_l0: float, size: tuple[int, int], mpp: float) -> None:
    if min(size) <= 0 or not mpp > 0:
        raise ValueError(f"size_px and mpp must be positive, got {size} and {mpp}.")
    if not all(map(math.isfinite, (x_l0, y_l0, mpp))):
        raise ValueError(f"x_l0, y_l0 and mpp must be finite, got {x_l0}, {y_l0} and {mpp}.")
