"""Heatmaps as pyramidal float OME-TIFF, for QuPath, Fiji, napari and whatever uses Bio-Formats."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import tifffile
from numpy.typing import NDArray

from saccade.pipeline.files import atomic_path
from saccade.tiling.grid import CellGrid

_SMALLEST_LEVEL_PX = 64
_TILE_PX = 256
_NAMESPACE = uuid5(NAMESPACE_URL, "saccade:heatmap")


def write_heatmap(
    path: Path,
    values: NDArray[np.floating[Any]],
    grid: CellGrid,
    *,
    slide_mpp: tuple[float, float],
    channel_names: Sequence[str],
    name: str,
    description: str,
) -> None:
    """Write a field over a grid as an image whose pixels are the grid's cells.

    Pixel (row, col) covers the slide's level-0 pixels from `origin_l0 + (col, row) * cell_l0` as
    far as `origin_l0 + (col + 1, row + 1) * cell_l0`. The file says so in a map annotation
    (`cell_width_l0`, `cell_height_l0`, `origin_x_l0`, `origin_y_l0`); the size of a pixel is also
    recorded in micrometres, and the upper-left corner of pixel (0, 0) as the position of the plane,
    in micrometres from the upper-left corner of level 0.

    Viewers have no place for "nothing here", so cells without a value (NaN, minus infinity: outside
    the tissue) are written as 0. Write attention or a probability, for which 0 means none, not its
    logarithm. Coarser levels hold means of 2 x 2 pixels, so that a pixel of any level is a density.

    Args:
        path: where to write; ends in `.ome.tif` or `.ome.tiff`, as readers go by the name.
        values: (rows, cols) or (channels, rows, cols).
        grid: where the cells lie.
        slide_mpp: (x, y) micrometres per level-0 pixel of the slide.
        channel_names: what each channel shows.
        name: of the image, as viewers list it.
        description: what the values are, for a reader who has only this file.

    Raises:
        ValueError: if the values do not fit the grid or the names, or one is plus infinity.
    """
    channels = _channels(values, grid, channel_names)
    levels = _levels(channels)
    cell_um = [grid.cell_l0[i] * slide_mpp[i] for i in (0, 1)]
    with atomic_path(path) as temporary, tifffile.TiffWriter(temporary, ome=True) as tiff:
        options: dict[str, Any] = {
            "photometric": "minisblack",
            "tile": (_TILE_PX, _TILE_PX),
            "compression": "zlib",
            "predictor": False,  # Bio-Formats cannot undo the floating-point predictor
        }
        tiff.write(
            levels[0],
            subifds=len(levels) - 1,
            resolution=(1e4 / cell_um[0], 1e4 / cell_um[1]),
            resolutionunit="CENTIMETER",
            software="Saccade",
            metadata=_metadata(levels[0], grid, slide_mpp, channel_names)
            | {"Name": name, "Description": description},
            **options,
        )
        for level in levels[1:]:
            tiff.write(level, subfiletype=1, metadata=None, **options)


def _channels(
    values: NDArray[np.floating[Any]], grid: CellGrid, names: Sequence[str]
) -> NDArray[np.float32]:
    """(channels, rows, cols), checked, with 0 where there is no value."""
    channels = np.array(values if values.ndim == 3 else values[None], np.float32)
    if channels.shape != (len(names), *grid.shape):
        raise ValueError(
            f"values need the shape {(len(names), *grid.shape)} of channel_names and grid, "
            f"but have {values.shape}."
        )
    if np.isposinf(channels).any():
        raise ValueError("a heatmap cannot show plus infinity; find out where it comes from.")
    channels[~np.isfinite(channels)] = 0
    return channels


def _levels(channels: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Resolutions, finest first, each half the one before."""
    levels = [channels]
    while max(levels[-1].shape[1:]) > _SMALLEST_LEVEL_PX and min(levels[-1].shape[1:]) > 1:
        levels.append(_halve(levels[-1]))
    return levels


def _halve(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of 2 x 2 pixels; a last odd row or column counts twice."""
    odd_rows, odd_cols = channels.shape[1] % 2, channels.shape[2] % 2
    even = np.pad(channels, ((0, 0), (0, odd_rows), (0, odd_cols)), mode="edge")
    count, rows, cols = even.shape
    blocks = even.reshape(count, rows // 2, 2, cols // 2, 2)
    means: NDArray[np.float32] = blocks.mean(axis=(2, 4), dtype=np.float64).astype(np.float32)
    return means


def _metadata(
    channels: NDArray[np.float32],
    grid: CellGrid,
    slide_mpp: tuple[float, float],
    channel_names: Sequence[str],
) -> dict[str, Any]:
    """What tifffile turns into OME-XML."""
    (width_l0, height_l0), (x_l0, y_l0) = grid.cell_l0, grid.origin_l0
    count = len(channel_names)
    return {
        "axes": "CYX",
        # From the content, so that the same heatmap gives the same bytes.
        "UUID": str(uuid5(_NAMESPACE, sha256(channels.tobytes()).hexdigest())),
        "Creator": "Saccade",
        "Channel": {"Name": list(channel_names)},
        "PhysicalSizeX": width_l0 * slide_mpp[0],
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": height_l0 * slide_mpp[1],
        "PhysicalSizeYUnit": "µm",
        "Plane": {
            "PositionX": [x_l0 * slide_mpp[0]] * count,
            "PositionXUnit": ["µm"] * count,
            "PositionY": [y_l0 * slide_mpp[1]] * count,
            "PositionYUnit": ["µm"] * count,
        },
        "MapAnnotation": {
            "Namespace": "saccade/grid",
            "Value": {
                "cell_width_l0": width_l0,
                "cell_height_l0": height_l0,
                "origin_x_l0": x_l0,
                "origin_y_l0": y_l0,
            },
        },
    }
