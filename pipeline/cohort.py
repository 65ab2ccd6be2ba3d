"""The slides of a training run: opened, glanced at, labelled; broken ones named and left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from saccade.pipeline.config import RunConfig
from saccade.pipeline.errors import SheetError
from saccade.pipeline.glance import glance_at
from saccade.pipeline.look import Subject
from saccade.pipeline.ranks import Ranks
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.sheet import SheetRow
from saccade.pipeline.thumbnails import ensure_pyramid
from saccade.tiling.errors import SlideError

_ALONE = Ranks()


@dataclass(frozen=True, slots=True)
class Example:
    """A slide with the index of its class."""

    subject: Subject
    label: int


@dataclass(frozen=True, slots=True)
class Cohort:
    """What a training run sees.

    Attributes:
        train: slides to fit.
        val: slides to choose the best epoch by; may be empty.
        hashes: content hash of each slide, by name.
        failures: what was wrong with each slide that was left out, by name.
    """

    train: list[Example]
    val: list[Example]
    hashes: dict[str, str]
    failures: dict[str, str]


def load_cohort(
    rows: Sequence[SheetRow],
    classes: Sequence[str],
    pyramids: Path,
    config: RunConfig,
    *,
    stride: int,
    progress: Callable[[int, int], None] | None = None,
    ranks: Ranks = _ALONE,
) -> Cohort:
    """Open every labelled slide of the splits train and val, and look at it once.

    Args:
        rows: of the sheet; other splits and slides without a label are passed over.
        classes: names in the order of their indices.
        pyramids: folder that holds `<slide>/pyramid.zarr`; what is missing is built there.
        config: scales of pyramid and view.
        stride: view pixels per place of attention.
        progress: called with (done, all).
        ranks: processes that load the same cohort; each builds its share of the pyramids first.

    Raises:
        SheetError: if fewer than two classes, or no training slide, can be used.
    """
    wanted = [row for row in rows if row.label and row.split in ("train", "val")]
    load = partial(_load_all, pyramids=pyramids, config=config, stride=stride, progress=progress)
    known: dict[str, str] = {}
    if ranks.count > 1:  # each builds its share of the pyramids, before any of them opens all
        _, failed = load(ranks.share(wanted))
        known = ranks.merged(failed)
    loaded, failed = load([row for row in wanted if row.slide not in known])
    # What one process cannot open is left out by all: the others would wait for it.
    failures = ranks.merged(known | failed)
    examples: dict[str, list[Example]] = {"train": [], "val": []}
    for row in wanted:
        if row.slide not in failures:
            subject = loaded[row.slide][0]
            examples[row.split].append(Example(subject, classes.index(row.label)))
    hashes = {slide: found for slide, (_, found) in loaded.items() if slide not in failures}
    _check(examples["train"], classes, failures)
    return Cohort(examples["train"], examples["val"], hashes, failures)


def _load_all(
    rows: Sequence[SheetRow],
    *,
    pyramids: Path,
    config: RunConfig,
    stride: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, tuple[Subject, str]], dict[str, str]]:
    """Each slide by its name, with its hash; and what was wrong with those that are not there."""
    loaded, failures = {}, {}
    for done, row in enumerate(rows, start=1):
        try:
            loaded[row.slide] = _load(row, pyramids, config, stride)
        except SlideError as error:
            failures[row.slide] = str(error)
        if progress:
            progress(done, len(rows))
    return loaded, failures


def _load(row: SheetRow, pyramids: Path, config: RunConfig, stride: int) -> tuple[Subject, str]:
    ref = SlideRef(row.path, row.mpp)
    with ref.open() as slide:
        pyramid = ensure_pyramid(slide, pyramids / row.slide / "pyramid.zarr", config.pyramid)
        glance = glance_at(pyramid, config.view, stride=stride, name=row.slide)
        tiles = config.tiles
        lattice = slide.lattice_for(tiles.size_px, tiles.mpp, tiles.snap)
        return Subject(row.slide, ref, glance, slide.mpp, lattice), slide.content_hash


def _check(train: Sequence[Example], classes: Sequence[str], failures: Mapping[str, str]) -> None:
    found = {example.label for example in train}
    missing = [name for i, name in enumerate(classes) if i not in found]
    if len(classes) < 2 or missing:
        reasons = "".join(f"\n  {slide}: {reason}" for slide, reason in failures.items())
        lacking = f"none of {', '.join(missing)}" if missing else f"only {len(classes)} class"
        raise SheetError(
            "training wants slides with split `train` of at least two classes; found "
            f"{len(train)} usable slides, {lacking}.{reasons}"
        )
