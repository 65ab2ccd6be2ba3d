"""Readers of slides under one interface: Saccade and its peers, each used as its users do.

Where a peer does not bring to scale by itself, Pillow's `reduce` does it (means of blocks).
Packages are imported where a reader is opened, so that any of them may be missing.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from slides_made import LEVELS, RGB, SIDE

Corners = NDArray[np.int64]
"""(n, 2), upper-left corners (x, y) in pixels of level 0."""


class Reader(Protocol):
    """An open slide."""

    def tiles(self, corners: Corners, factor: int) -> RGB:
        """(n, 256, 256, 3); `factor` pixels of level 0 become one."""

    def view(self, factor: int) -> RGB:
        """The whole slide; `factor` is twice that of a level, see `LEVELS`."""


class Saccade:
    """`slide.read_tiles`, one call for all."""

    def __init__(self, path: Path, workers: int = 1) -> None:
        from saccade.tiling import open_slide

        self.slide, self.workers = open_slide(path), workers

    def tiles(self, corners: Corners, factor: int) -> RGB:
        mpp = self.slide.mpp[0] * factor
        return self.slide.read_tiles(corners, SIDE, mpp, workers=self.workers)

    def view(self, factor: int) -> RGB:
        width, height = self.slide.size_l0
        size = width // factor, height // factor
        return self.slide.read(0, 0, size, self.slide.mpp[0] * factor)


class ByRegion:
    """`read_region` of OpenSlide, which TiffSlide copies: one call a tile, four channels."""

    def __init__(self, slide: Any) -> None:
        self.slide = slide

    def tiles(self, corners: Corners, factor: int) -> RGB:
        side = SIDE * factor
        regions = (self._region((int(x), int(y)), 0, (side, side)) for x, y in corners)
        return np.stack([np.asarray(_small(region, factor)) for region in regions])

    def view(self, factor: int) -> RGB:
        level = LEVELS.index(factor // 2)
        region = self._region((0, 0), level, self.slide.level_dimensions[level])
        return np.asarray(_small(region, 2))

    def _region(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> Any:
        return self.slide.read_region(corner, level, size).convert("RGB")


def open_openslide(path: Path) -> Reader:
    import openslide

    return ByRegion(openslide.OpenSlide(path))


def open_tiffslide(path: Path) -> Reader:
    import tiffslide

    return ByRegion(tiffslide.TiffSlide(path))


class TifffileZarr:
    """A page as a zarr array, which is how tifffile reads parts of it."""

    def __init__(self, path: Path) -> None:
        import tifffile
        import zarr

        self.pages = [
            zarr.open_array(page.aszarr(), mode="r") for page in tifffile.TiffFile(path).pages
        ]

    def tiles(self, corners: Corners, factor: int) -> RGB:
        side = SIDE * factor
        parts = (self.pages[0][y : y + side, x : x + side] for x, y in corners.tolist())
        return np.stack([_reduced(np.asarray(part), factor) for part in parts])

    def view(self, factor: int) -> RGB:
        return _reduced(np.asarray(self.pages[LEVELS.index(factor // 2)][:]), 2)


class CuCIM:
    """`read_region` on the CPU, one call a tile.

    Its cache is left out: asked for, it was never filled by these slides (no hits, no misses), and
    its batches (`num_workers`) cost no less than a handle a thread.
    """

    def __init__(self, path: Path) -> None:
        from cucim import CuImage

        self.slide = CuImage(str(path))

    def tiles(self, corners: Corners, factor: int) -> RGB:
        side = SIDE * factor
        parts = (self.slide.read_region((int(x), int(y)), (side, side)) for x, y in corners)
        return np.stack([_reduced(np.asarray(part), factor) for part in parts])

    def view(self, factor: int) -> RGB:
        level = LEVELS.index(factor // 2)
        size = self.slide.resolutions["level_dimensions"][level]
        return _reduced(np.asarray(self.slide.read_region((0, 0), size, level)), 2)


class LargeImage:
    """`getRegion` of the TIFF source, brought to scale by itself."""

    def __init__(self, path: Path) -> None:
        from large_image.constants import TILE_FORMAT_NUMPY
        from large_image_source_tiff import TiffFileTileSource

        self.slide = TiffFileTileSource(str(path))
        self.options = {"format": TILE_FORMAT_NUMPY}

    def tiles(self, corners: Corners, factor: int) -> RGB:
        return np.stack([self._region(x, y, SIDE * factor, SIDE) for x, y in corners.tolist()])

    def view(self, factor: int) -> RGB:
        return self._region(0, 0, self.slide.sizeX, self.slide.sizeX // factor)

    def _region(self, x: int, y: int, side: int, out: int) -> RGB:
        region = {"left": x, "top": y, "width": side, "height": side, "units": "base_pixels"}
        output = {"maxWidth": out, "maxHeight": out}
        pixels, _ = self.slide.getRegion(region=region, output=output, **self.options)
        return np.asarray(pixels)[..., :3]


class Pyvips:
    """`Region.fetch`, which costs less than cropping an image for each tile."""

    def __init__(self, path: Path) -> None:
        import pyvips

        self.path = str(path)
        self.open = pyvips.Image.new_from_file
        self.region = pyvips.Region.new(self.open(self.path))

    def tiles(self, corners: Corners, factor: int) -> RGB:
        side = SIDE * factor
        data = (self.region.fetch(x, y, side, side) for x, y in corners.tolist())
        parts = (np.frombuffer(one, np.uint8).reshape(side, side, -1)[..., :3] for one in data)
        return np.stack([_reduced(np.asarray(part), factor) for part in parts])

    def view(self, factor: int) -> RGB:
        image = self.open(self.path, page=LEVELS.index(factor // 2), access="sequential")
        return np.asarray(image.shrink(2, 2).numpy()[..., :3])


class InThreads:
    """A reader that has no threads of its own: one handle a thread, an equal share for each."""

    def __init__(self, opened: Callable[[Path], Reader], path: Path, threads: int) -> None:
        self.readers = [opened(path) for _ in range(threads)]
        self.pool = ThreadPoolExecutor(threads)

    def tiles(self, corners: Corners, factor: int) -> RGB:
        shares = np.array_split(corners, len(self.readers))
        jobs = [
            self.pool.submit(reader.tiles, share, factor)
            for reader, share in zip(self.readers, shares, strict=True)
            if len(share)
        ]
        return np.concatenate([job.result() for job in jobs])

    def view(self, factor: int) -> RGB:
        return self.readers[0].view(factor)


OPENED: dict[str, Callable[[Path], Reader]] = {
    "openslide": open_openslide,
    "saccade": Saccade,
    "cucim": CuCIM,
    "pyvips": Pyvips,
    "tiffslide": open_tiffslide,
    "tifffile + zarr": TifffileZarr,
    "large_image": LargeImage,
}

PACKAGES = (
    "saccade", "imagecodecs", "simplejpeg", "openslide-python", "openslide-bin", "cucim-cu12",
    "pyvips-binary", "tiffslide", "tifffile", "zarr", "large-image-source-tiff", "pillow", "numpy",
)  # fmt: skip


def opened(name: str, path: Path, threads: int = 1) -> Reader:
    """Open a slide with the reader of that name, for so many threads."""
    if threads == 1:
        return OPENED[name](path)
    if name == "saccade":
        return Saccade(path, threads)
    return InThreads(OPENED[name], path, threads)


def _small(image: Any, factor: int) -> Any:
    return image.reduce(factor) if factor > 1 else image


def _reduced(pixels: NDArray[Any], factor: int) -> RGB:
    from PIL import Image

    return pixels if factor == 1 else np.asarray(Image.fromarray(pixels).reduce(factor))
