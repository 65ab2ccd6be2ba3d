"""One picture of a field for a person: the slide, the field on it, and its highest regions."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from saccade.pipeline.export.layout import Box, arrange
from saccade.pipeline.export.page import INK, QUIET, Page
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

_OPACITY = 0.72
_MOST_PX = 2000  # of the field's longer side; a page shows no more


@dataclass(frozen=True, slots=True)
class FieldPicture:
    """What the picture shows; places are micrometres from the slide's upper-left corner.

    Attributes:
        thumbnail: the whole slide, uint8 (rows, cols, 3).
        size_um: (width, height) of the slide.
        values: (rows, cols); NaN is not shown.
        cell_um: (x, y) size of a cell of `values`.
        origin_um: (x, y) of the upper-left corner of cell (0, 0).
        regions_um: shapes to outline and number, strongest first.
        title: the slide's name.
        subtitle: a line about the stage.
        captions: what the two panels show.
        scale: what the colours mean, for below the colour bar.
    """

    thumbnail: NDArray[np.uint8]
    size_um: tuple[float, float]
    values: NDArray[np.floating[Any]]
    cell_um: tuple[float, float]
    origin_um: tuple[float, float]
    regions_um: Sequence[shapely.Geometry]
    title: str
    subtitle: str
    captions: tuple[str, str]
    scale: str


def draw_field(path: Path, picture: FieldPicture) -> None:
    """Draw it as a PNG. Colours are linear from 0 to 1, and as far beyond as values go."""
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
    heat = _draw_values(ground, picture)
    _outline(ground, picture)
    for axes in (slide, ground):
        show_exactly(axes, picture.size_um)
    _draw_colour_bar(page, heat, picture.scale)
    with atomic_path(path) as temporary:
        page.figure.savefig(temporary, format="png", metadata={"Software": "Saccade"})


def _panel(page: Page, box: Box, picture: FieldPicture) -> Axes:
    axes = page.axes(box)
    show_exactly(axes, picture.size_um)
    return axes


def _draw_values(axes: Axes, picture: FieldPicture) -> ScalarMappable:
    step = -(-max(picture.values.shape) // _MOST_PX)
    shown = picture.values[::step, ::step]
    seen = shown[np.isfinite(shown)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    heat = ScalarMappable(Normalize(min(low, 0.0), max(high, 1.0)), mpl.colormaps["inferno"])
    pixels = heat.to_rgba(np.nan_to_num(shown), alpha=_OPACITY)
    pixels[~np.isfinite(shown)] = 0  # transparent
    rows, cols = picture.values.shape
    size = cols * picture.cell_um[0], rows * picture.cell_um[1]
    axes.imshow(pixels, extent=extent(picture.origin_um, size), aspect="auto")
    return heat


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


def _draw_colour_bar(page: Page, heat: ScalarMappable, words: str) -> None:
    box, width = page.layout.attention, min(page.layout.column, 4.0)
    axes = page.axes(Box(box.left, box.bottom + 0.14, width, 0.13))
    bar = page.figure.colorbar(heat, cax=axes, orientation="horizontal")
    bar.ax.tick_params(labelsize=9, length=3, color=QUIET, labelcolor=INK)
    bar.outline.set(linewidth=0)
    lines = textwrap.wrap(words, int(page.layout.column * 15))
    page.text(box.left, box.bottom + 0.54, "\n".join(lines), fontsize=9, color=QUIET, va="top")
