"""Slides of a training run with what is known of them; broken ones are named and left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from saccade.pipeline.annotations.balanced import Aim
from saccade.pipeline.annotations.class_cells import ClassCells, count_classes
from saccade.pipeline.annotations.config import AnnotationsConfig
from saccade.pipeline.annotations.open_truth import annotation_path, open_truth
from saccade.pipeline.errors import SheetError, TargetError
from saccade.pipeline.open_slides import SlideRef
from saccade.pipeline.sheet import SheetRow
from saccade.tiling import open_slide
from saccade.tiling.errors import SlideError
from saccade.tiling.hashing import file_hash


class TileScale(Protocol):
    """How large tiles are."""

    @property
    def size_px(self) -> int: ...  # noqa: D102
    @property
    def mpp(self) -> float: ...  # noqa: D102


class RunOnTiles(Protocol):
    """What the settings of a run on tiles of annotated slides have to say."""

    @property
    def annotations(self) -> AnnotationsConfig: ...  # noqa: D102
    @property
    def tiles(self) -> TileScale: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class AnnotatedSlide:
    """A slide that can be trained on.

    Attributes:
        name: in the sheet.
        ref: where it lies.
        size_l0: (width, height).
        side_l0: (x, y) level-0 pixels that a tile spans.
        cells: its truth, and where each class lies.
    """

    name: str
    ref: SlideRef
    size_l0: tuple[int, int]
    side_l0: tuple[float, float]
    cells: ClassCells


@dataclass(frozen=True, slots=True)
class AnnotatedSlides:
    """What a run sees.

    Attributes:
        train: to fit.
        val: to choose the best epoch by; may be empty.
        hashes: content hash of each slide and of its annotations, by name.
        failures: what was wrong with each slide that was left out, by name.
    """

    train: list[AnnotatedSlide] = field(default_factory=list)
    val: list[AnnotatedSlide] = field(default_factory=list)
    hashes: dict[str, list[str]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def load_annotated(
    rows: Sequence[SheetRow],
    config: RunOnTiles,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> AnnotatedSlides:
    """Open every slide of the splits train and val once, and look through its annotations.

    Args:
        rows: of the sheet; other splits are passed over, and labels are not asked for.
        config: where annotations lie, and the scale of tiles.
        progress: called with (done, all).

    Raises:
        SheetError: if no training slide can be used.
    """
    slides = AnnotatedSlides()
    wanted = [row for row in rows if row.split in ("train", "val")]
    for done, row in enumerate(wanted, start=1):
        try:
            slide, hashes = _load(row, config)
        except (SlideError, TargetError) as error:
            slides.failures[row.slide] = str(error)
        else:
            (slides.train if row.split == "train" else slides.val).append(slide)
            slides.hashes[row.slide] = hashes
        if progress:
            progress(done, len(wanted))
    if not slides.train:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in slides.failures.items())
        raise SheetError(f"training wants slides with split `train`; found none.{reasons}")
    return slides


def _load(row: SheetRow, config: RunOnTiles) -> tuple[AnnotatedSlide, list[str]]:
    tiles = config.tiles
    with open_slide(row.path, mpp=row.mpp) as slide:
        truth = open_truth(config.annotations, row.slide, slide)
        cells = count_classes(truth, slide, tiles.mpp)
        across, down = slide.downsample_for(tiles.mpp)
        size_l0, slide_hash = slide.size_l0, slide.content_hash
    if not cells.counts.any():
        raise TargetError(f"{row.slide}: the class of no pixel of it is known.")
    side_l0 = tiles.size_px * across, tiles.size_px * down
    source = file_hash(annotation_path(config.annotations, row.slide))
    ref = SlideRef(row.path, row.mpp)
    return AnnotatedSlide(row.slide, ref, size_l0, side_l0, cells), [slide_hash, source]


def grid_of(number: int, slide: AnnotatedSlide, most: int) -> list[Aim]:
    """Tiles side by side over a slide; of more than `most`, as many that lie evenly spread.

    Args:
        number: that the aims are to have.
        slide: whose.
        most: how many.
    """
    columns, rows = (
        np.rint(np.arange(0, size, side)).astype(int)
        for size, side in zip(slide.size_l0, slide.side_l0, strict=True)
    )
    corners = [(int(x), int(y)) for y in rows for x in columns]
    if len(corners) > most:
        corners = [corners[i] for i in np.linspace(0, len(corners) - 1, most).astype(int)]
    return [Aim(number, None, corner) for corner in corners]
