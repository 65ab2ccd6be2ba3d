"""A cohort of synthetic slides with known lesions, as files; made anywhere, without a network.

Each slide shows dense dark places. On a benign slide all of them are foci of small round nuclei;
on the others one or two are lesions, which look the same from afar. So a model has to glance to
find the places and to look closely to judge them, and only the label of the slide tells it what
it was looking for.
"""

import csv
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from saccade.pipeline.demo.draw import draw_slide
from saccade.pipeline.demo.lesions import write_lesions
from saccade.pipeline.demo.tiff import write_pyramid
from saccade.pipeline.files import atomic_path, write_json
from saccade.pipeline.sheet import COLUMNS

_DRAWING_VERSION = 1  # raised whenever the same seed would give other pixels
_SETTINGS = "cohort.json"


@dataclass(frozen=True, slots=True)
class CohortSettings:
    """What a cohort is made from; the same settings give the same bytes.

    Attributes:
        slides: how many; half of them, rounded down, have lesions.
        size_px: edge length of level 0, a multiple of 1024.
        mpp: micrometres per pixel of level 0. Cells are drawn at their size in micrometres.
        seed: source of all chance.
    """

    slides: int = 32
    size_px: int = 8192
    mpp: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.slides < 3:
            raise ValueError(f"a cohort to learn from needs at least 3 slides, got {self.slides}.")
        if self.size_px < 1024 or self.size_px % 1024:
            raise ValueError(f"size_px must be a multiple of 1024, got {self.size_px}.")
        if not 0.2 <= self.mpp <= 1:
            raise ValueError(f"cells can be drawn at 0.2 to 1 um/px, got mpp={self.mpp}.")
        if self.size_px * self.mpp < 400:
            raise ValueError(
                f"a slide must be at least 400 um wide to hold its places, got {self.size_px} px "
                f"at {self.mpp} um/px."
            )
        if self.seed < 0:
            raise ValueError(f"the seed must not be negative, got {self.seed}.")


@dataclass(frozen=True, slots=True)
class CohortRow:
    """One slide of the cohort: its number and its columns in slides.csv."""

    index: int
    slide: str
    label: str
    split: str

    @property
    def patient(self) -> str:
        """Every slide is of another patient."""
        return f"patient_{self.index:02d}"


@dataclass(frozen=True, slots=True)
class CohortFiles:
    """Where the cohort lies.

    Attributes:
        sheet: slides.csv, with one row a slide; its paths count from its own folder.
        slides: the slides, in the order of the sheet.
        lesions: for each slide its lesions as GeoJSON in level-0 pixels. For checking: a model
            that sees them has seen the answer.
    """

    sheet: Path
    slides: tuple[Path, ...]
    lesions: tuple[Path, ...]


def make_cohort(
    folder: Path,
    *,
    slides: int = 32,
    size_px: int = 8192,
    mpp: float = 0.5,
    seed: int = 0,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> CohortFiles:
    """Make the slides, their lesions and slides.csv; what is finished already is kept.

    The files are the same to the byte whatever the number of workers.

    Args:
        folder: gets slides.csv, slides/ and lesions/; made if missing.
        slides: how many to make.
        size_px: edge length of level 0, a multiple of 1024. On slides of less than 4096 px the
            lesions take more than 2 % of the tissue.
        mpp: micrometres per pixel of level 0.
        seed: source of all chance.
        workers: processes that draw at the same time.
        progress: called with the number of slides done and of all slides, each time one is done.

    Raises:
        ValueError: if an argument is impossible, or the folder holds a cohort made otherwise.
    """
    settings = CohortSettings(slides=slides, size_px=size_px, mpp=mpp, seed=seed)
    if workers < 1:
        raise ValueError(f"at least one worker must draw, got {workers}.")
    _claim(folder, settings)
    rows = cohort_rows(settings)
    make = partial(_make_slide, folder, settings)
    for done, _ in enumerate(_each(make, rows, workers), start=1):
        if progress is not None:
            progress(done, len(rows))
    _write_sheet(folder / "slides.csv", rows, folder)
    return CohortFiles(
        sheet=folder / "slides.csv",
        slides=tuple(_slide_path(folder, row) for row in rows),
        lesions=tuple(_lesions_path(folder, row) for row in rows),
    )


def cohort_rows(settings: CohortSettings) -> tuple[CohortRow, ...]:
    """Deal labels and splits: a third for the test, an eighth for validation, the rest to train.

    From six slides on, every split holds both labels.
    """
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(2,)))
    count, least = settings.slides, 2 if settings.slides >= 6 else 1
    test, val = max(least, round(count / 3)), max(least, round(count / 8))
    splits = ["test"] * test + ["val"] * val + ["train"] * (count - test - val)
    # Labels alternate along the splits, so that each split has as many of both as it can.
    dealt = [("benign", "lesion")[i % 2] for i in range(count)]
    order = rng.permutation(count).tolist()
    digits = max(2, len(str(count - 1)))
    return tuple(
        CohortRow(i, f"slide_{i:0{digits}d}", dealt[order[i]], splits[order[i]])
        for i in range(count)
    )


def _each(
    make: Callable[[CohortRow], None], rows: tuple[CohortRow, ...], workers: int
) -> Iterator[None]:
    """Make each slide, in this process or in several; yields as each is done."""
    if workers == 1:
        yield from map(make, rows)
        return
    # Spawned, since a fork of a process in which torch runs threads may hang.
    with ProcessPoolExecutor(min(workers, len(rows)), mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(make, row) for row in rows]):
            yield future.result()


def _make_slide(folder: Path, settings: CohortSettings, row: CohortRow) -> None:
    """Draw and write one slide, unless it is there. The slide comes last and so means: done."""
    slide_path, lesions_path = _slide_path(folder, row), _lesions_path(folder, row)
    if slide_path.exists() and lesions_path.exists():
        return
    drawing = draw_slide(
        settings.seed,
        row.index,
        lesion=row.label == "lesion",
        size_px=settings.size_px,
        mpp=settings.mpp,
    )
    write_lesions(lesions_path, [ring.corners_l0() for ring in drawing.layout.lesions])
    with atomic_path(slide_path) as temporary:
        write_pyramid(temporary, drawing, mpp=settings.mpp)


def _slide_path(folder: Path, row: CohortRow) -> Path:
    return folder / "slides" / f"{row.slide}.tiff"


def _lesions_path(folder: Path, row: CohortRow) -> Path:
    return folder / "lesions" / f"{row.slide}.geojson"


def _claim(folder: Path, settings: CohortSettings) -> None:
    """Note in the folder what is made there, or refuse a folder in which it is something else."""
    wanted = {**asdict(settings), "drawing_version": _DRAWING_VERSION}
    note = folder / _SETTINGS
    if not note.exists():
        write_json(note, wanted)
        return
    found = json.loads(note.read_text(encoding="utf-8"))
    if found != wanted:
        raise ValueError(
            f"{folder} holds a cohort made otherwise: wanted {wanted}, found {found}. "
            "Choose another folder, or delete this one."
        )


def _write_sheet(path: Path, rows: tuple[CohortRow, ...], folder: Path) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            slide_path = _slide_path(folder, row).relative_to(path.parent).as_posix()
            writer.writerow(
                {
                    "slide": row.slide,
                    "path": slide_path,
                    "label": row.label,
                    "patient": row.patient,
                    "split": row.split,
                    "mpp": "",  # the files record it
                }
            )
