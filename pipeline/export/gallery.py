"""Tiles beside maps of them, for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from saccade.pipeline.export.layout import Box, Layout
from saccade.pipeline.export.page import QUIET, Page
from saccade.pipeline.export.panels import draw_caption, draw_ground, draw_header
from saccade.pipeline.files import atomic_path

_WIDTH, _MARGIN, _HEADER, _CAPTION = 12.0, 0.35, 1.05, 0.3
_GAP, _BETWEEN = 0.06, 0.25  # between the panels of a tile, and between two tiles
_NOTE, _FOOT = 0.34, 0.5
_PANELS = 8  # in a row, at least
_OPACITY = 0.72


@dataclass(frozen=True, slots=True)
class Gallery:
    """What the picture shows.

    Attributes:
        title: the slide's name.
        subtitle: what the tiles are.
        tiles: uint8 (side, side, 3) each.
        maps: of each tile, as many as there are captions: (rows, cols) of finite numbers.
        notes: a line for each tile.
        captions: what the maps of a tile differ in.
        scale: what the colours mean.
    """

    title: str
    subtitle: str
    tiles: Sequence[NDArray[np.uint8]]
    maps: Sequence[Sequence[NDArray[np.float32]]]
    notes: Sequence[str]
    captions: Sequence[str]
    scale: str

    @property
    def ranges(self) -> list[tuple[float, float]]:
        """Least and most of each kind of map, over all tiles."""
        kinds = zip(*self.maps, strict=True)
        return [
            (min(float(m.min()) for m in kind), max(float(m.max()) for m in kind)) for kind in kinds
        ]


def draw_gallery(path: Path, gallery: Gallery) -> None:
    """Draw it as a PNG: each tile, and right of it its maps in colour over the tile in grey.

    Each kind of map has colours of its own, from its least to its most over all tiles shown.
    """
    layout = _arranged(len(gallery.tiles), 1 + len(gallery.captions))
    page = Page(layout)
    draw_header(page, gallery.title, gallery.subtitle)
    panels = 1 + len(gallery.captions)
    for i, (tile, maps) in enumerate(zip(gallery.tiles, gallery.maps, strict=True)):
        boxes = layout.tiles[i * panels : (i + 1) * panels]
        _draw_tile(page, boxes, tile, maps, gallery)
        note = page.fit(gallery.notes[i], boxes[-1].right - boxes[0].left, fontsize=9)
        page.text(boxes[0].left, boxes[0].bottom + 0.17, note, fontsize=9, color=QUIET)
    for box, words in zip(layout.tiles, ["tile", *gallery.captions], strict=False):
        draw_caption(page, box, page.fit(words, box.width, fontsize=11))
    _draw_foot(page, gallery)
    with atomic_path(path) as temporary:
        page.figure.savefig(temporary, format="png", metadata={"Software": "Saccade"})


def _draw_foot(page: Page, gallery: Gallery) -> None:
    ranges = ", ".join(
        f"{words} {low:.3g} to {high:.3g}"
        for words, (low, high) in zip(gallery.captions, gallery.ranges, strict=True)
    )
    width, height = page.layout.size
    for line, up in ((gallery.scale, 0.38), (f"From dark to bright: {ranges}.", 0.18)):
        fitting = page.fit(line, width - 2 * _MARGIN, fontsize=9)
        page.text(_MARGIN, height - up, fitting, fontsize=9, color=QUIET)


def _draw_tile(
    page: Page,
    boxes: Sequence[Box],
    tile: NDArray[np.uint8],
    maps: Sequence[NDArray[np.float32]],
    gallery: Gallery,
) -> None:
    extent = (0.0, 1.0, 1.0, 0.0)
    page.axes(boxes[0]).imshow(tile, extent=extent, aspect="auto")
    for box, values, (low, high) in zip(boxes[1:], maps, gallery.ranges, strict=True):
        axes = page.axes(box)
        draw_ground(axes, tile, (1.0, 1.0))
        scale = Normalize(low, max(high, low + 1e-6))
        colours = mpl.colormaps["inferno"](scale(values), alpha=_OPACITY)
        axes.imshow(colours, extent=extent, aspect="auto", interpolation="nearest")


def _arranged(tiles: int, panels: int) -> Layout:
    """Boxes for the panels of each tile, tile by tile, as many tiles in a row as there is room."""
    across = max(1, _PANELS // panels)
    inside = _WIDTH - 2 * _MARGIN - (across - 1) * _BETWEEN - across * (panels - 1) * _GAP
    side = inside / (across * panels)
    top, boxes = _HEADER + _CAPTION, []
    for i in range(tiles):
        left = _MARGIN + (i % across) * (panels * side + (panels - 1) * _GAP + _BETWEEN)
        row_top = top + (i // across) * (side + _NOTE)
        boxes += [Box(left + j * (side + _GAP), row_top, side, side) for j in range(panels)]
    height = boxes[-1].bottom + _NOTE + _FOOT
    whole = Box(_MARGIN, top, _WIDTH - 2 * _MARGIN, height - top - _FOOT)
    return Layout((_WIDTH, height), whole, whole, whole.width, tuple(boxes))
