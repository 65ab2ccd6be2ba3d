"""Makers of pyramids under one interface: Saccade and its peers, each used as its users do.

`THUMBNAILS` make levels from 1/8 of the slide down, `FULL` from the slide's own pixels down, each
level half of the one before, until none of its sides is longer than 512 px. All use as many
threads as they are told, stream or read lazily where they can, and keep their own codec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from threading import local
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from slides_made import RGB, SIDE

Maker = Callable[[Path, Path, int], None]
"""Makes `out` (a file or a folder, without an ending) of `slide` in so many threads."""

THUMBNAIL, SMALLEST = 8, 512
_BLOCK, _CHUNK = 2048, 512


def decode_all(slide: Path, out: Path, threads: int) -> None:
    """The floor: every tile once, nothing kept, nothing written."""
    import imagecodecs

    _each_tile(slide, threads, imagecodecs.jpeg8_decode)


def decode_small(slide: Path, out: Path, threads: int) -> None:
    """The floor of a decoder that shrinks as it decodes."""
    import simplejpeg

    side = SIDE // THUMBNAIL
    _each_tile(
        slide,
        threads,
        lambda data: simplejpeg.decode_jpeg(
            data, min_height=side, min_width=side, min_factor=1, fastupsample=False
        ),
    )


def _each_tile(slide: Path, threads: int, decode: Callable[[bytes], object]) -> None:
    with tifffile.TiffFile(slide) as tif:
        page = tif.pages[0].aspage()
        stored = list(zip(page.dataoffsets, page.databytecounts, strict=True))

    def share(part: list[tuple[int, int]]) -> None:
        with slide.open("rb") as file:
            for offset, count in part:
                file.seek(offset)
                decode(file.read(count))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(share, [stored[i : i + 256] for i in range(0, len(stored), 256)]))


def saccade(slide: Path, out: Path, threads: int) -> None:
    _saccade(slide, out, threads)


def saccade_full(slide: Path, out: Path, threads: int) -> None:
    _saccade(slide, out, threads, full=True)


def _saccade(slide: Path, out: Path, threads: int, **options: Any) -> None:
    from saccade.tiling import open_slide
    from saccade.tiling.pyramid import build_pyramid

    with open_slide(slide) as source:
        build_pyramid(source, out, workers=threads, **options)


def openslide_pillow(slide: Path, out: Path, threads: int) -> None:
    """Blocks by `read_region`, means by Pillow, a TIFF in the end; one handle in each thread."""
    import openslide
    from PIL import Image

    handles = local()

    def small(corner: tuple[int, int]) -> RGB:
        if not hasattr(handles, "slide"):
            handles.slide = openslide.OpenSlide(slide)
        block = handles.slide.read_region(corner, 0, (_BLOCK, _BLOCK)).convert("RGB")
        return np.asarray(block.reduce(THUMBNAIL))

    width, height = openslide.OpenSlide(slide).dimensions
    level = np.empty((height // THUMBNAIL, width // THUMBNAIL, 3), np.uint8)
    corners = list(product(range(0, width, _BLOCK), range(0, height, _BLOCK)))
    with ThreadPoolExecutor(threads) as pool:
        for (x, y), block in zip(corners, pool.map(small, corners), strict=True):
            top, left = y // THUMBNAIL, x // THUMBNAIL
            level[top : top + len(block), left : left + block.shape[1]] = block
    with tifffile.TiffWriter(out) as tif:
        while True:
            tif.write(level, tile=(SIDE, SIDE), photometric="rgb", compression="zlib")
            if max(level.shape) <= SMALLEST:
                return
            level = np.asarray(Image.fromarray(level).reduce(2))


def libvips(slide: Path, out: Path, threads: int) -> None:
    """Streamed through `shrink`, which takes means of blocks. Threads: VIPS_CONCURRENCY."""
    import pyvips

    image = pyvips.Image.new_from_file(str(slide), access="sequential")
    _save(image.shrink(THUMBNAIL, THUMBNAIL), out, compression="deflate")


def libvips_full(slide: Path, out: Path, threads: int) -> None:
    """Streamed into a pyramidal TIFF; level 0 is encoded again, at the slide's own quality."""
    import pyvips

    image = pyvips.Image.new_from_file(str(slide), access="sequential")
    _save(image, out, compression="jpeg", Q=80)


def _save(image: Any, out: Path, **codec: Any) -> None:
    image.tiffsave(
        str(out), pyramid=True, tile=True, tile_width=SIDE, tile_height=SIDE, bigtiff=True, **codec
    )


def _dask_of(slide: Path, threads: int) -> Any:
    """Level 0 as a lazy array (row, col, channel) in blocks of several source tiles."""
    import dask
    import dask.array as da
    import zarr

    dask.config.set(scheduler="threads", num_workers=threads)
    array = zarr.open_array(tifffile.TiffFile(slide).pages[0].aspage().aszarr(), mode="r")
    return da.from_array(array, chunks=(_BLOCK, _BLOCK, 3), name=False)


def _factors(size: int) -> list[int]:
    """2, 4, ... until no side is longer than `SMALLEST`."""
    factors = [2]
    while size // factors[-1] > SMALLEST:
        factors.append(factors[-1] * 2)
    return factors


