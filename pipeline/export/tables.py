"""Tiles as a table, for people, spreadsheets and data frames."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.export.columns import check_columns, plain_number
from saccade.pipeline.files import atomic_path
from saccade.tiling.grid import CellGrid
from saccade.tiling.places import Places


def write_tiles_csv(
    path: Path, places: Places, columns: Mapping[str, NDArray[Any]], *, grid: CellGrid
) -> None:
    """Write one line per tile that was read, in the order of the draw.

    The columns of every file are `order` (1 is drawn first), `x_l0`, `y_l0` (upper-left corner in
    level-0 pixels), `side_px` and `mpp` (the tile as it was read: pixels, micrometres per pixel),
    `side_l0_x`, `side_l0_y` (what it covers, in level-0 pixels), `cell_row`, `cell_col` (its cell
    of the grid, its pixel in the heatmap) and `probability` (the attention of this cell). Those of
    `columns` follow.

    Args:
        path: where to write.
        places: the tiles.
        columns: (n,) further numbers by name.
        grid: where the places were drawn from.

    Raises:
        ValueError: if a column has no name, not one number per place, or a name that is taken.
    """
    check_columns(columns, len(places))
    table = _place_columns(places, grid)
    if taken := sorted(table.keys() & columns.keys()):
        raise ValueError(f"columns {', '.join(taken)} are written from the places already.")
    table.update(columns)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table)
        writer.writerows(
            [plain_number(n) for n in row] for row in zip(*table.values(), strict=True)
        )


def read_tiles_csv(path: Path, *, grid: CellGrid) -> tuple[Places, dict[str, NDArray[np.float64]]]:
    """Read what `write_tiles_csv` wrote: the places, and the further columns by name."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    rows = np.array(lines, np.float64).reshape(-1, len(header))
    table = dict(zip(header, rows.T, strict=True))
    places = Places(
        corners_l0=np.stack([table["x_l0"], table["y_l0"]], axis=1).astype(np.int64),
        side_px=int(table["side_px"][0]),
        mpp=float(table["mpp"][0]),
        side_l0=(float(table["side_l0_x"][0]), float(table["side_l0_y"][0])),
        cells=(table["cell_row"] * grid.shape[1] + table["cell_col"]).astype(np.int64),
        probability=table["probability"],
    )
    own = _place_columns(places, grid).keys()
    return places, {name: column for name, column in table.items() if name not in own}


def _place_columns(places: Places, grid: CellGrid) -> dict[str, NDArray[Any]]:
    n = len(places)
    row, col = np.divmod(places.cells, grid.shape[1])
    return {
        "order": np.arange(1, n + 1),
        "x_l0": places.corners_l0[:, 0],
        "y_l0": places.corners_l0[:, 1],
        "side_px": np.full(n, places.side_px),
        "mpp": np.full(n, places.mpp),
        "side_l0_x": np.full(n, places.side_l0[0]),
        "side_l0_y": np.full(n, places.side_l0[1]),
        "cell_row": row,
        "cell_col": col,
        "probability": places.probability,
    }
