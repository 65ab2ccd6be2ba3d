"""Numbers over a slide as colours, and the bar that says what the colours mean."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from saccade.pipeline.export.layout import Box
from saccade.pipeline.export.page import INK, QUIET, Page
from saccade.pipeline.export.panels import extent

_OPACITY = 0.72
_MOST_PX = 2000  # of the longer side; a page shows no more


@dataclass(frozen=True, slots=True, eq=False)
class Heat:
    """Numbers over cells; places are micrometres from the slide's upper-left corner.

    Attributes:
        values: (rows, cols); NaN is not shown.
        cell_um: (x, y) size of a cell.
        origin_um: (x, y) of the upper-left corner of cell (0, 0).
        scale: what the colours mean, for below the colour bar.
    """

    values: NDArray[np.floating[Any]]
    cell_um: tuple[float, float]
    origin_um: tuple[float, float]
    scale: str


def draw_heat(axes: Axes, heat: Heat) -> ScalarMappable:
    """Draw the numbers; colours are linear from 0 to 1, and as far beyond as values go."""
    step = -(-max(heat.values.shape) // _MOST_PX)
    shown = heat.values[::step, ::step]
    seen = shown[np.isfinite(shown)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    colours = ScalarMappable(Normalize(min(low, 0.0), max(high, 1.0)), mpl.colormaps["inferno"])
    pixels = colours.to_rgba(np.nan_to_num(shown), alpha=_OPACITY)
    pixels[~np.isfinite(shown)] = 0  # transparent
    rows, cols = heat.values.shape
    size = cols * heat.cell_um[0], rows * heat.cell_um[1]
    axes.imshow(pixels, extent=extent(heat.origin_um, size), aspect="auto")
    return colours


def draw_colour_bar(page: Page, box: Box, colours: ScalarMappable, words: str) -> None:
    """Say below a panel what its colours mean."""
    width = min(page.layout.column, 4.0)
    axes = page.axes(Box(box.left, box.bottom + 0.14, width, 0.13))
    bar = page.figure.colorbar(colours, cax=axes, orientation="horizontal")
    bar.ax.tick_params(labelsize=9, length=3, color=QUIET, labelcolor=INK)
    bar.outline.set(linewidth=0)
    lines = textwrap.wrap(words, int(page.layout.column * 15))
    page.text(box.left, box.bottom + 0.54, "\n".join(lines), fontsize=9, color=QUIET, va="top")
