"""What the picture of a segmentation shows: which places are seen closely, and what is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from saccade.pipeline.export.class_colours import colours_of
from saccade.pipeline.export.class_picture import ClassPicture, Inset
from saccade.pipeline.export.layout import MOST_TILES
from saccade.pipeline.segment.areas import Areas, SmallMap
from saccade.pipeline.segment.class_map import ClassMap
from saccade.pipeline.segment.objects import Split, numbered
from saccade.pipeline.stages.outlines import outlines
from saccade.pipeline.stages.scene import Scene
from saccade.pipeline.stages.tile_plan import Window
from saccade.pipeline.thumbnails import read_thumbnail
from saccade.tiling import Slide
from saccade.tiling.grid import CellGrid
from saccade.tiling.pyramid_view import Pyramid

_INSET_PX = 256
_AROUND_PX = 64  # what is judged around an inset, so that objects at its edge are whole
_GROUND_PX = 1400


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What there is to be shown.

    Attributes:
        slide: open.
        pyramid: its thumbnails.
        scene: pixels at the model's scale.
        of: the class map.
        areas: what it holds.
        objects: how many there are; None if the model knows none.
        split: what made them.
        exact: whether tiles came out as the whole would.
        name: of the slide.
    """

    slide: Slide
    pyramid: Pyramid
    scene: Scene
    of: ClassMap
    areas: Areas
    objects: int | None
    split: Split | None
    exact: bool
    name: str


def picture_of(subject: Subject) -> ClassPicture:
    """Everything that the picture shows."""
    of, small = subject.of, subject.areas.small
    colours = colours_of(of.classes[1:])
    cells = _in_um(_box_of(small.grid), subject.slide)
    shown = _cut(cells, subject.slide)
    tiles = "" if subject.exact else "; tiles are not exact, look for seams"
    return ClassPicture(
        ground=_ground(subject, shown),
        box_um=shown,
        shares=np.where(np.isnan(small.values[1:]), np.nan, small.values[1:] * small.share),
        cells_um=cells,
        colours=colours,
        legend=dict(_legend(subject)),
        insets=[_inset(subject, window) for window in _places(subject)],
        title=subject.name,
        subtitle=f"segmentation by {of.card.network} at {of.card.mpp:g} µm a pixel{tiles}",
    )


def _legend(subject: Subject) -> Iterator[tuple[str, str]]:
    of, cells = subject.of, subject.areas.cells[0]
    for i, name in enumerate(of.classes[1:], start=1):
        words = f"{name}: {cells[i] * of.cell_mm2:.3g} mm², {cells[i] / max(cells.sum(), 1):.1%}"
        if i == of.instances and subject.objects is not None:
            words += f", {subject.objects:,} objects"
        yield name, words


