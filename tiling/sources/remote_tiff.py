"""TIFF of any kind on a server: its index is read at once, its tiles as they are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import IO, cast

import numpy as np
from tifffile import TiffFile, TiffFrame, TiffPage

from saccade.tiling.colour import to_rgb
from saccade.tiling.errors import SlideError, UnreadableSlideError
from saccade.tiling.remote import Stamp, Url
from saccade.tiling.source import RGB, Cut, IntRect, Rect
from saccade.tiling.sources.file_bytes import FileBytes
from saccade.tiling.sources.openslide_rules import Images, images_of, stored_tiles
from saccade.tiling.sources.remote_bytes import BlockFile, RemoteBytes
from saccade.tiling.sources.remote_ranges import Range
from saccade.tiling.sources.segmented_plane import SegmentedPlane
from saccade.tiling.sources.segments import SegmentCache
from saccade.tiling.sources.tiff import TiffSource
from saccade.tiling.sources.tiff_layout import Layout, layout_of
from saccade.tiling.sources.tiff_plane import Plane, plane_of

_SMALL_STRIP = 2**20  # bytes: uncompressed strips up to here are read whole, not row by row


class RemoteTiffSource(TiffSource):
    """Reads a TIFF by byte ranges.

    SVS and plain tiled TIFF have the levels, the scale and the associated images that OpenSlide
    would give them; OME-TIFF and other TIFF are what `TiffSource` makes of them.

    Args:
        url: where it lies.
        file: its bytes; closed with the source.
        channels: one to three channels to show, counted from 0.

    Raises:
        UnreadableSlideError: if it is damaged, cannot be fetched, or is of a kind that only
            OpenSlide reads.
    """

    def __init__(
        self, url: Url, file: RemoteBytes, channels: tuple[int, ...] | None = None
    ) -> None:
        self._remote = file
        self._where: dict[int, list[Range]] = {}
        self._images: Images | None = None
        self._associated: dict[str, Plane] = {}
        self._begin(url.name, file, cast("IO[bytes]", BlockFile(file)), channels)

    def _open(self, tif: TiffFile, channels: tuple[int, ...] | None) -> None:
        self._images = images = images_of(tif) if channels is None else None
        super()._open(tif, channels)
        if images is not None:
            self._associated = dict(self._small_images(images))
            self.info = replace(
                self.info,
                vendor=images.vendor,
                mpp=images.mpp,
                objective_power=images.objective_power,
                bounds_l0=images.bounds_l0,
                associated_names=tuple(sorted(self._associated)),
            )

    def _small_images(self, images: Images) -> Iterator[tuple[str, Plane]]:
        for name, page in images.associated.items():
            # Codecs raise errors of any kind; a label that cannot be had is no reason to refuse.
            with suppress(Exception):
                yield name, self._plane(page, self._file, self._cache)

    def _layout(self, tif: TiffFile, channels: tuple[int, ...] | None) -> Layout:
        if self._images is None:
            return layout_of(tif, self._file, self._cache, channels, self._plane)
        levels = self._images.levels
        self._stored = [stored_tiles(page) for page in levels]
        planes = tuple(
            (SegmentedPlane(self._noted(page), self._file, self._cache, strict=True),)
            for page in levels
        )
        return Layout(levels[0], 0, planes)

    def _plane(self, page: TiffPage | TiffFrame, file: FileBytes, cache: SegmentCache) -> Plane:
        """Strips are read whole where they are small: a row alone is not worth a request."""
        if max(self._ranges_of(page), default=(0, 0), key=lambda each: each[1])[1] <= _SMALL_STRIP:
            return SegmentedPlane(self._noted(page), file, cache)
        return plane_of(self._noted(page), file, cache)

    def _noted(self, page: TiffPage | TiffFrame) -> TiffPage | TiffFrame:
        """Remember where its segments lie; a plane names them by the offset of the image."""
        self._where[page.offset] = self._ranges_of(page)
        return page

    def _ranges_of(self, page: TiffPage | TiffFrame) -> list[Range]:
        return list(zip(page.dataoffsets, page.databytecounts, strict=True))

    def _under(self, level: int, rects: Iterable[Rect], shrink: int) -> list[Range]:
        """What has to travel for rectangles, in the order of the file."""
        planes = self._levels[level]
        under = (plane.segments_under(rect, shrink=shrink) for rect in rects for plane in planes)
        segments = cast("set[tuple[int, int, int]]", set(chain.from_iterable(under)))
        return sorted(self._where[image][index] for image, _, index in segments)

    def read_shrunk(self, level: int, rect: IntRect, shrink: int) -> RGB:
        """Fetch the segments that the rectangle touches in one go, and decode them."""
        with self._remote.announced(self._under(level, [rect], shrink)):
            pixels = super().read_shrunk(level, rect, shrink)
        return self._whitened(pixels, level, rect, shrink)

    def _whitened(self, pixels: RGB, level: int, rect: IntRect, shrink: int) -> RGB:
        """White where the file leaves out tiles, as OpenSlide shows them, grey images too."""
        if self._images is None or self._stored[level].all():
            return pixels
        page, pixels = self._images.levels[level], pixels.copy()
        rows = (rect[1] + np.arange(rect[3])) * shrink // page.tilelength
        cols = (rect[0] + np.arange(rect[2])) * shrink // page.tilewidth
        pixels[~self._stored[level][np.ix_(rows, cols)]] = 255
        return pixels

    def read_many(
        self, level: int, cuts: Sequence[Cut], *, shrink: int = 1, workers: int = 1
    ) -> None:
        """Fetch and decode each segment under the cuts once, many in one go."""
        rects = ((cut.x, cut.y, cut.out.shape[1], cut.out.shape[0]) for cut in cuts)
        with self._remote.announced(self._under(level, rects, shrink)):
            super().read_many(level, cuts, shrink=shrink, workers=workers)

    def in_order(self, level: int, rects: Sequence[Rect], *, shrink: int = 1) -> Iterator[int]:
        """Along the segments of the file, each fetched and decoded once, many fetched in one go."""
        with self._remote.announced(self._under(level, rects, shrink)):
            yield from super().in_order(level, rects, shrink=shrink)

    def stamp(self) -> Stamp:
        """The version that was opened."""
        return self._remote.stamp

    def associated_images(self) -> Mapping[str, RGB]:
        """Label, macro and thumbnail of an SVS; of other files none."""
        try:
            return {
                name: np.array(to_rgb(plane.read(0, 0, *plane.size)))
                for name, plane in self._associated.items()
            }
        except SlideError:
            raise
        # Codecs raise errors of any kind on damaged data.
        except Exception as error:
            raise UnreadableSlideError(
                f"{self._name}: an associated image cannot be decoded ({error})."
            ) from error
