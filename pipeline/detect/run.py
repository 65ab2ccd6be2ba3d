"""Objects of one slide: from its file to a table, a store, GeoJSON and a picture.

detection_objects.h5   the objects that count, in columns
detection.geojson      the same as QuPath detections
detection.csv          how many there are, by class and by region
detection.png          how dense they are, and places seen closely, for a person
detection.record.json  what ran; written last, so that its presence says that the rest is there

Memory does not depend on the slide but for what each object costs: 60 bytes while those that two
tiles saw are told apart, and a few dozen bytes for each tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from saccade.pipeline.config import PyramidConfig
from saccade.pipeline.detect.counts import count_objects, judged_areas, write_counts
from saccade.pipeline.detect.options import DetectOptions
from saccade.pipeline.detect.picture import Subject, picture_of
from saccade.pipeline.detect.plan import DetectPlan, TileSize, plan_places, plan_tissue
from saccade.pipeline.detect.seams import Candidates, one_of_each
from saccade.pipeline.detect.search import Finder, Progress, Search, candidates, kept_objects
from saccade.pipeline.detection.model_file import load_detection_model, read_detection_card
from saccade.pipeline.export.detection_picture import draw_detections
from saccade.pipeline.export.detections import GeoJsonForm, write_detections_geojson
from saccade.pipeline.files import write_json
from saccade.pipeline.lock import exclusive
from saccade.pipeline.model_file import weights_hash
from saccade.pipeline.objects.batch import ObjectBatch
from saccade.pipeline.objects.log import ObjectLog
from saccade.pipeline.objects.store import ObjectStore, write_object_store
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.record import Record, Stopwatch
from saccade.pipeline.stages.region_of_interest import Region, read_regions
from saccade.pipeline.stages.workshop import workshop
from saccade.pipeline.thumbnails import ensure_pyramid
from saccade.tiling import Slide
from saccade.tiling.pyramid_view import Pyramid

RECORD = "detection.record.json"
STORE, TABLE, PICTURE, STEM = (
    "detection_objects.h5", "detection.csv", "detection.png", "detection"
)  # fmt: skip
OVERLAP_PX = 128
"""Twice a large nucleus at 0.25 um/px; more for models of larger things."""


class Card(Protocol):
    """What a detector says of itself."""

    @property
    def mpp(self) -> float:
        """Micrometres per pixel that it looks at."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what it finds."""

    @property
    def tile_px(self) -> int:
        """Side of the tiles it was trained on."""

    @property
    def network(self) -> str:
        """Its name."""

    @property
    def options(self) -> Any:
        """Of the network; `sides_px` are those of its anchors."""


