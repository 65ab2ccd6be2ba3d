"""Slides made on the fly, small and of every kind that Saccade reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image

RGB = NDArray[np.uint8]


def gradient(width: int, height: int) -> RGB:
    """Red rises by columns, green by rows, linearly from 10 to 245; blue is half way."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(10, 245, width).round()[None, :]
    pixels[..., 1] = np.linspace(10, 245, height).round()[:, None]
    pixels[..., 2] = 128
    return pixels


def tissue_like(width: int, height: int, seed: int = 0) -> RGB:
    """White with a pink, textured ellipse; smooth enough to survive JPEG."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(90, 210, (max(height // 16, 2), max(width // 16, 2), 3)).astype(np.uint8)
    texture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    rows, cols = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    inside = (rows / 0.7) ** 2 + (cols / 0.6) ** 2 < 1
    pink = (texture * np.array([0.95, 0.6, 0.85])).astype(np.uint8)
    return np.where(inside[..., None], pink, np.uint8(243))


def halved(pixels: NDArray[Any]) -> NDArray[Any]:
    """Exact 2 x 2 means; an odd last row or column is left out."""
    rows, cols = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
    blocks = pixels[:rows, :cols].reshape(rows // 2, 2, cols // 2, 2, *pixels.shape[2:])
    return np.asarray(blocks.mean(axis=(1, 3)).round().astype(pixels.dtype))


def pyramid_of(pixels: NDArray[Any], levels: int) -> list[NDArray[Any]]:
    """`levels` images, each half as large as the one before."""
    images = [pixels]
    while len(images) < levels:
        images.append(halved(images[-1]))
    return images


def _resolution(mpp: float | None) -> dict[str, Any]:
    if mpp is None:
        return {"resolution": (1, 1), "resolutionunit": "NONE"}
    return {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}


def write_pyramid_tiff(
    path: Path,
    pixels: RGB,
    *,
    mpp: float | None = 0.5,
    levels: int = 3,
    tile: int = 256,
    compression: str = "jpeg",
    quality: int = 90,
) -> Path:
    """A pyramidal tiled TIFF that OpenSlide opens as generic-tiff.

    tifffile stores JPEG tiles as YCbCr by itself; asked for it by name it would do so twice.
    """
    options: dict[str, Any] = {"compressionargs": {"level": quality}}
    with tifffile.TiffWriter(path) as tif:
        for i, image in enumerate(pyramid_of(pixels, levels)):
            tif.write(
                image,
                photometric="rgb",
                tile=(tile, tile),
                compression=compression,
                subfiletype=1 if i else 0,
                metadata=None,
                **(options if compression == "jpeg" else {}),
                **_resolution(None if mpp is None else mpp * 2**i),
            )
    return path


def write_svs(
    path: Path,
    pixels: RGB,
    *,
    levels: int = 2,
    tile: int = 256,
    facts: str = "AppMag = 20|MPP = 0.5",
) -> Path:
    """Like a slide of an Aperio scanner: levels in tiles; thumbnail, label and macro in strips."""
    images = pyramid_of(pixels, levels)
    height, width = pixels.shape[:2]
    about = (
        f"Aperio Image Library v11.2.1 \r\n{width}x{height} ({tile}x{tile}) JPEG/RGB Q=90|{facts}"
    )
    jpeg = {"compression": "jpeg", "compressionargs": {"level": 90}, "photometric": "rgb"}
    common: dict[str, Any] = {"metadata": None, "software": False}
    with tifffile.TiffWriter(path) as tif:
        tif.write(images[0], tile=(tile, tile), description=about, **jpeg, **common)
        small = np.ascontiguousarray(images[-1][::2, ::2])
        tif.write(small, description=about, rowsperstrip=16, **jpeg, **common)
        for image in images[1:]:
            tif.write(image, tile=(tile, tile), description=about, **jpeg, **common)
        for name, kind in (("label", 1), ("macro", 9)):
            words = f"Aperio Image Library v11.2.1\r\n{name} 64x48"
            lzw = {"compression": "lzw", "photometric": "rgb", "rowsperstrip": 16}
            tif.write(gradient(64, 48), description=words, subfiletype=kind, **lzw, **common)
    return path


def write_flat_tiff(
    path: Path,
    pixels: NDArray[Any],
    *,
    compression: str | None = None,
    tile: int | None = None,
    rows_per_strip: int | None = None,
    mpp: float | None = None,
    **options: Any,
) -> Path:
    """A TIFF of one level in tiles or strips; strips are what OpenSlide refuses."""
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    if options.get("planarconfig") == "separate":
        pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    tifffile.imwrite(
        path,
        pixels,
        **{"photometric": photometric, "metadata": None, **_resolution(mpp), **options},
        compression=compression,
        tile=None if tile is None else (tile, tile),
        rowsperstrip=rows_per_strip,
    )
    return path


def write_large_flat_tiff(
    path: Path, size: int, *, mpp: float | None = 0.25, tile: int = 512, kinds: int = 16
) -> Path:
    """A flat JPEG TIFF of `size` x `size` pixels, written tile by tile; 30720 takes seconds.

    White with a disc of tissue in the middle, made of a few tiles over and over.
    """
    half = tile // 2
    tissue = [
        tissue_like(tile * 2, tile * 2, seed)[half:-half, half:-half] for seed in range(kinds)
    ]
    glass = np.full((tile, tile, 3), 243, np.uint8)
    count = -(-size // tile)

    def tiles() -> Iterator[RGB]:
        for row in range(count):
            for col in range(count):
                away = ((row + 0.5) / count - 0.5) ** 2 + ((col + 0.5) / count - 0.5) ** 2
                yield tissue[(row * 7 + col) % kinds] if away < 0.09 else glass

    tifffile.imwrite(
        path,
        tiles(),
        shape=(size, size, 3),
        dtype=np.uint8,
        photometric="rgb",
        tile=(tile, tile),
        compression="jpeg",
        compressionargs={"level": 80},
        metadata=None,
        **_resolution(mpp),
    )
    return path


def write_ome_tiff(
    path: Path,
    pixels: NDArray[Any],
    *,
    mpp: float | None = 0.5,
    levels: int = 3,
    tile: int | None = 128,
    compression: str | None = "deflate",
    axes: str = "YXS",
    **metadata: Any,
) -> Path:
    """An OME-TIFF with its lower levels as SubIFDs. `axes` "CYX" stores channels one by one."""
    channels_first = axes == "CYX"
    upright = np.moveaxis(pixels, 0, -1) if channels_first else pixels
    images = pyramid_of(upright, levels)
    facts: dict[str, Any] = {"axes": axes, **metadata}
    if mpp is not None:
        facts |= {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": "\u00b5m"}
        facts |= {"PhysicalSizeY": mpp, "PhysicalSizeYUnit": "\u00b5m"}
    options: dict[str, Any] = {
        "photometric": "minisblack" if channels_first else "rgb",
        "tile": None if tile is None else (tile, tile),
        "compression": compression,
    }
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as tif:
        for i, image in enumerate(images):
            stored = np.ascontiguousarray(np.moveaxis(image, -1, 0)) if channels_first else image
            if i == 0:
                tif.write(stored, subifds=levels - 1, metadata=facts, **options)
            else:
                tif.write(stored, subfiletype=1, **options)
    return path


def write_ome_zarr(
    path: Path,
    pixels: NDArray[Any],
    *,
    mpp: float | None = 0.5,
    levels: int = 3,
    version: Literal["0.4", "0.5"] = "0.5",
    chunk: int = 128,
    unit: str | None = "micrometer",
) -> Path:
    """An OME-Zarr image with axes c, y, x of (rows, cols, channels)."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    datasets = []
    for i, image in enumerate(pyramid_of(pixels, levels)):
        stored = np.ascontiguousarray(np.moveaxis(image, -1, 0))
        group.create_array(str(i), data=stored, chunks=(1, chunk, chunk))
        step = (mpp if mpp is not None else 1.0) * 2.0**i
        scale = {"type": "scale", "scale": [1.0, step, step]}
        datasets.append({"path": str(i), "coordinateTransformations": [scale]})
    space: dict[str, Any] = {"type": "space", **({"unit": unit} if unit and mpp else {})}
    axes = [{"name": "c", "type": "channel"}, {"name": "y", **space}, {"name": "x", **space}]
    multiscales = [{"axes": axes, "datasets": datasets, "name": path.stem}]
    if version == "0.4":
        group.attrs["multiscales"] = [{**multiscales[0], "version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    return path


def write_image(path: Path, pixels: RGB, **options: Any) -> Path:
    """A PNG, JPEG or BMP, by the name's ending."""
    Image.fromarray(pixels).save(path, **options)
    return path