def _places(subject: Subject) -> list[Window]:
    """Where classes meet most, apart from each other: places that a person would look at first."""
    small, grid = subject.areas.small, subject.of.field.grid
    factor = round(small.grid.cell_l0[0] / grid.cell_l0[0])
    side = max(1, _INSET_PX // factor)
    mixed, whole = _mixedness(small, side)
    order = np.argsort(-mixed, axis=None, kind="stable")
    chosen: list[tuple[int, int]] = []
    for row, col in zip(*np.unravel_index(order, mixed.shape), strict=True):
        apart = all(max(abs(row - r), abs(col - c)) > 1 for r, c in chosen)
        if len(chosen) < MOST_TILES and whole[row, col] and apart:
            chosen.append((int(row), int(col)))
    left, top = (
        round((small.grid.origin_l0[i] - grid.origin_l0[i]) / grid.cell_l0[i]) for i in (0, 1)
    )
    step = side * factor
    centres = ((top + (r + 0.5) * step, left + (c + 0.5) * step) for r, c in chosen)
    return [_window_about(centre, grid.shape, _INSET_PX // 2) for centre in centres]


def _mixedness(small: SmallMap, side: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How mixed the classes of each place are (1 minus the sum of squares), and if it counts."""
    classes, rows, cols = small.values.shape
    values = np.concatenate([np.nan_to_num(small.values) * small.share, small.share[None]])
    spare = (0, -rows % side), (0, -cols % side)
    squares = np.pad(values, ((0, 0), *spare)).reshape(
        classes + 1, -(-rows // side), side, -(-cols // side), side
    )
    means = squares.mean(axis=(2, 4), dtype=np.float64)
    known = means[-1]
    shares = means[:-1] / np.maximum(known, 1e-9)
    return np.round(1 - (shares**2).sum(axis=0), 9), known >= min(0.5, float(known.max()))


def _window_about(centre: tuple[float, float], shape: tuple[int, int], half: int) -> Window:
    """A square around a centre, moved into the view as far as that has room."""
    starts, stops = [], []
    for middle, length in zip(centre, shape, strict=True):
        start = max(0, min(round(middle) - half, length - 2 * half))
        starts.append(start)
        stops.append(min(start + 2 * half, length))
    return Window(starts[0], starts[1], stops[0], stops[1])


def _inset(subject: Subject, window: Window) -> Inset:
    of, grid = subject.of, subject.of.field.grid
    (width, height), (x, y) = grid.cell_l0, grid.origin_l0
    rows, cols = window.shape
    box = x + width * window.left, y + height * window.top, width * cols, height * rows
    mpp = of.field.mpp[0]
    return Inset(
        pixels=subject.scene.read(window),
        box_um=_in_um(box, subject.slide),
        outlines=list(_outlined(subject, window)),
        note=f"{cols * mpp:.0f} µm wide",
    )


def _outlined(subject: Subject, window: Window) -> Iterator[tuple[str, shapely.Geometry]]:
    """Outlines of classes and objects, in pixels of the window."""
    of = subject.of
    half = max(window.shape) // 2 + _AROUND_PX
    centre = (window.top + window.bottom) / 2, (window.left + window.right) / 2
    part = of.read(_window_about(centre, of.field.grid.shape, half))
    corner = np.array([part.window.left - window.left, part.window.top - window.top])
    labels = np.where(part.counts, part.labels, 0).astype(np.int64)
    if of.instances is not None and subject.split is not None:
        labels[labels == of.instances] = 0
        numbers = numbered(subject.split, part, part.of(of.instances) & part.counts)
        labels = np.where(numbers > 0, numbers + len(of.classes), labels)
    found, shapes = outlines(labels)
    for label, shape in zip(found.tolist(), shapes, strict=True):
        name = of.classes[label if label < len(of.classes) else of.instances or 0]
        yield name, shapely.transform(shape, lambda xy: xy + corner)


def _ground(subject: Subject, box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """The slide within a box: the thumbnail where that is fine enough, else read anew."""
    thumbnail, mpp = read_thumbnail(subject.pyramid), np.array(subject.slide.mpp)
    per_um = thumbnail.shape[1] / (subject.slide.size_l0[0] * mpp[0])
    if max(box[2:]) * per_um >= _GROUND_PX / 2:
        left, top, right, bottom = np.rint(
            np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]]) * per_um
        ).astype(int)
        return thumbnail[top:bottom, left:right]
    scale = max(max(box[2:]) / _GROUND_PX, *mpp)
    size = max(1, round(box[2] / scale)), max(1, round(box[3] / scale))
    return subject.slide.read(box[0] / mpp[0], box[1] / mpp[1], size, scale)


def _box_of(grid: CellGrid) -> tuple[float, float, float, float]:
    (rows, cols), (width, height) = grid.shape, grid.cell_l0
    return (*grid.origin_l0, cols * width, rows * height)


def _in_um(
    box_l0: tuple[float, float, float, float], slide: Slide
) -> tuple[float, float, float, float]:
    x, y = slide.mpp
    left, top, width, height = box_l0
    return left * x, top * y, width * x, height * y


def _cut(
    box_um: tuple[float, float, float, float], slide: Slide
) -> tuple[float, float, float, float]:
    """The part of a box that lies on the slide."""
    left, top, width, height = box_um
    right, bottom = (n * mpp for n, mpp in zip(slide.size_l0, slide.mpp, strict=True))
    return left, top, min(width, right - left), min(height, bottom - top)