def detect_slide(
    slide_ref: SlideRef,
    model_path: Path,
    out: Path,
    options: DetectOptions,
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> bool:
    """Find the objects of a slide, each once, and write everything there is to say of them.

    A pyramid of this slide that lies in `out` is used, else one is built. A run that was killed
    goes on after the last batch that was finished, to the same bytes.

    Args:
        slide_ref: the slide.
        model_path: of a detector.
        out: folder of results; those of a prediction may lie there, too.
        options: where to look, and what to make of it.
        name: of the slide; its file's name if not given.
        progress: called with (done, all), first of the pyramid, then of the tiles.

    Returns:
        Whether anything had to be done: False if `out` holds this very result already.

    Raises:
        SlideError: if the slide cannot be read, has no mpp or no tissue.
        ModelFileError: if the model cannot be read.
        RegionError: if regions or places cannot be read, or nothing of the slide lies in them.
        ConfigError: if tiles are not larger than their overlap.
        DivergedError: if the detector gives numbers that are none.
    """
    card = read_detection_card(model_path)
    return run_detection(
        slide_ref,
        Model(weights_hash(model_path), card, lambda: load_detection_model(
            model_path, options.device
        )[0]),
        out,
        options,
        name=name,
        progress=progress,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Model:
    """A detector that is loaded when it is needed.

    Attributes:
        hash: of its file.
        card: what it says of itself.
        load: gives it, in evaluation mode, on the device of the options.
    """

    hash: str
    card: Card
    load: Callable[[], Finder]


def run_detection(
    slide_ref: SlideRef,
    model: Model,
    out: Path,
    options: DetectOptions,
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> bool:
    """`detect_slide` with any model."""
    watch, size = Stopwatch(), tile_size(model.card, options)
    with slide_ref.open() as slide, exclusive(out, "detect"):
        search = {
            "slide": slide.content_hash,
            "slide_mpp": slide.mpp,
            "model": model.hash,
            "tile_px": size.side_px,
            "overlap_px": size.overlap_px,
            **options.of_search,
        }
        record = Record(step="detect", inputs={**search, **options.of_files})
        bounds = slide.info.bounds_l0 if options.crop else None
        form = GeoJsonForm(options.gzip, options.most, bounds)
        whole = all((out / each).exists() for each in (STORE, TABLE, PICTURE, form.name(STEM, 1)))
        if whole and record.matches(out / RECORD) and not options.force:
            return False
        regions = [] if options.region is None else read_regions(options.region)
        finder = model.load()
        pyramid = ensure_pyramid(slide, out / "pyramid.zarr", PyramidConfig(), progress=progress)
        plan = plan_of(slide, pyramid, size, regions, options)
        (out / RECORD).unlink(missing_ok=True)
        identity = {**search, "code": record.code, "plan": plan.fingerprint}
        with workshop(out / STORE, identity) as folder:
            log = ObjectLog(folder / "objects.log")
            counts = Search(slide_ref, plan, finder, options, log, progress).finish()
            found = candidates(log, plan)
            kept = counted_once(found, plan, slide.size_l0, regions, options.nms_iou)
            subject = Subject(
                slide, pyramid, plan, found.take(kept), model.card.classes, model.card.network,
                name or slide.name, regions,
            )  # fmt: skip
            facts = {**record.inputs, "code": record.code, "slide_name": subject.name}
            # Within the workshop: a run that is killed here does not look at the tiles again.
            _write_files(out, subject, kept_objects(log, kept), facts, options, form)
        cost = watch.cost(**counts, objects=int(kept.sum()))
        write_json(out / RECORD, replace(record, cost=cost).as_dict())
        return True


def tile_size(card: Card, options: DetectOptions) -> TileSize:
    """Tiles as they are asked for, or as they suit the model.

    The overlap is twice the longest object that is expected: one and a half times the model's
    largest anchor, where it says that, and 64 pixels at least. Tiles are as large as those that
    the model was trained on, and four times the overlap at least, so that most of each counts.
    """
    overlap = options.overlap_px
    if overlap is None:
        longest = max(card.options.get("sides_px", (0,))) * 1.5
        overlap = max(OVERLAP_PX, 2 * math.ceil(longest))
    side = options.tile_px or max(card.tile_px, 4 * overlap)
    return TileSize(side, overlap, card.mpp)


def plan_of(
    slide: Slide,
    pyramid: Pyramid,
    size: TileSize,
    regions: Sequence[Region],
    options: DetectOptions,
) -> DetectPlan:
    """The tiles that the options ask for."""
    if options.places is not None:
        return plan_places(slide, size, regions)
    return plan_tissue(slide, pyramid, size, regions, least=options.min_tissue)


def counted_once(
    found: Candidates,
    plan: DetectPlan,
    size_l0: tuple[int, int],
    regions: Sequence[Region],
    most_iou: float,
) -> NDArray[np.bool_]:
    """Which candidates are objects that count: one of each, with its centre in what is judged."""
    kept, centres = one_of_each(found, most_iou), found.centres_l0
    stray = np.flatnonzero(kept & ~found.owned)
    kept[stray] = plan.in_any_core(centres[stray])
    kept &= ((centres >= 0) & (centres < size_l0)).all(axis=1)  # tiles overhang the slide
    if regions:
        union = shapely.union_all([each.shape for each in regions])
        shapely.prepare(union)
        kept &= shapely.contains_xy(union, *centres.T)
    return kept


def _write_files(
    out: Path,
    subject: Subject,
    objects: Iterable[ObjectBatch],
    facts: Mapping[str, Any],
    options: DetectOptions,
    form: GeoJsonForm,
) -> None:
    """The store; and from that GeoJSON, table and picture."""
    write_object_store(out / STORE, objects, classes=subject.classes, about=facts)
    store = ObjectStore.open(out / STORE)
    write_detections_geojson(
        out,
        STEM,
        store.batches(),
        classes=store.classes,
        slide_id=subject.slide.content_hash,
        form=form,
    )
    counts = count_objects(store.batches(), subject.regions, len(store.classes))
    judged = judged_areas(subject.pyramid, subject.plan, subject.regions)
    write_counts(out / TABLE, counts, judged, classes=store.classes, hpf_mm2=options.hpf_mm2)
    draw_detections(out / PICTURE, picture_of(subject))