def dask_zarr(slide: Path, out: Path, threads: int) -> None:
    """Each level from the one that was just written, by `coarsen`; zarr's own codec."""
    import dask.array as da
    import zarr

    level, group = _dask_of(slide, threads), zarr.create_group(out)
    for i in range(len(_factors(level.shape[0])) + 1):
        array = group.create_array(
            str(i), shape=level.shape, chunks=(_CHUNK, _CHUNK, 3), dtype=np.uint8
        )
        da.store(level, array, lock=False)
        written = da.from_array(array, chunks=(_BLOCK, _BLOCK, 3), name=False)
        level = da.coarsen(_rounded_mean, written, {0: 2, 1: 2})


def _rounded_mean(pixels: NDArray[Any], axis: tuple[int, ...] | None = None) -> RGB:
    return np.asarray((pixels.mean(axis=axis, dtype=np.float32) + 0.5).astype(np.uint8))


def ome_zarr_py(slide: Path, out: Path, threads: int) -> None:
    """`write_image` of a lazy array, with local means, which cost it less than its default."""
    from ome_zarr.scale import Methods
    from ome_zarr.writer import write_image

    image = _dask_of(slide, threads).transpose(2, 0, 1)
    write_image(
        image,
        str(out),
        scale_factors=_factors(image.shape[1]),
        method=Methods.LOCAL_MEAN,
        axes="cyx",
        storage_options={"chunks": (3, _CHUNK, _CHUNK)},
    )


def ngff_zarr(slide: Path, out: Path, threads: int) -> None:
    """`to_multiscales` of a lazy array by means of blocks, written by its own engine."""
    import ngff_zarr as nz

    image = nz.to_ngff_image(_dask_of(slide, threads).transpose(2, 0, 1), dims=["c", "y", "x"])
    levels = nz.to_multiscales(
        image,
        scale_factors=_factors(image.data.shape[1]),
        method=nz.Methods.DASK_BIN_SHRINK,
        chunks={"c": 3, "y": _CHUNK, "x": _CHUNK},
    )
    nz.to_ngff_zarr(str(out), levels)


def tensorstore(slide: Path, out: Path, threads: int) -> None:
    """Blocks into a zarr 3 array (zstd), each further level by its `downsample` of the last."""
    import tensorstore as ts
    import zarr

    zarr.create_group(out)
    source = zarr.open_array(tifffile.TiffFile(slide).pages[0].aspage().aszarr(), mode="r")
    context = ts.Context({"data_copy_concurrency": {"limit": threads}})

    def created(name: str, shape: tuple[int, ...]) -> Any:
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(out / name)},
            "metadata": {
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": [_CHUNK, _CHUNK, 3]},
                },
                "codecs": [{"name": "zstd", "configuration": {"level": 1}}],
            },
        }
        return ts.open(spec, create=True, dtype=ts.uint8, shape=shape, context=context).result()

    level = created("0", source.shape)

    def copy(rows: slice, cols: slice) -> None:
        level[rows, cols].write(source[rows, cols]).result()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(copy, *zip(*_blocks(source.shape), strict=True)))
    for i in range(1, len(_factors(source.shape[0])) + 1):
        half = ts.downsample(level, [2, 2, 1], method="mean")
        finer, level = half, created(str(i), half.shape)
        for rows, cols in _blocks(half.shape):
            level[rows, cols].write(finer[rows, cols]).result()


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    for y, x in product(range(0, shape[0], _BLOCK), range(0, shape[1], _BLOCK)):
        yield slice(y, min(y + _BLOCK, shape[0])), slice(x, min(x + _BLOCK, shape[1]))


FLOOR = "floor: decode all"
THUMBNAILS: dict[str, Maker] = {
    FLOOR: decode_all,
    "floor: decode at 1/8": decode_small,
    "saccade": saccade,
    "libvips": libvips,
    "OpenSlide + Pillow": openslide_pillow,
}
FULL: dict[str, Maker] = {
    FLOOR: decode_all,
    "saccade": saccade_full,
    "libvips": libvips_full,
    "tensorstore": tensorstore,
    "dask + zarr": dask_zarr,
    "ngff-zarr": ngff_zarr,
    "ome-zarr-py": ome_zarr_py,
}
PACKAGES = (
    "saccade", "imagecodecs", "simplejpeg", "openslide-python", "openslide-bin", "pyvips-binary",
    "tifffile", "zarr", "dask", "tensorstore", "ngff-zarr", "ome-zarr", "pillow", "numpy",
)  # fmt: skip


def thumbnail_of(out: Path, side: int) -> RGB:
    """The level of `side` pixels that a maker wrote, shape (side, side, 3)."""
    if out.is_file():
        with tifffile.TiffFile(out) as tif:
            (page,) = [one for one in tif.pages if one.aspage().imagewidth == side]
            return np.asarray(page.aspage().asarray()[..., :3])
    import zarr

    from saccade.tiling import jpeg_codec

    jpeg_codec.register()  # other programs have it from the package imagecodecs-zarr
    for _, array in zarr.open_group(out, mode="r").members(max_depth=None):
        if isinstance(array, zarr.Array) and array.ndim == 3 and array.shape.count(side) == 2:
            pixels = np.asarray(array[:])
            return pixels if array.shape[0] == side else np.moveaxis(pixels, 0, -1)
    raise ValueError(f"{out.name} has no level of {side} px.")
