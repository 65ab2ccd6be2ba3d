"""The slides of a training run: opened, glanced at, labelled; broken ones named and left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from saccade.pipeline.config import RunConfig
from saccade.pipeline.errors import SheetError
from saccade.pipeline.glance import glance_at
from saccade.pipeline.look import Subject
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.sheet import SheetRow
from saccade.pipeline.tasks.truth import Target, Truth
from saccade.pipeline.thumbnails import ensure_pyramid
from saccade.tiling.errors import SlideError


@dataclass(frozen=True, slots=True)
class Example:
    """A slide, and what is known of it as the task wants it."""

    subject: Subject
    target: Target


@dataclass(frozen=True, slots=True)
class Cohort:
    """What a training run sees.

    Attributes:
        train: slides to fit.
        val: slides to choose the best epoch by; may be empty.
        truth: how they are labelled.
        hashes: content hash of each slide, by name.
        failures: what was wrong with each slide that was left out, by name.
    """

    train: list[Example]
    val: list[Example]
    truth: Truth
    hashes: dict[str, str]
    failures: dict[str, str]


def load_cohort(
    rows: Sequence[SheetRow],
    truth: Truth,
    pyramids: Path,
    config: RunConfig,
    *,
    stride: int,
    progress: Callable[[int, int], None] | None = None,
) -> Cohort:
    """Open every labelled slide of the splits train and val, and look at it once.

    Args:
        rows: of the sheet; other splits and slides of which nothing is known are passed over.
        truth: how they are labelled.
        pyramids: folder that holds `<slide>/pyramid.zarr`; what is missing is built there.
        config: scales of pyramid and view.
        stride: view pixels per place of attention.
        progress: called with (done, all).

    Raises:
        SheetError: if a label is not what the task wants, or the slides that can be used do not
            hold what training needs.
    """
    known = [(row, truth.target(row)) for row in rows if row.split in ("train", "val")]
    wanted = [(row, target) for row, target in known if target is not None]
    examples: dict[str, list[Example]] = {"train": [], "val": []}
    hashes, failures = {}, {}
    for done, (row, target) in enumerate(wanted, start=1):
        try:
            subject, hashes[row.slide] = _load(row, pyramids, config, stride)
            examples[row.split].append(Example(subject, target))
        except SlideError as error:
            failures[row.slide] = str(error)
        if progress:
            progress(done, len(wanted))
    _check(truth, examples, failures)
    return Cohort(examples["train"], examples["val"], truth, hashes, failures)


def _load(row: SheetRow, pyramids: Path, config: RunConfig, stride: int) -> tuple[Subject, str]:
    ref = SlideRef(row.path, row.mpp)
    with ref.open() as slide:
        pyramid = ensure_pyramid(slide, pyramids / row.slide / "pyramid.zarr", config.pyramid)
        glance = glance_at(pyramid, config.view, stride=stride, name=row.slide)
        tiles = config.tiles
        lattice = slide.lattice_for(tiles.size_px, tiles.mpp, tiles.snap)
        return Subject(row.slide, ref, glance, slide.mpp, lattice), slide.content_hash


def _check(
    truth: Truth, examples: Mapping[str, Sequence[Example]], failures: Mapping[str, str]
) -> None:
    train, val = ([each.target for each in examples[split]] for split in ("train", "val"))
    if lacking := truth.lacking(train, val):
        reasons = "".join(f"\n  {slide}: {reason}" for slide, reason in failures.items())
        raise SheetError(f"{lacking}{reasons}")
