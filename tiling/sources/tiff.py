"""TIFF, BigTIFF and OME-TIFF, decoded segment by segment: never a whole plane."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tifffile import TiffFile, TiffFileError, TiffPage

from saccade.tiling.colour import Samples, over_white, to_rgb, to_uint8
from saccade.tiling.counting import ReadCount
from saccade.tiling.errors import SlideError, UnreadableSlideError
from saccade.tiling.source import RGB, Cut, IntRect, Level, Rect, SlideInfo, Source, StoredTiles
from saccade.tiling.sources.file_bytes import FileBytes
from saccade.tiling.sources.segmented_plane import SegmentedPlane
from saccade.tiling.sources.segments import SegmentCache, shared_order
from saccade.tiling.sources.tiff_layout import Layout, layout_of
from saccade.tiling.sources.tiff_scale import recorded_scale

# tifffile logs what it finds odd in a file. Whoever configures logging sees that; without a
# handler Python would print it between our own lines.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_PHOTOMETRIC = {0: "white is zero", 1: "grey", 2: "RGB", 3: "palette", 6: "YCbCr"}
# Compressions whose decoders turn YCbCr into RGB: JPEG, JPEG XR, WebP, JPEG XL.
_DECODED_TO_RGB = {6, 7, 22610, 33007, 34892, 34934, 50001, 50002, 52546}
_ICC_PROFILE = 34675


class TiffSource(Source):
    """Reads the first colour series of a TIFF file, or the first series there is.

    Channels stored as images of their own become red, green and blue: the first three, or those
    stated; a single one becomes grey. Samples of more than 8 bits are scaled linearly from their
    whole range (from OME's SignificantBits where recorded) to 0..255, the same for every read.

    Args:
        path: the file.
        channels: one to three channels to show, counted from 0.

    Raises:
        UnreadableSlideError: if it is damaged, or of a kind that no codec here reads.
    """

    def __init__(self, path: Path, channels: tuple[int, ...] | None = None) -> None:
        self._begin(path.name, FileBytes(path), path, channels)

    def _begin(
        self, name: str, file: FileBytes, stream: Path | IO[bytes], channels: tuple[int, ...] | None
    ) -> None:
        self._name, self._file, self._cache = name, file, SegmentCache()
        try:
            with TiffFile(stream, name=name) as tif:
                self._open(tif, channels)
        except SlideError:
            file.close()
            raise
        # tifffile and its codecs raise errors of any kind on files that are damaged.
        except Exception as error:
            file.close()
            raise UnreadableSlideError(_reason(name, error)) from error

    def _layout(self, tif: TiffFile, channels: tuple[int, ...] | None) -> Layout:
        return layout_of(tif, self._file, self._cache, channels)

    def _open(self, tif: TiffFile, channels: tuple[int, ...] | None) -> None:
        layout = self._layout(tif, channels)
        self._key, self._levels = layout.key, layout.levels
        recorded = recorded_scale(tif, layout.key, layout.index)
        self._bits = recorded.bits or layout.key.bitspersample
        self._channels = channels
        _refuse_unknown(layout.key)
        self._palette = None if layout.key.colormap is None else layout.key.colormap.T
        icc_profile = layout.key.tags.valueof(_ICC_PROFILE)
        self.info = SlideInfo(
            levels=_sizes([planes[0].size for planes in layout.levels]),
            reader="tiff",
            mpp=recorded.mpp,
            objective_power=recorded.objective_power,
            icc_profile=icc_profile if isinstance(icc_profile, bytes) else None,
        )

    def pitch_px(self, level: int) -> float:
        """Whole pixels."""
        return 1.0

    def shrinks(self, level: int) -> tuple[int, ...]:
        """What the decoder of the tiles offers."""
        (plane, *others) = self._levels[level]
        return (1,) if others else plane.shrinks

    def tile_px(self, level: int) -> tuple[int, int]:
        """Tiles, or strips that have to be decoded."""
        return self._levels[level][0].tile_px

    def read_level(self, level: int, x_px: float, y_px: float, size_px: tuple[int, int]) -> RGB:
        """Decode the segments that the rectangle touches."""
        return self.read_shrunk(level, (int(x_px), int(y_px), *size_px), 1)

    def read_shrunk(self, level: int, rect: IntRect, shrink: int) -> RGB:
        """Decode the segments that the rectangle touches, smaller."""
        try:
            planes = [plane.read(*rect, shrink=shrink) for plane in self._levels[level]]
            return self._rgb(np.concatenate(planes, axis=2) if len(planes) > 1 else planes[0])
        except SlideError:  # of a server
            raise
        # Codecs raise errors of any kind on damaged data.
        except Exception as error:
            raise UnreadableSlideError(
                f"{self._name}: the pixels at {rect[:2]} of level {level} cannot be decoded "
                f"({error}). The file is damaged or cut short: copy it again from where it came."
            ) from error

    def read_many(
        self, level: int, cuts: Sequence[Cut], *, shrink: int = 1, workers: int = 1
    ) -> None:
        """Decode each segment under the cuts once, and paste it wherever it is wanted."""
        (plane, *_) = self._levels[level]
        missed: Iterable[int] = range(len(cuts))
        if isinstance(plane, SegmentedPlane) and plane.is_rgb and self._channels is None:
            missed = plane.read_many(cuts, shrink=shrink, workers=workers)
        super().read_many(level, [cuts[i] for i in missed], shrink=shrink, workers=workers)

    def stored_tiles(self, level: int) -> StoredTiles | None:
        """Those of levels in 8-bit red, green and blue, which are shown as they are decoded."""
        (plane, *_) = self._levels[level]
        plain = self._channels is None and self._bits == 8
        return plane if isinstance(plane, SegmentedPlane) and plane.is_rgb and plain else None

    def in_order(self, level: int, rects: Sequence[Rect], *, shrink: int = 1) -> Iterator[int]:
        """Along the segments of the file, each decoded once."""
        planes = self._levels[level]
        needs = [
            list(chain.from_iterable(plane.segments_under(rect, shrink=shrink) for plane in planes))
            for rect in rects
        ]
        return shared_order(self._cache, needs)

    def counts(self) -> ReadCount:
        """What was read and decoded."""
        return self._file.tally.count

    def _rgb(self, samples: Samples) -> RGB:
        key = self._key
        if self._palette is not None and key.photometric == 3:
            return to_uint8(self._palette[samples[..., 0]], 16)
        eight = to_uint8(samples, self._bits)
        if key.photometric == 0:
            return to_rgb(255 - eight)
        if key.photometric == 6 and key.compression not in _DECODED_TO_RGB:
            eight = np.asarray(Image.fromarray(eight[..., :3], "YCbCr").convert("RGB"))
        return self._chosen(eight)

    def _chosen(self, eight: NDArray[np.uint8]) -> RGB:
        """Of samples beside one another: the stated ones, else colour over white."""
        key = self._key
        if self._channels is not None and key.samplesperpixel > 1:
            return to_rgb(eight[..., list(self._channels)])
        if key.photometric == 2 and eight.shape[2] == 4 and key.extrasamples[:1] in ((1,), (2,)):
            return over_white(eight, premultiplied=key.extrasamples[0] == 1)
        grey_and_alpha = key.samplesperpixel == 2
        return to_rgb(eight[..., :1] if grey_and_alpha else eight)

    def associated_images(self) -> Mapping[str, RGB]:
        """None: which series would be a label is nowhere written."""
        return {}

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def _sizes(sizes: list[tuple[int, int]]) -> tuple[Level, ...]:
    """Levels with the mean of both ratios as downsample, as OpenSlide has it."""
    width_0, height_0 = sizes[0]
    return tuple(
        Level(width, height, (width_0 / width + height_0 / height) / 2) for width, height in sizes
    )


def _refuse_unknown(key: TiffPage) -> None:
    if key.photometric not in _PHOTOMETRIC:
        raise ValueError(f"colours of photometric interpretation {key.photometric!r}")
    to_uint8(np.zeros(1, key.dtype), key.bitspersample)  # floating point is refused here
    if key.compression != 1:
        _try_codec(key)


def _try_codec(key: TiffPage) -> None:
    """Ask for nothing to be decoded: a codec that is missing says so already now."""
    try:
        key.decode(None, 0)
    except (ValueError, NotImplementedError) as error:
        raise ValueError(f"compression {int(key.compression)} that no codec here reads") from error


def _reason(name: str, error: Exception) -> str:
    what = "is damaged or cut short" if isinstance(error, TiffFileError) else "cannot be read"
    return (
        f"{name}: a TIFF that {what}: found {error}. "
        "If other programs show it, convert it: bfconvert in.tif out.ome.tiff, or vips tiffsave."
    )
