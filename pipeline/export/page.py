"""A matplotlib figure whose parts are placed in inches from its upper-left corner."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from saccade.pipeline.export.layout import Box, Layout

DPI = 150
INK, QUIET = "#1a1a1a", "#666666"


class Page:
    """A matplotlib figure addressed in inches from the top left."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        # Not pyplot: its global list of figures grows with every slide and belongs to no thread.
        self.figure = Figure(figsize=layout.size, dpi=DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def text(self, x: float, y: float, words: str, **style: Any) -> Text:
        """Write `words`; as they are, since a slide's name may well hold a dollar sign."""
        width, height = self.layout.size
        defaults: dict[str, Any] = {"color": INK, "va": "baseline", "parse_math": False}
        return self.figure.text(x / width, 1 - y / height, words, **(defaults | style))

    def axes(self, box: Box) -> Axes:
        """Empty axes that fill `box`."""
        width, height = self.layout.size
        axes = self.figure.add_axes(
            (box.left / width, 1 - box.bottom / height, box.width / width, box.height / height)
        )
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color="#bbbbbb", linewidth=0.8)
        return axes

    def fit(self, words: str, inches: float, **style: Any) -> str:
        """`words`, with their middle left out as far as they are wider than `inches`."""
        probe = self.text(0, 0, words, **style)
        for keep in range(len(words), 8, -1):
            if keep < len(words):
                probe.set_text(f"{words[: keep // 2]}…{words[-(keep // 2) :]}")
            if probe.get_window_extent().width <= inches * DPI:
                break
        short: str = probe.get_text()
        probe.remove()
        return short
