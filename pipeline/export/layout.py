"""Where the parts of the overview picture go: arithmetic on inches, nothing is drawn here."""

from __future__ import annotations

from dataclasses import dataclass

_MARGIN, _GAP = 0.35, 0.4
_HEADER = 0.95  # title and subtitle
_CAPTION = 0.3  # above a panel
_SCALE, _COLOURS = 0.5, 0.85  # below a panel: scale bar or colour bar
_NOTE = 0.45  # below a tile
_WIDTH = 12.0
_COLUMN = 2.7  # the least that a caption and a colour bar need
_TALL_PANEL = 8.6
_STRIP_GAP = 0.15  # between two tiles

MOST_TILES = 8  # that a picture has room for


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in inches from the upper-left corner of the picture."""

    left: float
    top: float
    width: float
    height: float

    @property
    def bottom(self) -> float:
        """Lower edge, in inches from the top."""
        return self.top + self.height

    @property
    def right(self) -> float:
        """Right edge."""
        return self.left + self.width


@dataclass(frozen=True, slots=True)
class Layout:
    """The picture's size and the places of its parts, in inches.

    Attributes:
        size: (width, height) of the picture.
        slide: panel of the thumbnail; a scale bar has room below it.
        attention: panel of the heatmap; a colour bar has room below it.
        column: width that text below a panel may take.
        tiles: places for the strongest tiles; as many as were asked for.
    """

    size: tuple[float, float]
    slide: Box
    attention: Box
    column: float
    tiles: tuple[Box, ...]


def arrange(aspect: float, tiles: int) -> Layout:
    """Fit two panels and a few tiles on a picture, whatever the shape of the slide.

    A wide slide has its panels one above the other, others side by side; the tiles stand in a row
    below or, beside a tall slide, in two columns.

    Args:
        aspect: height of the slide by its width.
        tiles: how many tiles will be shown.
    """
    if aspect < 0.45:
        return _stacked(aspect, tiles)
    if aspect <= 1.5:
        return _side_by_side(aspect, tiles)
    return _tall(aspect, tiles)


def _stacked(aspect: float, tiles: int) -> Layout:
    width = _WIDTH - 2 * _MARGIN
    slide = Box(_MARGIN, _HEADER + _CAPTION, width, width * aspect)
    attention = Box(_MARGIN, slide.bottom + _SCALE + _CAPTION, width, width * aspect)
    strip, bottom = _strip(attention.bottom + _COLOURS, tiles)
    return Layout((_WIDTH, bottom), slide, attention, width, strip)


def _side_by_side(aspect: float, tiles: int) -> Layout:
    width = (_WIDTH - 2 * _MARGIN - _GAP) / 2
    slide = Box(_MARGIN, _HEADER + _CAPTION, width, width * aspect)
    attention = Box(slide.right + _GAP, slide.top, width, slide.height)
    strip, bottom = _strip(slide.bottom + _COLOURS, tiles)
    return Layout((_WIDTH, bottom), slide, attention, width, strip)


def _tall(aspect: float, tiles: int) -> Layout:
    width = _TALL_PANEL / aspect
    column = max(width, _COLUMN)
    slide = Box(_MARGIN, _HEADER + _CAPTION, width, _TALL_PANEL)
    attention = Box(_MARGIN + column + _GAP, slide.top, width, _TALL_PANEL)
    left = attention.left + column + _GAP
    side = _TALL_PANEL / (MOST_TILES // 2) - _NOTE - _STRIP_GAP
    places = tuple(
        Box(
            left + (i % 2) * (side + _STRIP_GAP),
            slide.top + (i // 2) * (side + _NOTE + _STRIP_GAP),
            side,
            side,
        )
        for i in range(min(tiles, MOST_TILES))
    )
    right = max((place.right for place in places), default=attention.left + column)
    return Layout(
        (right + _MARGIN, slide.bottom + _COLOURS + _MARGIN / 2), slide, attention, column, places
    )


def _strip(top: float, tiles: int) -> tuple[tuple[Box, ...], float]:
    """Tiles in a row below a caption, and where the picture ends."""
    if tiles == 0:
        return (), top + _MARGIN / 2
    side = (_WIDTH - 2 * _MARGIN + _STRIP_GAP) / MOST_TILES - _STRIP_GAP
    places = tuple(
        Box(_MARGIN + i * (side + _STRIP_GAP), top + _CAPTION, side, side)
        for i in range(min(tiles, MOST_TILES))
    )
    return places, top + _CAPTION + side + _NOTE + _MARGIN / 2
