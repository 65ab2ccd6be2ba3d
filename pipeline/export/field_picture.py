"""One picture of a field for a person: the slide, the field on it, and its highest regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from matplotlib.axes import Axes
from numpy.typing import NDArray

from saccade.pipeline.export.heat import Heat, draw_colour_bar, draw_heat
from saccade.pipeline.export.layout import Box, arrange
from saccade.pipeline.export.page import Page
from saccade.pipeline.export.panels import (
    HALO,
    MARK,
    draw_caption,
    draw_ground,
    draw_header,
    draw_numbers,
    draw_scale_bar,
    extent,
    show_exactly,
)
from saccade.pipeline.files import atomic_path


@dataclass(frozen=True, slots=True)
class FieldPicture:
    """What the picture shows; places are micrometres from the slide's upper-left corner.

    Attributes:
        thumbnail: the whole slide, uint8 (rows, cols, 3).
        size_um: (width, height) of the slide.
        heat: the field.
        regions_um: shapes to outline and number, strongest first.
        title: the slide's name.
        subtitle: a line about the stage.
        captions: what the two panels show.
    """

    thumbnail: NDArray[np.uint8]
    size_um: tuple[float, float]
    heat: Heat
    regions_um: Sequence[shapely.Geometry]
    title: str
    subtitle: str
    captions: tuple[str, str]


def draw_field(path: Path, picture: FieldPicture) -> None:
    """Draw it as a PNG."""
    width_um, height_um = picture.size_um
    page = Page(arrange(height_um / width_um, 0))
    draw_header(page, picture.title, picture.subtitle)
    for box, words in zip(
        (page.layout.slide, page.layout.attention), picture.captions, strict=True
    ):
        draw_caption(page, box, words)
    slide = _panel(page, page.layout.slide, picture)
    slide.imshow(picture.thumbnail, extent=extent((0, 0), picture.size_um), aspect="auto")
    _outline(slide, picture)
    _number(slide, page.layout.slide, picture)
    draw_scale_bar(page, page.layout.slide, width_um)
    ground = _panel(page, page.layout.attention, picture)
    draw_ground(ground, picture.thumbnail, picture.size_um)
    colours = draw_heat(ground, picture.heat)
    _outline(ground, picture)
    for axes in (slide, ground):
        show_exactly(axes, picture.size_um)
    draw_colour_bar(page, page.layout.attention, colours, picture.heat.scale)
    with atomic_path(path) as temporary:
        page.figure.savefig(temporary, format="png", metadata={"Software": "Saccade"})


def _panel(page: Page, box: Box, picture: FieldPicture) -> Axes:
    axes = page.axes(box)
    show_exactly(axes, picture.size_um)
    return axes


def _outline(axes: Axes, picture: FieldPicture) -> None:
    """Outline the regions, holes included."""
    for region in picture.regions_um:
        for part in shapely.get_parts(region):
            for ring in (part.exterior, *part.interiors):
                line = np.asarray(ring.coords)
                axes.plot(*line.T, color=MARK, lw=1.0, path_effects=HALO, zorder=3)


def _number(axes: Axes, box: Box, picture: FieldPicture) -> None:
    """Number the regions beside where they surely are: a ring's centroid lies outside of it."""
    regions = np.array(picture.regions_um, object)
    places = shapely.get_coordinates(shapely.point_on_surface(regions))
    draw_numbers(axes, box, places, np.zeros(len(places)), picture.size_um[0])
