"""What the picture of a detection shows: how dense objects are, and places seen closely."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from saccade.pipeline.detect.plan import DetectPlan
from saccade.pipeline.detect.seams import Candidates
from saccade.pipeline.export.class_colours import colours_of
from saccade.pipeline.export.detection_picture import Closeup, DetectionPicture
from saccade.pipeline.export.heat import Heat
from saccade.pipeline.export.layout import MOST_TILES
from saccade.pipeline.stages.region_of_interest import Region
from saccade.pipeline.thumbnails import read_thumbnail
from saccade.tiling import Slide
from saccade.tiling.pyramid_view import Pyramid

_CLOSEUP_PX = 256
_GROUND_PX = 1400  # longest side of what is shown of the slide
_MOST_READ = 6e7  # pixels that are read for it
_MOST_CELLS = 1500  # of a side of the map of density
_LEAST_JUDGED = 0.2  # of a core; a few objects on a sliver of it say nothing of their density


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What there is to be shown.

    Attributes:
        slide: open.
        pyramid: its thumbnails.
        plan: where tiles were read.
        found: the objects that count.
        classes: names.
        network: what found them.
        name: of the slide.
        regions: that objects count in; everywhere if there are none.
    """

    slide: Slide
    pyramid: Pyramid
    plan: DetectPlan
    found: Candidates
    classes: Sequence[str]
    network: str
    name: str
    regions: Sequence[Region]


def picture_of(subject: Subject) -> DetectionPicture:
    """Everything that the picture shows."""
    plan, found, mpp = subject.plan, subject.found, np.array(subject.slide.mpp)
    ground, box_l0 = _ground(subject)
    counts = np.bincount(found.classes, minlength=len(subject.classes))
    left, top, right, bottom = box_l0.tolist()
    return DetectionPicture(
        ground=ground,
        box_um=(left * mpp[0], top * mpp[1], (right - left) * mpp[0], (bottom - top) * mpp[1]),
        density=_density(subject, box_l0),
        outlines_um=[each * mpp for each in _outlines(subject, shapely.box(*box_l0))],
        colours=colours_of(subject.classes),
        counts=dict(zip(subject.classes, counts.tolist(), strict=True)),
        closeups=[_closeup(subject, tile) for tile in _places(subject)],
        title=subject.name,
        subtitle=f"{len(found.scores)} objects found by {subject.network} at {plan.size.mpp:g} "
        f"µm a pixel, in {len(plan)} tiles",
    )


def _ground(subject: Subject) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """What is judged and a little around it, if that is little of the slide; else all of it."""
    slide, cores = subject.slide, subject.plan.cores_l0
    whole = np.array([0, 0, *slide.size_l0], np.float64)
    low, high = cores[:, :2].min(axis=0), cores[:, 2:].max(axis=0)
    around = 0.05 * (high - low).max()
    low, high = np.maximum(low - around, 0), np.minimum(high + around, whole[2:])
    box = np.concatenate([np.floor(low), np.ceil(high)])
    span_um = (box[2:] - box[:2]) * slide.mpp
    mpp = max(float(span_um.max()) / _GROUND_PX, subject.plan.size.mpp)
    level = slide.levels[slide.level_for(mpp / max(slide.mpp))]
    read = (box[2:] - box[:2]).prod() / level.downsample**2
    if (box[2:] - box[:2]).max() > whole.max() / 2 or read > _MOST_READ:
        return read_thumbnail(subject.pyramid), whole
    cols, rows = np.ceil(span_um / mpp).astype(int).tolist()
    return slide.read(int(box[0]), int(box[1]), (cols, rows), mpp), box


def _per_tile(subject: Subject) -> NDArray[np.int64]:
    """How many objects each tile has, of those that count."""
    counts: NDArray[np.int64] = np.bincount(subject.found.tiles, minlength=len(subject.plan))
    return counts


