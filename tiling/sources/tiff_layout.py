"""Which images of a TIFF file are the slide, its levels and its channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

from saccade.tiling.sources.file_bytes import FileBytes
from saccade.tiling.sources.segments import SegmentCache
from saccade.tiling.sources.tiff_plane import Plane, plane_of, raw_plane

Maker = Callable[[TiffPage | TiffFrame, FileBytes, SegmentCache], Plane]

_COLOUR = {2, 3, 5, 6}  # photometric RGB, palette, CMYK, YCbCr


@dataclass(frozen=True)
class Layout:
    """What is read of a file.

    Attributes:
        key: the first image of level 0, which says how samples are stored.
        index: which series of the file it is.
        levels: finest first; for each level one plane a channel, or one with all of them.
    """

    key: TiffPage
    index: int
    levels: tuple[tuple[Plane, ...], ...]


def layout_of(
    tif: TiffFile,
    file: FileBytes,
    cache: SegmentCache,
    channels: tuple[int, ...] | None,
    make: Maker = plane_of,
) -> Layout:
    """Find the first colour series (else the first), its levels and the wanted channels.

    Of further dimensions (time, depth, position) the first image is taken; `make` says how an
    image is read.

    Raises:
        ValueError: if there is no image, or a wanted channel is not there.
    """
    series = _main_series(tif)
    levels = _levels(tif.series, series)
    found = [tuple(_planes(level, file, cache, channels, make)) for level in levels]
    return Layout(series.keyframe, tif.series.index(series), tuple(found))


def _main_series(tif: TiffFile) -> TiffPageSeries:
    series = [one for one in tif.series if len(one.shape) >= 2 and one.keyframe.dtype is not None]
    if not series:
        raise ValueError("no image whose samples can be read")
    return next((one for one in series if one.keyframe.photometric in _COLOUR), series[0])


def _levels(series: list[TiffPageSeries], main: TiffPageSeries) -> list[TiffPageSeries]:
    """The series' own levels, else later series that show the same image smaller."""
    own = [level for level in main.levels if _size(level)[0] >= 1]
    if len(own) > 1:
        return own
    levels = [main]
    for other in series[series.index(main) + 1 :]:
        if _is_smaller_copy(other, levels[-1], main):
            levels.append(other)
    return levels


def _is_smaller_copy(other: TiffPageSeries, last: TiffPageSeries, main: TiffPageSeries) -> bool:
    """Same kind of samples, same proportions to the pixel, at least a third smaller."""
    (width, height), (width_0, height_0) = _size(other), _size(main)
    alike = other.dtype == main.dtype and other.keyframe.photometric == main.keyframe.photometric
    alike = alike and other.keyframe.is_tiled == main.keyframe.is_tiled
    proportions = abs(width * height_0 / width_0 - height) <= 1
    return alike and proportions and width * 1.5 <= _size(last)[0] and height > 1


def _size(series: TiffPageSeries) -> tuple[int, int]:
    return series.keyframe.imagewidth, series.keyframe.imagelength


def _planes(
    series: TiffPageSeries,
    file: FileBytes,
    cache: SegmentCache,
    channels: tuple[int, ...] | None,
    make: Maker,
) -> Iterator[Plane]:
    """One plane a channel; one in all where the samples of a pixel lie together."""
    key = series.keyframe
    if key.imagedepth > 1:
        raise ValueError("volumes in one image (ImageDepth)")
    shape, axes = _leading(series)
    if key.samplesperpixel > 1 or "C" not in axes:
        yield _plane(series, 0, file, cache, make)
        return
    count = shape[axes.index("C")]
    wanted = channels if channels is not None else tuple(range(min(3, count)))
    if max(wanted) >= count or min(wanted) < 0:
        raise ValueError(f"{count} channels, numbered from 0; {wanted} were asked for")
    for channel in wanted:
        place = [channel if axis == "C" else 0 for axis in axes]
        yield _plane(series, int(np.ravel_multi_index(place, shape)), file, cache, make)


def _leading(series: TiffPageSeries) -> tuple[tuple[int, ...], str]:
    """Shape and axes over the images of a series, without those within an image."""
    shape: tuple[int, ...] = series.get_shape(squeeze=False)
    axes: str = series.get_axes(squeeze=False)
    within = max(axes.find("Y"), 0)
    if series.keyframe.samplesperpixel > 1 and axes[:within].endswith("S"):
        within -= 1  # samples in separate planes of one image
    return shape[:within], axes[:within]


def _plane(
    series: TiffPageSeries, index: int, file: FileBytes, cache: SegmentCache, make: Maker
) -> Plane:
    key = series.keyframe
    page: TiffPage | TiffFrame | None = series[index] if index < len(series) else None
    if page is not None and page.parent is not series.parent:
        raise ValueError("images in several files")
    if page is not None and not (index and series.is_truncated):
        return make(page, file, cache)
    if series.dataoffset is None:
        raise ValueError(f"image {index} is not in the file")
    # ImageJ writes one directory and lets the other images follow it, unlisted.
    offset = series.dataoffset + index * key.nbytes
    return raw_plane(key, (offset,), key.imagelength, file)
