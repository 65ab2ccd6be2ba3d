"""What pictures of a slide share: header, panels in micrometres, outlines, badges, a scale bar."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import AbstractPathEffect, withStroke
from numpy.typing import NDArray

from saccade.pipeline.export.badges import place_badges
from saccade.pipeline.export.layout import Box
from saccade.pipeline.export.page import DPI, INK, QUIET, Page

MARK = "#0b3d91"
HALO: list[AbstractPathEffect] = [withStroke(linewidth=2.6, foreground="white")]


def draw_header(page: Page, title: str, subtitle: str) -> None:
    """Title and subtitle, and what the picture is not for."""
    left, right = page.layout.slide.left, page.layout.size[0] - page.layout.slide.left
    warning = page.text(right, 0.5, "research use only", ha="right", fontsize=11, color=QUIET)
    room = right - left - warning.get_window_extent().width / DPI - 0.3
    style: dict[str, Any] = {"fontsize": 17, "fontweight": "bold"}
    page.text(left, 0.5, page.fit(title, room, **style), **style)
    page.text(left, 0.8, page.fit(subtitle, right - left, fontsize=12), fontsize=12)


def draw_caption(page: Page, box: Box, words: str) -> None:
    """What a panel shows, above it."""
    page.text(box.left, box.top - 0.09, words, fontsize=11)


def draw_ground(
    axes: Axes,
    thumbnail: NDArray[np.uint8],
    size_um: tuple[float, float],
    *,
    corner_um: tuple[float, float] = (0, 0),
) -> None:
    """The slide, or part of it, in pale grey, as the ground of a heatmap."""
    grey = thumbnail.mean(axis=2) / 510 + 0.5
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=extent(corner_um, size_um), aspect="auto")


def show_exactly(axes: Axes, size_um: tuple[float, float]) -> None:
    """Show the slide and no more; a grid may reach beyond it by part of a cell."""
    width_um, height_um = size_um
    axes.set(xlim=(0, width_um), ylim=(height_um, 0))


def show_part(axes: Axes, box_um: tuple[float, float, float, float]) -> None:
    """Show (left, top, width, height) of the slide and nothing beyond; images would widen that."""
    left, top, width, height = box_um
    axes.set(xlim=(left, left + width), ylim=(top + height, top))


def part_of_slide(page: Page, box: Box, box_um: tuple[float, float, float, float]) -> Axes:
    """A panel of (left, top, width, height) of the slide, in micrometres."""
    axes = page.axes(box)
    show_part(axes, box_um)
    return axes


def extent(
    corner: tuple[float, float], size: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Left, right, bottom, top, as imshow wants them."""
    return corner[0], corner[0] + size[0], corner[1] + size[1], corner[1]


def draw_numbers(
    axes: Axes,
    box: Box,
    centres_um: NDArray[np.floating[Any]],
    half_um: NDArray[np.floating[Any]],
    width_um: float,
    *,
    corner_um: tuple[float, float] = (0, 0),
) -> None:
    """Number what is outlined, from 1, beside it, with a line that leads there.

    Args:
        axes: a panel in micrometres.
        box: where it lies on the page.
        centres_um: (n, 2) centres of what is numbered.
        half_um: (n,) how far from its centre each reaches.
        width_um: of the panel.
        corner_um: (x, y) of its upper-left corner.
    """
    um_per_inch, corner = width_um / box.width, np.array(corner_um)
    inches = (centres_um - corner) / um_per_inch
    badges = place_badges(inches, (box.width, box.height)) * um_per_inch + corner
    for number, (badge, centre, half) in enumerate(zip(badges, centres_um, half_um, strict=True)):
        away = (badge - centre) / np.abs(badge - centre).max()
        start = centre + away * max(half, 0.05 * um_per_inch)
        axes.plot(*zip(start, badge, strict=True), color=MARK, lw=0.9, clip_on=False)
        draw_badge(axes, badge, number + 1)


def draw_badge(axes: Axes, centre: tuple[float, float], number: int) -> None:
    """A number in a circle."""
    axes.text(
        *centre,
        str(number),
        color="white",
        fontsize=8,
        fontweight="bold",
        ha="center",
        va="center_baseline",
        zorder=5,
        bbox={"boxstyle": "circle,pad=0.25", "facecolor": MARK, "edgecolor": "white", "lw": 0.8},
    )


def draw_scale_bar(page: Page, box: Box, width_um: float) -> None:
    """A bar of a round length below a panel that is `width_um` wide."""
    inch_per_um = box.width / width_um
    length_um = _round_length(1.6 / inch_per_um)
    axes = page.axes(Box(box.left, box.bottom + 0.16, length_um * inch_per_um, 0.06))
    axes.set_facecolor(INK)
    words = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    right = box.left + length_um * inch_per_um
    page.text(right + 0.1, box.bottom + 0.25, words, fontsize=10)


def _round_length(at_most: float) -> float:
    """The largest of 1, 2, 5, 10, 20 ... that is not longer."""
    power = 10.0 ** np.floor(np.log10(at_most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= at_most))
