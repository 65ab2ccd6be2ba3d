"""One picture of a class map for a person: the slide, its classes, and places seen closely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from saccade.pipeline.export.class_colours import Colour, as_shares
from saccade.pipeline.export.layout import MOST_TILES, Box, arrange
from saccade.pipeline.export.page import QUIET, Page
from saccade.pipeline.export.panels import (
    draw_badge,
    draw_caption,
    draw_ground,
    draw_header,
    draw_numbers,
    draw_scale_bar,
    extent,
    part_of_slide,
    show_part,
)
from saccade.pipeline.files import atomic_path

_OPACITY = 0.85
_LINE_IN = 0.19  # of the legend


@dataclass(frozen=True, slots=True, eq=False)
class Inset:
    """A place seen closely.

    Attributes:
        pixels: uint8 (rows, cols, 3).
        box_um: (left, top, width, height) from the slide's upper-left corner.
        outlines: shapes in pixels, by the class they are of.
        note: a short line.
    """

    pixels: NDArray[np.uint8]
    box_um: tuple[float, float, float, float]
    outlines: Sequence[tuple[str, shapely.Geometry]]
    note: str


@dataclass(frozen=True, slots=True, eq=False)
class ClassPicture:
    """What the picture shows; places are micrometres from the slide's upper-left corner.

    Attributes:
        ground: the slide within `box_um`, uint8 (rows, cols, 3).
        box_um: (left, top, width, height) of what is shown.
        shares: float32 (classes, rows, cols), how much of each cell is of each class; NaN where
            nothing was judged.
        cells_um: (left, top, width, height) of all cells together.
        colours: of the classes, by name, in the order of `shares`.
        legend: a line for each class.
        insets: as many as there is room for.
        title: the slide's name.
        subtitle: a line about the model.
    """

    ground: NDArray[np.uint8]
    box_um: tuple[float, float, float, float]
    shares: NDArray[np.float32]
    cells_um: tuple[float, float, float, float]
    colours: Mapping[str, Colour]
    legend: Mapping[str, str]
    insets: Sequence[Inset]
    title: str
    subtitle: str


def draw_classes(path: Path, picture: ClassPicture) -> None:
    """Draw it as a PNG: colours mix by the classes' shares, and are faint where there is little."""
    _, _, width_um, height_um = picture.box_um
    page = Page(arrange(height_um / width_um, min(len(picture.insets), MOST_TILES)))
    draw_header(page, picture.title, picture.subtitle)
    slide, classes = page.layout.slide, page.layout.attention
    draw_caption(page, slide, "Slide")
    draw_caption(page, classes, "Classes: what the model took each place for")
    axes = part_of_slide(page, slide, picture.box_um)
    left, top, width, height = picture.box_um
    axes.imshow(picture.ground, extent=extent((left, top), (width, height)), aspect="auto")
    _number(axes, slide, picture)
    draw_scale_bar(page, slide, width_um)
    axes = part_of_slide(page, classes, picture.box_um)
    draw_ground(axes, picture.ground, (width, height), corner_um=(left, top))
    x, y, across, down = picture.cells_um
    axes.imshow(_coloured(picture), extent=extent((x, y), (across, down)), aspect="auto")
    show_part(axes, picture.box_um)
    _draw_legend(page, classes, picture)
    for number, (box, inset) in enumerate(zip(page.layout.tiles, picture.insets, strict=False), 1):
        _draw_inset(page, box, inset, picture.colours, number)
    with atomic_path(path) as temporary:
        page.figure.savefig(temporary, format="png", metadata={"Software": "Saccade"})


def _coloured(picture: ClassPicture) -> NDArray[np.float64]:
    """(rows, cols, 4): the mean of the classes' colours, as opaque as the classes are many."""
    names = list(picture.colours)
    shares = np.nan_to_num(picture.shares).astype(np.float64)
    of_classes = np.array([picture.colours[name] for name in names]) / 255
    total = shares.sum(axis=0)
    mixed = np.einsum("crk,cd->rkd", shares, of_classes) / np.maximum(total, 1e-9)[..., None]
    opacity = _OPACITY * np.clip(total, 0, 1) ** 0.7
    return np.concatenate([np.clip(mixed, 0, 1), opacity[..., None]], axis=2)


def _number(axes: Axes, box: Box, picture: ClassPicture) -> None:
    """Frame the insets on the slide, and number them."""
    boxes = np.array([inset.box_um for inset in picture.insets[:MOST_TILES]])
    if not len(boxes):
        return
    corner, width = np.array(picture.box_um[:2]), picture.box_um[2]
    least = 0.12 * width / box.width
    for x, y, across, down in boxes:
        away = max(least - across, 0) / 2, max(least - down, 0) / 2
        axes.add_patch(
            Rectangle(
                (x - away[0], y - away[1]),
                across + 2 * away[0],
                down + 2 * away[1],
                fill=False,
                edgecolor="black",
                linewidth=1.0,
            )
        )
    centres, halves = boxes[:, :2] + boxes[:, 2:] / 2, np.maximum(boxes[:, 2:].max(axis=1), least)
    draw_numbers(axes, box, centres, halves / 2, width, corner_um=(corner[0], corner[1]))


def _draw_legend(page: Page, box: Box, picture: ClassPicture) -> None:
    lines = len(picture.colours)
    columns = 1 if lines <= 3 else 2
    across = page.layout.column / columns
    for i, (name, colour) in enumerate(picture.colours.items()):
        row, col = divmod(i, columns)
        left, top = box.left + col * across, box.bottom + 0.14 + row * _LINE_IN
        axes = page.axes(Box(left, top, 0.14, 0.12))
        axes.set_facecolor(as_shares(colour))
        words = page.fit(picture.legend[name], across - 0.3, fontsize=9)
        page.text(left + 0.22, top + 0.11, words, fontsize=9)


def _draw_inset(
    page: Page, box: Box, inset: Inset, colours: Mapping[str, Colour], number: int
) -> None:
    axes = page.axes(box)
    rows, cols = inset.pixels.shape[:2]
    axes.imshow(inset.pixels, extent=(0.0, cols, rows, 0.0), aspect="auto")
    for name, shape in inset.outlines:
        for part in shapely.get_parts(shape):
            for ring in (part.exterior, *part.interiors):
                line = np.asarray(ring.coords)
                axes.plot(*line.T, color="black", lw=1.1, alpha=0.4)
                axes.plot(*line.T, color=as_shares(colours[name]), lw=0.7)
    axes.set(xlim=(0, cols), ylim=(rows, 0))
    draw_badge(axes, (0.2 / box.width * cols, 0.2 / box.height * rows), number)
    note = page.fit(inset.note, box.width, fontsize=9)
    page.text(box.left, box.bottom + 0.17, note, fontsize=9, color=QUIET)
