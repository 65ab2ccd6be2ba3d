"""One picture of objects for a person: the slide, how dense they are, and places seen closely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from saccade.pipeline.export.class_colours import Colour, as_shares
from saccade.pipeline.export.heat import Heat, draw_colour_bar, draw_heat
from saccade.pipeline.export.layout import MOST_TILES, Box, arrange
from saccade.pipeline.export.page import QUIET, Page
from saccade.pipeline.export.panels import (
    HALO,
    MARK,
    draw_badge,
    draw_caption,
    draw_header,
    draw_scale_bar,
    extent,
    part_of_slide,
    show_part,
)
from saccade.pipeline.files import atomic_path


@dataclass(frozen=True, slots=True, eq=False)
class Closeup:
    """A place seen closely.

    Attributes:
        pixels: uint8 (rows, cols, 3).
        box_um: (left, top, width, height) from the slide's upper-left corner.
        boxes_px: (n, 4) left, top, right, bottom of objects, pixels of the place.
        classes: what each is.
        outlines_px: rings (n, 2) of what was judged.
        note: a short line.
    """

    pixels: NDArray[np.uint8]
    box_um: tuple[float, float, float, float]
    boxes_px: NDArray[np.float64]
    classes: Sequence[str]
    outlines_px: Sequence[NDArray[np.float64]]
    note: str


@dataclass(frozen=True, slots=True, eq=False)
class DetectionPicture:
    """What the picture shows; places are micrometres from the slide's upper-left corner.

    Attributes:
        ground: what is shown of the slide, uint8 (rows, cols, 3).
        box_um: (left, top, width, height) of that.
        density: objects per square millimetre; NaN where nothing was judged.
        outlines_um: rings (n, 2) of what was judged, where that was outlined.
        colours: of the classes, by name.
        counts: how many objects there are of each class.
        closeups: as many as there is room for.
        title: the slide's name.
        subtitle: a line about the model.
    """

    ground: NDArray[np.uint8]
    box_um: tuple[float, float, float, float]
    density: Heat
    outlines_um: Sequence[NDArray[np.float64]]
    colours: Mapping[str, Colour]
    counts: Mapping[str, int]
    closeups: Sequence[Closeup]
    title: str
    subtitle: str


def draw_detections(path: Path, picture: DetectionPicture) -> None:
    """Draw it as a PNG."""
    left, top, width, height = picture.box_um
    page = Page(arrange(height / width, min(len(picture.closeups), MOST_TILES)))
    draw_header(page, picture.title, picture.subtitle)
    slide, density = page.layout.slide, page.layout.attention
    draw_caption(page, slide, "Slide, and the places below")
    draw_caption(page, density, "Objects per mm² of each tile")
    axes = part_of_slide(page, slide, picture.box_um)
    where = extent((left, top), (width, height))
    axes.imshow(picture.ground, extent=where, aspect="auto")
    _outline(axes, picture.outlines_um)
    _frame(axes, slide, picture)
    show_part(axes, picture.box_um)
    draw_scale_bar(page, slide, width)
    _draw_legend(page, slide, picture)
    axes = part_of_slide(page, density, picture.box_um)
    axes.imshow(
        picture.ground.mean(axis=2) / 510 + 0.5,
        cmap="gray", vmin=0, vmax=1, extent=where, aspect="auto",
    )  # fmt: skip
    colours = draw_heat(axes, picture.density)
    _outline(axes, picture.outlines_um)
    show_part(axes, picture.box_um)
    draw_colour_bar(page, density, colours, picture.density.scale)
    for number, (box, each) in enumerate(
        zip(page.layout.tiles, picture.closeups, strict=False), start=1
    ):
        _draw_closeup(page, box, each, picture.colours, number)
    with atomic_path(path) as temporary:
        page.figure.savefig(temporary, format="png", metadata={"Software": "Saccade"})


def _outline(axes: Axes, rings: Sequence[NDArray[np.float64]]) -> None:
    lines = LineCollection(list(rings), colors="black", linewidths=1.0, linestyles="dashed")
    lines.set_path_effects(HALO)
    axes.add_collection(lines)


def _frame(axes: Axes, box: Box, picture: DetectionPicture) -> None:
    """Frame the places that are seen closely, and number them at their upper left corners."""
    least = 0.12 * picture.box_um[2] / box.width
    for number, each in enumerate(picture.closeups[:MOST_TILES], start=1):
        x, y, width, height = each.box_um
        across, down = max(least - width, 0), max(least - height, 0)
        corner = x - across / 2, y - down / 2
        patch = Rectangle(
            corner, width + across, height + down, fill=False, edgecolor=MARK, linewidth=1.2
        )
        patch.set_path_effects(HALO)
        axes.add_patch(patch)
        draw_badge(axes, corner, number)


def _draw_legend(page: Page, box: Box, picture: DetectionPicture) -> None:
    """A line for each class below the scale bar, or side by side where they are many."""
    across = page.layout.column / max(1, min(3, len(picture.colours)))
    for i, (name, colour) in enumerate(picture.colours.items()):
        row, col = divmod(i, 3)
        left, top = box.left + col * across, box.bottom + 0.42 + row * 0.17
        axes = page.axes(Box(left, top, 0.14, 0.12))
        axes.set_facecolor(as_shares(colour))
        words = page.fit(f"{name}: {picture.counts[name]}", across - 0.3, fontsize=9)
        page.text(left + 0.22, top + 0.11, words, fontsize=9)


def _draw_closeup(
    page: Page, box: Box, closeup: Closeup, colours: Mapping[str, Colour], number: int
) -> None:
    axes = page.axes(box)
    rows, cols = closeup.pixels.shape[:2]
    axes.imshow(closeup.pixels, extent=(0.0, cols, rows, 0.0), aspect="auto")
    corners = closeup.boxes_px[:, [0, 1, 2, 1, 2, 3, 0, 3, 0, 1]].reshape(-1, 5, 2)
    inks = [as_shares(colours[name]) for name in closeup.classes]
    axes.add_collection(LineCollection(list(corners), colors="black", linewidths=1.8, alpha=0.45))
    axes.add_collection(LineCollection(list(corners), colors=inks, linewidths=1.0))
    _outline(axes, closeup.outlines_px)
    axes.set(xlim=(0, cols), ylim=(rows, 0))
    draw_badge(axes, (0.2 / box.width * cols, 0.2 / box.height * rows), number)
    note = page.fit(closeup.note, box.width, fontsize=9)
    page.text(box.left, box.bottom + 0.17, note, fontsize=9, color=QUIET)
