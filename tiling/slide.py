"""A slide: where its pixels are, how large they are, and reading any of them at any scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.tiling.counting import ReadCount
from saccade.tiling.errors import MissingMppError
from saccade.tiling.hashing import array_hash, file_hash
from saccade.tiling.lattice import Lattice, Snap
from saccade.tiling.raster_reading import fill, raster_of, rasters_of, read_padded, wanted_box
from saccade.tiling.rasters import FINE_ENOUGH, Raster, choose_rasters, finest_first
from saccade.tiling.remote import Place, Url, stamp_hash
from saccade.tiling.resample import Box
from saccade.tiling.source import RGB, Cut, IntRect, Level, Source, StoredTiles
from saccade.tiling.threads import in_parts


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

        # The other process may have been started in another folder.
        origin = self._origin.absolute() if isinstance(self._origin, Path) else self._origin
        return reopen, (origin, self._given_mpp, self._channels)

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
        fill(pixels, self._source, raster, wanted_box(raster, (x_l0, y_l0), size, scale))
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
                (outs[i], wanted_box(raster, tuple(corners[mine[i]]), (size_px, size_px), scale))
                for i in np.flatnonzero(~plain)
            ]
            self._fill_many(raster, boxes, workers)
        return tiles

    def _fill_many(self, raster: Raster, boxes: Sequence[tuple[RGB, Box]], workers: int) -> None:
        """Write what every box shows; neighbours are neighbours in the file, too."""
        order = sorted(range(len(boxes)), key=lambda i: boxes[i][1].outer_px[1::-1])

        def fill_part(part: Sequence[int]) -> None:
            rects = [boxes[i][1].outer_px for i in part]
            for i in self._source.in_order(raster.level, rects, shrink=raster.shrink):
                fill(boxes[part[i]][0], self._source, raster, boxes[part[i]][1])

        in_parts(fill_part, order, workers)

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
        rect = x // pitch * pitch, y // pitch * pitch, *size
        return read_padded(self._open_source(), raster_of(self._source, level), rect)

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
        scale = self.downsample_for(mpp)
        if snap == "none":
            return None  # without a look at the level, which is compared with OpenSlide's
        raster = self.raster_for(mpp)
        if not raster.downsample.is_integer():
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
        return rasters_of(self._open_source(), self.level_for(min(scale)))

    def _open_source(self) -> Source:
        if not self._is_open:
            raise ValueError(f"{self.name} was closed; open it again to read from it.")
        return self._source


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