def _density(subject: Subject, box_l0: NDArray[np.float64]) -> Heat:
    """Objects by area of the part of each core that lies on the slide and in a region."""
    mpp, cores = np.array(subject.slide.mpp), subject.plan.cores_l0
    boxes = shapely.box(*cores.T)
    judged = shapely.box(0, 0, *subject.slide.size_l0)
    if subject.regions:
        regions = shapely.union_all([each.shape for each in subject.regions])
        judged = shapely.intersection(judged, regions)
    area_l0 = shapely.area(shapely.intersection(boxes, judged))
    enough = area_l0 >= _LEAST_JUDGED * shapely.area(boxes)
    area_mm2 = np.where(enough, area_l0 * mpp.prod() / 1e6, np.nan)
    density = _per_tile(subject) / area_mm2
    cell = float((box_l0[2:] - box_l0[:2]).max()) / _MOST_CELLS
    cols, rows = np.ceil((box_l0[2:] - box_l0[:2]) / cell).astype(int).tolist()
    values = np.full((rows, cols), np.nan, np.float32)
    edges = np.rint((cores - np.tile(box_l0[:2], 2)) / cell).clip(min=0).astype(int)
    for (left, top, right, bottom), each in zip(edges.tolist(), density, strict=True):
        values[top : max(bottom, top + 1), left : max(right, left + 1)] = each
    return Heat(
        values,
        (cell * mpp[0], cell * mpp[1]),
        (float(box_l0[0] * mpp[0]), float(box_l0[1] * mpp[1])),
        "objects of all classes per mm² of what was judged of each tile",
    )


def _outlines(subject: Subject, seen: shapely.Geometry) -> list[NDArray[np.float64]]:
    """Rings (n, 2) of the regions that reach into what is seen."""
    near = [each.shape for each in subject.regions if shapely.intersects(each.shape, seen)]
    parts = shapely.get_parts(near)
    return [np.asarray(ring.coords) for part in parts for ring in (part.exterior, *part.interiors)]


def _places(subject: Subject) -> list[int]:
    """Tiles to be seen closely: half of them the densest, then ever sparser ones."""
    counts = _per_tile(subject)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    half = MOST_TILES // 2
    shares = np.arange(1, MOST_TILES - half + 1) / (MOST_TILES - half + 1)
    further = order[(shares * len(order)).astype(int)] if len(order) else order
    chosen: list[int] = []
    for tile in [*_apart(subject, order, half), *further.tolist()]:
        if tile not in chosen:
            chosen.append(tile)
    return chosen


def _apart(subject: Subject, order: NDArray[np.intp], most: int) -> Iterator[int]:
    """The first tiles of an order that do not lie side by side."""
    cores, taken = subject.plan.cores_l0, np.empty((0, 2))
    least = 1.5 * subject.plan.size.core_px * subject.plan.pixel_l0
    for tile in order[:1000].tolist():
        corner = cores[tile, :2]
        if (np.abs(taken - corner) >= least).any(axis=1).all():
            taken = np.vstack([taken, corner])
            yield tile
        if len(taken) == most:
            return


def _closeup(subject: Subject, tile: int) -> Closeup:
    """The middle of a tile's core, with every object that reaches into it."""
    plan, found = subject.plan, subject.found
    side = np.full(2, _CLOSEUP_PX) * plan.pixel_l0
    middle = (plan.cores_l0[tile, :2] + plan.cores_l0[tile, 2:]) / 2
    corner = np.rint(middle - side / 2)
    boxes = (found.boxes_l0 - np.tile(corner, 2)) / np.tile(plan.pixel_l0, 2)
    near = (boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < _CLOSEUP_PX).all(axis=1)
    x, y = corner.astype(int).tolist()
    mpp = subject.slide.mpp
    return Closeup(
        pixels=subject.slide.read(x, y, (_CLOSEUP_PX, _CLOSEUP_PX), plan.size.mpp),
        box_um=(x * mpp[0], y * mpp[1], side[0] * mpp[0], side[1] * mpp[1]),
        boxes_px=boxes[near],
        classes=[subject.classes[number] for number in found.classes[near]],
        outlines_px=[
            (each - corner) / plan.pixel_l0
            for each in _outlines(subject, shapely.box(*corner, *(corner + side)))
        ],
        note=f"{near.sum()} in {_CLOSEUP_PX * plan.size.mpp:.0f} µm",
    )
