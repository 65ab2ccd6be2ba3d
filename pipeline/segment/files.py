"""The files that a segmentation leaves in a slide's folder, but its field and its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.export.class_picture import draw_classes
from saccade.pipeline.export.detections import write_detections_geojson
from saccade.pipeline.export.geojson import write_features
from saccade.pipeline.export.ometiff import write_heatmap
from saccade.pipeline.objects.store import ObjectStore, write_object_store
from saccade.pipeline.segment.annotations import Annotations
from saccade.pipeline.segment.areas import Areas, Places, areas_of
from saccade.pipeline.segment.class_map import ClassMap
from saccade.pipeline.segment.objects import AREA, ObjectFinder, Size, Split
from saccade.pipeline.segment.options import SegmentOptions
from saccade.pipeline.segment.picture import Subject, picture_of
from saccade.pipeline.segment.shapes import Drawing
from saccade.pipeline.segment.table import write_table
from saccade.pipeline.segmentation.model_file import SegmentationCard
from saccade.pipeline.stages.scene import Scene
from saccade.tiling import Slide
from saccade.tiling.pyramid_view import Pyramid

RECORD = "segmentation.record.json"
FIELD, STORE = "segmentation.zarr", "segmentation_objects.h5"
_FILES = (
    FIELD,
    "segmentation.ome.tif",
    "segmentation.geojson",
    "segmentation.csv",
    "segmentation.png",
)
_OF_OBJECTS = (STORE, "objects.geojson")
_WORDS = (
    "Segmentation of Saccade: mean probability of each class in a pixel, as the model has it, of "
    "what was judged; 0 elsewhere. Not calibrated. Research use only."
)


@dataclass(frozen=True, slots=True)
class Source:
    """What files are made from.

    Attributes:
        slide: open.
        pyramid: its thumbnails.
        scene: pixels at the model's scale.
        of: the class map.
        split: what makes objects of a class; None for models without.
        exact: whether tiles came out as the whole would.
        name: of the slide.
        facts: what made it all; plain values for JSON.
    """

    slide: Slide
    pyramid: Pyramid
    scene: Scene
    of: ClassMap
    split: Split | None
    exact: bool
    name: str
    facts: Mapping[str, Any]


def files_of(card: SegmentationCard) -> tuple[str, ...]:
    """Names of all files of a segmentation by this model, the record last."""
    return (*_FILES, *(_OF_OBJECTS if card.instances else ()), RECORD)


def write_segmentation(out: Path, source: Source, options: SegmentOptions) -> dict[str, Any]:
    """Write areas, outlines, objects and picture.

    Returns:
        What there is, for the record.
    """
    of = source.of
    places = Places(of.where.regions, of.field.grid)
    areas = areas_of(of, places)
    _write_heatmap(out, source, areas)
    drawing = Drawing(
        of.field.grid, options.simplify_px, options.min_area_um2 / (of.cell_mm2 * 1e6)
    )
    slide_id = source.slide.content_hash
    annotations = Annotations(of, places, drawing, slide_id=slide_id)
    write_features(out / "segmentation.geojson", annotations.features())
    objects = _write_objects(out, source, places, options)
    write_table(out / "segmentation.csv", of, areas, annotations.counts, objects)
    count = None if objects is None else int(objects[0])
    subject = Subject(
        source.slide,
        source.pyramid,
        source.scene,
        of,
        areas,
        count,
        source.split,
        source.exact,
        source.name,
    )
    draw_classes(out / "segmentation.png", picture_of(subject))
    return {
        "judged_mm2": round(float(areas.cells[0].sum()) * of.cell_mm2, 6),
        "polygons": int(annotations.counts[0].sum()),
        **({} if count is None else {"objects": count}),
    }


def _write_heatmap(out: Path, source: Source, areas: Areas) -> None:
    small = areas.small
    write_heatmap(
        out / "segmentation.ome.tif",
        small.values[1:],
        small.grid,
        slide_mpp=source.slide.mpp,
        channel_names=list(source.of.classes[1:]),
        name=f"{source.name} segmentation",
        description=_WORDS,
    )


def _write_objects(
    out: Path, source: Source, places: Places, options: SegmentOptions
) -> NDArray[np.int64] | None:
    """Objects, first as a store, then for QuPath; how many there are in each region."""
    of = source.of
    if source.split is None or of.instances is None:
        return None
    cell_um2 = of.cell_mm2 * 1e6
    finder = ObjectFinder(
        of,
        source.split,
        places,
        Drawing(of.field.grid, options.simplify_px),
        Size(options.min_object_um2 / cell_um2),
    )
    classes, slide_id = (of.classes[of.instances],), source.slide.content_hash
    write_object_store(
        out / STORE, finder.batches(), classes=classes, measurements=[AREA], about=source.facts
    )
    batches = ObjectStore.open(out / STORE).batches()
    write_detections_geojson(out, "objects", batches, classes=classes, slide_id=slide_id)
    return finder.counts
