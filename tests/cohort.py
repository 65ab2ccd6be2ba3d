"""A cohort small enough to train on in a second, and what it takes to spoil one of its slides."""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile
import yaml

from saccade.pipeline.config import (
    ModelConfig,
    RunConfig,
    TilesConfig,
    TrainingConfig,
    ViewConfig,
)
from saccade.pipeline.sheet import COLUMNS, SheetRow
from tests.slides import tissue_like, write_pyramid_tiff

SPLITS = ("train", "train", "train", "train", "val", "val", "test", "test")

TINY = RunConfig(
    view=ViewConfig(mpp=16.0),
    tiles=TilesConfig(per_slide=4, size_px=32),
    model=ModelConfig(attention="residual", encoder="compact"),
    training=TrainingConfig(epochs=2, batch=2, workers=1),
)


@dataclass(frozen=True)
class TinyCohort:
    """Where it lies.

    Attributes:
        rows: of the sheet; slides differ in size, labels are `a` and `b` in turns.
        sheet: slides.csv.
        run: run.yaml, which says what `TINY` says.
    """

    rows: tuple[SheetRow, ...]
    sheet: Path
    run: Path

    def path(self, slide: str) -> Path:
        (found,) = (row.path for row in self.rows if row.slide == slide)
        return found


def make_tiny_cohort(folder: Path) -> TinyCohort:
    rows = []
    for i, split in enumerate(SPLITS):
        pixels = tissue_like(640 + 64 * i, 1024 - 64 * i, seed=i)
        path = write_pyramid_tiff(folder / f"s{i}.tiff", pixels)
        rows.append(SheetRow(f"s{i}", path, "ab"[i % 2], f"p{i}", split))
    run = folder / "run.yaml"
    run.write_text(yaml.safe_dump(dataclasses.asdict(TINY)), encoding="utf-8")
    return TinyCohort(tuple(rows), write_sheet(folder / "slides.csv", rows), run)


def write_sheet(path: Path, rows: list[SheetRow] | tuple[SheetRow, ...]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        for row in rows:
            cells = dataclasses.asdict(row)
            table.writerow({key: "" if cells[key] is None else cells[key] for key in COLUMNS})
    return path


def with_training(**changes: Any) -> RunConfig:
    """`TINY` with other settings of training."""
    return dataclasses.replace(TINY, training=dataclasses.replace(TINY.training, **changes))


def damage_level_0(path: Path) -> None:
    """Make the finest level undecodable; the coarser ones and the directory stay whole."""
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        spans = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    with path.open("r+b") as file:
        for offset, length in spans:
            file.seek(offset)
            file.write(b"\x00" * length)
