"""One picture for a person: the slide, the tiles that were read, and where the model looked.

Attention is shown as attention, relative to looking everywhere alike. It is no probability of
disease, and nothing in the picture says so.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import AsinhNorm, ListedColormap
from matplotlib.patches import Polygon, Rectangle
from numpy.typing import NDArray

from saccade.pipeline.export.layout import MOST_TILES, Box, arrange
from saccade.pipeline.export.page import INK, QUIET, Page
from saccade.pipeline.export.panels import (
    HALO,
    MARK,
    draw_badge,
    draw_caption,
    draw_ground,
    draw_header,
    draw_numbers,
    draw_scale_bar,
    extent,
    show_exactly,
)
from saccade.pipeline.files import atomic_path

_TIMES_EVEN = 10.0  # least top of the colour scale, so that flat attention looks flat


@dataclass(frozen=True, slots=True)
class Overview:
    """What the picture shows; places are micrometres from the slide's upper-left corner.

    Attributes:
        thumbnail: the whole slide, uint8 (rows, cols, 3).
        thumbnail_mpp: (x, y) micrometres per pixel of the thumbnail.
        attention: (rows, cols), not negative; what is outside `tissue` is not shown.
        cell_um: (x, y) size of a cell of `attention`.
        tissue: (rows, cols) of bool; some of it True.
        boxes_um: (n, 4) left, top, width, height of the tiles that were read, strongest first.
        title: the slide's name.
        subtitle: what the model says: class probabilities.
        tiles: the strongest tiles themselves, uint8 (m, rows, cols, 3), in the order of `boxes_um`.
        tile_notes: a short line or two for each of `tiles`.
        origin_um: (x, y) of the upper-left corner of cell (0, 0).
        cuts: (m, 4, 2) corners (x, y) of the part of each of `tiles` that the encoder looked at,
            as shares of its sides; None if that is all of it.
    """

    thumbnail: NDArray[np.uint8]
    thumbnail_mpp: tuple[float, float]
    attention: NDArray[np.floating[Any]]
    cell_um: tuple[float, float]
    tissue: NDArray[np.bool_]
    boxes_um: NDArray[np.floating[Any]]
    title: str
    subtitle: str
    tiles: NDArray[np.uint8] | None = None
    tile_notes: tuple[str, ...] = ()
    origin_um: tuple[float, float] = (0.0, 0.0)
    cuts: NDArray[np.floating[Any]] | None = None

    def __post_init__(self) -> None:
        if self.attention.shape != self.tissue.shape:
            raise ValueError(
                f"attention {self.attention.shape} and tissue {self.tissue.shape} "
                "need the same shape."
            )
        seen = self.attention[self.tissue]
        if not seen.size or not np.isfinite(seen).all() or seen.min() < 0 or seen.max() <= 0:
            raise ValueError("attention needs finite, not negative values on some tissue.")
        given = 0 if self.tiles is None else len(self.tiles)
        if given > len(self.boxes_um) or len(self.tile_notes) not in (0, given):
            raise ValueError(
                f"{given} tiles need as many boxes and notes, found {len(self.boxes_um)} boxes "
                f"and {len(self.tile_notes)} notes."
            )
        if self.cuts is not None and self.cuts.shape != (given, 4, 2):
            raise ValueError(
                f"{given} tiles need cuts of the shape ({given}, 4, 2), found {self.cuts.shape}."
            )

    @property
    def shown(self) -> int:
        """How many of the strongest tiles the picture shows and numbers."""
        return 0 if self.tiles is None else min(len(self.tiles), MOST_TILES)

    @property
    def size_um(self) -> tuple[float, float]:
        """(width, height) of the slide."""
        rows, cols = self.thumbnail.shape[:2]
        return cols * self.thumbnail_mpp[0], rows * self.thumbnail_mpp[1]


def draw_overview(path: Path, overview: Overview) -> None:
    """Draw the overview as a PNG.

    Attention is shown relative to an even spread over the tissue: 1 is what each cell would get if
    the model looked everywhere alike. Colours are linear up to 1 and logarithmic above, from 0 to
    the largest value (to 10 at least), so that a few cells with all the attention show as well as
    a broad rise, and flat attention looks flat. The colour bar says so.
    """
    width_um, height_um = overview.size_um
    page = Page(arrange(height_um / width_um, overview.shown))
    draw_header(page, overview.title, overview.subtitle)
    _draw_slide(page, overview)
    _draw_attention(page, overview)
    _draw_tiles(page, overview)
    with atomic_path(path) as temporary:
        page.figure.savefig(temporary, format="png", metadata={"Software": "Saccade"})


def _draw_slide(page: Page, overview: Overview) -> None:
    box, count = page.layout.slide, len(overview.boxes_um)
    noun = "tile" if count == 1 else "tiles"
    draw_caption(page, box, f"Slide, and the {count} {noun} read")
    axes = _panel(page, box, overview)
    axes.imshow(overview.thumbnail, extent=extent((0, 0), overview.size_um), aspect="auto")
    show_exactly(axes, overview.size_um)
    for box_um in overview.boxes_um:
        _outline(axes, box_um)
    # The strongest tiles, those that are shown below, are numbered beside their outlines.
    shown = overview.boxes_um[: overview.shown]
    centres, half = shown[:, :2] + shown[:, 2:] / 2, shown[:, 2] / 2
    draw_numbers(axes, box, centres, half, overview.size_um[0])
    draw_scale_bar(page, box, overview.size_um[0])


def _draw_attention(page: Page, overview: Overview) -> None:
    box = page.layout.attention
    draw_caption(page, box, "Attention: where the model looked")
    axes = _panel(page, box, overview)
    draw_ground(axes, overview.thumbnail, overview.size_um)
    relative = overview.attention / overview.attention[overview.tissue].mean()
    top = max(float(relative[overview.tissue].max()), _TIMES_EVEN)
    heat = ScalarMappable(AsinhNorm(linear_width=1, vmin=0, vmax=top), _colours())
    rows, cols = overview.attention.shape
    pixels = heat.to_rgba(np.where(overview.tissue, relative, 0))
    pixels[~overview.tissue] = 0  # transparent
    axes.imshow(
        pixels,
        extent=extent(overview.origin_um, (cols * overview.cell_um[0], rows * overview.cell_um[1])),
        aspect="auto",
        interpolation="nearest",
    )
    show_exactly(axes, overview.size_um)
    _point_out(axes, overview, 0.16 * overview.size_um[0] / box.width)
    _draw_colour_bar(page, heat, top)


def _colours() -> ListedColormap:
    """Inferno, so thin where attention is weak that the tissue shows through."""
    colours = mpl.colormaps["inferno"](np.linspace(0.05, 1, 256))
    colours[:, 3] = 0.2 + 0.75 * np.linspace(0, 1, 256) ** 0.5
    return ListedColormap(colours)


def _draw_tiles(page: Page, overview: Overview) -> None:
    if overview.tiles is None or not page.layout.tiles:
        return
    outlined = "" if overview.cuts is None else "; outlined: where the encoder looked"
    draw_caption(page, page.layout.tiles[0], f"Strongest tiles{outlined}")
    for i, (box, tile) in enumerate(zip(page.layout.tiles, overview.tiles, strict=False)):
        axes = page.axes(box)
        axes.imshow(tile, aspect="auto")
        if overview.cuts is not None:
            _outline_cut(axes, overview.cuts[i], tile.shape)
        draw_badge(axes, (0.2 / box.width * tile.shape[1], 0.2 / box.height * tile.shape[0]), i + 1)
        if overview.tile_notes:
            lines = overview.tile_notes[i].splitlines()
            note = "\n".join(page.fit(line, box.width, fontsize=9) for line in lines)
            page.text(box.left, box.bottom + 0.07, note, fontsize=9, color=QUIET, va="top")


def _outline_cut(axes: Axes, cut: NDArray[np.floating[Any]], shape: tuple[int, ...]) -> None:
    rows, cols = shape[:2]
    patch = Polygon(cut * (cols, rows) - 0.5, fill=False, edgecolor=MARK, linewidth=1.2)
    patch.set_path_effects(HALO)
    axes.add_patch(patch)
    axes.set(xlim=(-0.5, cols - 0.5), ylim=(rows - 0.5, -0.5))


def _panel(page: Page, box: Box, overview: Overview) -> Axes:
    axes = page.axes(box)
    show_exactly(axes, overview.size_um)
    return axes


def _point_out(axes: Axes, overview: Overview, least_um: float) -> None:
    """Frame the numbered tiles, in squares of a size that is seen: a hot cell may be two pixels.

    A frame that would lie across one of a stronger tile, and hide what is in it, is left out.
    """
    framed: list[NDArray[np.floating[Any]]] = []
    for box_um in overview.boxes_um[: overview.shown]:
        centre = box_um[:2] + box_um[2:] / 2
        if all(np.abs(centre - other).max() >= least_um for other in framed):
            _outline(axes, box_um, least_um)
            framed.append(centre)


def _outline(axes: Axes, box_um: NDArray[np.floating[Any]], at_least: float = 0) -> None:
    centre, size = box_um[:2] + box_um[2:] / 2, np.maximum(box_um[2:], at_least)
    patch = Rectangle(
        tuple(centre - size / 2), *size, fill=False, edgecolor=MARK, linewidth=1.2, zorder=3
    )
    patch.set_path_effects(HALO)
    axes.add_patch(patch)


def _draw_colour_bar(page: Page, heat: ScalarMappable, top: float) -> None:
    box, width = page.layout.attention, min(page.layout.column, 4.0)
    axes = page.axes(Box(box.left, box.bottom + 0.14, width, 0.13))
    bar = page.figure.colorbar(heat, cax=axes, orientation="horizontal")
    ticks = [0.0, 1.0, *(10.0**n for n in range(1, 12) if 10.0**n <= top)]
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=9, length=3, color=QUIET, labelcolor=INK)
    bar.outline.set(linewidth=0)
    words = "1 = spread evenly over the tissue; linear up to 1, logarithmic above"
    lines = textwrap.wrap(words, int(page.layout.column * 15))
    page.text(box.left, box.bottom + 0.54, "\n".join(lines), fontsize=9, color=QUIET, va="top")
