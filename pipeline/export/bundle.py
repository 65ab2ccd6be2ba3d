"""From a slide's folder of results to a folder for another tool."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from saccade.pipeline.errors import ConfigError, ResultsError
from saccade.pipeline.export.geojson import write_tiles_geojson
from saccade.pipeline.export.ometiff import write_heatmap
from saccade.pipeline.export.tables import read_tiles_csv
from saccade.pipeline.files import atomic_path
from saccade.tiling.grid import CellGrid

TOOLS = ("qupath",)
SCRIPT = "open_in_qupath.groovy"
_SOURCES = ("record.json", "prediction.json", "tiles.csv", "attention.ome.tif")


def export_results(folder: Path, to: str, *, crop: bool = True) -> Path:
    """Write `folder/qupath`: the tiles, the heatmap, and a script that shows both in QuPath.

    Args:
        folder: results of one slide, as `saccade predict` leaves them.
        to: name of the tool; qupath.
        crop: take the corner of the slide's bounds, where it has any (MRXS), off all coordinates,
            since QuPath shows the scanned area alone unless a slide is opened with `--no-crop`.

    Returns:
        The folder that was written.

    Raises:
        ConfigError: for a tool that is not known.
        ResultsError: if the folder holds no finished prediction.
    """
    if to not in TOOLS:
        raise ConfigError(f"--to {to}: is not known; known: {', '.join(TOOLS)}.")
    for name in _SOURCES:
        if not (folder / name).is_file():
            raise ResultsError(
                f"{folder}: holds no {name}; wanted the --out of a finished `saccade predict`."
            )
    prediction = json.loads((folder / "prediction.json").read_text(encoding="utf-8"))
    attention = tifffile.imread(folder / "attention.ome.tif", level=0)
    cell = prediction["cell_l0"]
    grid = CellGrid(attention.shape, (cell[0], cell[1]))
    bounds = prediction["bounds_l0"] if crop else None
    out = folder / to
    _write_tiles(folder, out, prediction, grid, bounds)
    _write_heatmap(attention, out, prediction, grid, bounds)
    with atomic_path(out / SCRIPT) as partial:
        script = files("saccade.pipeline.export").joinpath(SCRIPT)
        partial.write_bytes(script.read_bytes())
    return out


def _write_tiles(
    folder: Path, out: Path, prediction: dict[str, Any], grid: CellGrid, bounds: list[int] | None
) -> None:
    places, measurements = read_tiles_csv(folder / "tiles.csv", grid=grid)
    write_tiles_geojson(
        out / "attention.geojson",
        places,
        measurements,
        slide_id=prediction["content_hash"],
        bounds_l0=None if bounds is None else (bounds[0], bounds[1], bounds[2], bounds[3]),
    )


def _write_heatmap(
    attention: NDArray[np.float32],
    out: Path,
    prediction: dict[str, Any],
    grid: CellGrid,
    bounds: list[int] | None,
) -> None:
    mpp = prediction["slide_mpp"]
    corner = (0, 0) if bounds is None else (-bounds[0], -bounds[1])
    write_heatmap(
        out / "attention.ome.tif",
        attention,
        replace(grid, origin_l0=corner),
        slide_mpp=(mpp[0], mpp[1]),
        channel_names=["attention"],
        name=f"{prediction['slide']} attention",
        description=prediction["attention"],
    )
