"""The slides of a training run: opened, glanced at, labelled; broken ones named and left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from saccade.pipeline.config import RunConfig
from saccade.pipeline.errors import RegionError, ResultsError, SheetError
from saccade.pipeline.look import Subject
from saccade.pipeline.prior import PRIOR, Prior
from saccade.pipeline.ranks import Ranks
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.sheet import SheetRow
from saccade.pipeline.tasks.truth import Target, Truth
from saccade.pipeline.thumbnails import ensure_pyramid
from saccade.tiling.errors import SlideError

_ALONE = Ranks()


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
        priors: hash of the prior of each slide, by name; empty without priors.
        failures: what was wrong with each slide that was left out, by name.
    """

    train: list[Example]
    val: list[Example]
    truth: Truth
    hashes: dict[str, str]
    priors: dict[str, str]
    failures: dict[str, str]


def load_cohort(
    rows: Sequence[SheetRow],
    truth: Truth,
    pyramids: Path,
    config: RunConfig,
    *,
    stride: int,
    progress: Callable[[int, int], None] | None = None,
    ranks: Ranks = _ALONE,
) -> Cohort:
    """Open every labelled slide of the splits train and val, and look at it once.

    Args:
        rows: of the sheet; other splits and slides of which nothing is known are passed over.
        truth: how they are labelled.
        pyramids: folder that holds `<slide>/pyramid.zarr`; what is missing is built there.
        config: scales of pyramid and view.
        stride: view pixels per place of attention.
        progress: called with (done, all).
        ranks: processes that load the same cohort; each builds its share of the pyramids first.

    Raises:
        SheetError: if a label is not what the task wants, or the slides that can be used do not
            hold what training needs.
    """
    labelled = [(row, truth.target(row)) for row in rows if row.split in ("train", "val")]
    wanted = [(row, target) for row, target in labelled if target is not None]
    all_rows = [row for row, _ in wanted]
    load = partial(_load_all, pyramids=pyramids, config=config, stride=stride, progress=progress)
    known: dict[str, str] = {}
    if ranks.count > 1:  # each builds its share of the pyramids, before any of them opens all
        _, failed = load(ranks.share(all_rows))
        known = ranks.merged(failed)
    loaded, failed = load([row for row in all_rows if row.slide not in known])
    # What one process cannot open is left out by all: the others would wait for it.
    failures = ranks.merged(known | failed)
    examples: dict[str, list[Example]] = {"train": [], "val": []}
    for row, target in wanted:
        if row.slide not in failures:
            examples[row.split].append(Example(loaded[row.slide].subject, target))
    used = {slide: found for slide, found in loaded.items() if slide not in failures}
    hashes = {slide: found.content for slide, found in used.items()}
    priors = {slide: found.prior for slide, found in used.items() if found.prior is not None}
    _check(truth, examples, failures)
    return Cohort(examples["train"], examples["val"], truth, hashes, priors, failures)


class _Loaded(NamedTuple):
    """A slide, with the hashes of its content and of its prior."""

    subject: Subject
    content: str
    prior: str | None


def _load_all(
    rows: Sequence[SheetRow],
    *,
    pyramids: Path,
    config: RunConfig,
    stride: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, _Loaded], dict[str, str]]:
    """Each slide by its name; and what was wrong with those that are not there."""
    loaded, failures = {}, {}
    for done, row in enumerate(rows, start=1):
        try:
            loaded[row.slide] = _load(row, pyramids, config, stride)
        except (SlideError, RegionError, ResultsError) as error:
            failures[row.slide] = str(error)
        if progress:
            progress(done, len(rows))
    return loaded, failures


def _load(row: SheetRow, pyramids: Path, config: RunConfig, stride: int) -> _Loaded:
    ref = SlideRef(row.path, row.mpp)
    with ref.open() as slide:
        pyramid = ensure_pyramid(slide, pyramids / row.slide / "pyramid.zarr", config.pyramid)
        subject = Subject.seen(
            ref,
            slide,
            pyramid,
            view=config.view,
            tiles=config.tiles,
            stride=stride,
            name=row.slide,
        )
        folder = config.training.priors
        if folder is None:
            return _Loaded(subject, slide.content_hash, None)
        prior = Prior.read(Path(folder) / row.slide / PRIOR)
        explored = prior.shown_to(subject, slide.content_hash)
        return _Loaded(explored, slide.content_hash, prior.hash)


def _check(
    truth: Truth, examples: Mapping[str, Sequence[Example]], failures: Mapping[str, str]
) -> None:
    train, val = ([each.target for each in examples[split]] for split in ("train", "val"))
    if lacking := truth.lacking(train, val):
        reasons = "".join(f"\n  {slide}: {reason}" for slide, reason in failures.items())
        raise SheetError(f"{lacking}{reasons}")
