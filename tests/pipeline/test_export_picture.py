from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from saccade.pipeline.export.badges import place_badges
from saccade.pipeline.export.layout import MOST_TILES, Box, arrange
from saccade.pipeline.export.page import DPI
from saccade.pipeline.export.picture import Overview, draw_overview

PINK, WHITE = (220, 150, 190), (245, 245, 245)


def overview(rows: int = 12, cols: int = 20, **change: Any) -> Overview:
    """Tissue in the left half of a slide of 50 um cells, all attention on one of its cells."""
    thumbnail = np.full((rows * 10, cols * 10, 3), WHITE, np.uint8)
    thumbnail[:, : cols * 5] = PINK
    tissue = np.zeros((rows, cols), bool)
    tissue[:, : cols // 2] = True
    attention = np.where(tissue, 1e-6, 0.5)  # what is outside the tissue must not show
    attention[min(2, rows - 1), min(3, cols - 1)] = 1
    facts: dict[str, Any] = {
        "thumbnail": thumbnail,
        "thumbnail_mpp": (5.0, 5.0),
        "attention": attention,
        "cell_um": (50.0, 50.0),
        "tissue": tissue,
        "boxes_um": np.array([[150.0, 100.0, 50.0, 50.0], [200.0, 300.0, 50.0, 50.0]]),
        "title": "slide.svs",
        "subtitle": "positive 0.93",
        "tiles": np.zeros((2, 32, 32, 3), np.uint8),
        "tile_notes": ("attention 0.9", "attention 0.1\nweight 0.2"),
    }
    return Overview(**facts | change)


def draw(path: Path, shown: Overview) -> NDArray[np.uint8]:
    draw_overview(path, shown)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def colour_at(picture: NDArray[np.uint8], box: Box, x: float, y: float) -> NDArray[np.int_]:
    """Mean colour around a point of a panel, given as shares of its width and height."""
    row, col = int((box.top + y * box.height) * DPI), int((box.left + x * box.width) * DPI)
    around = picture[row - 2 : row + 3, col - 2 : col + 3].reshape(-1, 3)
    return np.array(np.rint(around.mean(axis=0)), int)


def saturation(colour: NDArray[np.int_]) -> int:
    return int(colour.max() - colour.min())


def test_panels_show_the_slide_and_its_attention_where_they_are(tmp_path: Path) -> None:
    shown = overview(boxes_um=np.empty((0, 4)), tiles=None, tile_notes=())
    picture = draw(tmp_path / "a.png", shown)
    layout = arrange(12 / 20, 0)
    assert picture.shape[:2] == pytest.approx((layout.size[1] * DPI, layout.size[0] * DPI), abs=1)

    assert colour_at(picture, layout.slide, 0.25, 0.5).tolist() == list(PINK)
    assert colour_at(picture, layout.slide, 0.75, 0.5).tolist() == list(WHITE)
    hot = colour_at(picture, layout.attention, 3.5 / 20, 2.5 / 12)
    assert hot[0] > 240
    assert saturation(hot) > 60  # the yellow end of the scale
    transposed = colour_at(picture, layout.attention, 2.5 / 20, 3.5 / 12)
    assert saturation(transposed) < 20
    assert saturation(colour_at(picture, layout.attention, 0.4, 0.8)) < 20  # cold tissue: grey
    assert saturation(colour_at(picture, layout.attention, 0.75, 0.5)) == 0  # no tissue: no heat
    assert colour_at(picture, layout.attention, 0.75, 0.5)[0] > 240


def test_flat_attention_does_not_look_hot(tmp_path: Path) -> None:
    flat = np.ones((12, 20))
    picture = draw(tmp_path / "a.png", overview(attention=flat))
    layout = arrange(12 / 20, 2)
    red, green, _ = colour_at(picture, layout.attention, 0.4, 0.8)
    assert red < 200
    assert green < 150


def test_tiles_are_outlined_where_they_were_read(tmp_path: Path) -> None:
    shown = overview()
    elsewhere = shown.boxes_um + np.array([500, 0, 0, 0])
    with_tiles = draw(tmp_path / "a.png", shown)
    without = draw(tmp_path / "b.png", replace(shown, boxes_um=elsewhere))
    panel = arrange(12 / 20, 2).slide
    edge = (150 / 1000, 125 / 600)  # left edge of the first tile, of a slide of 1000 x 600 um
    assert colour_at(without, panel, *edge).tolist() == list(PINK)
    assert colour_at(with_tiles, panel, *edge).tolist() != list(PINK)


@pytest.mark.parametrize(("rows", "cols"), [(4, 200), (200, 4), (40, 40), (1, 1)])
def test_slides_of_any_shape_are_drawn(tmp_path: Path, rows: int, cols: int) -> None:
    attention = np.full((rows, cols), 0.1)
    tissue = np.ones((rows, cols), bool)
    shown = overview(rows, cols, attention=attention, tissue=tissue, title="$x^{2 " * 60)
    assert draw(tmp_path / "a.png", shown).std() > 1


def test_same_overview_gives_the_same_bytes(tmp_path: Path) -> None:
    draw_overview(tmp_path / "1.png", overview())
    draw_overview(tmp_path / "2.png", overview())
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tissue": np.ones((3, 3), bool)}, "need the same shape"),
        ({"tissue": np.zeros((12, 20), bool)}, "on some tissue"),
        ({"attention": np.zeros((12, 20))}, "on some tissue"),
        ({"attention": np.full((12, 20), np.nan)}, "on some tissue"),
        ({"attention": np.full((12, 20), -1.0)}, "on some tissue"),
        ({"boxes_um": np.ones((1, 4))}, "2 tiles need as many boxes"),
        ({"tile_notes": ("one",)}, "2 tiles need as many boxes and notes"),
    ],
)
def test_overviews_that_cannot_be_drawn_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overview(**change)


@given(aspect=st.floats(0.02, 50), tiles=st.integers(0, 12))
def test_parts_lie_on_the_page_and_clear_of_each_other(aspect: float, tiles: int) -> None:
    layout = arrange(aspect, tiles)
    assert len(layout.tiles) == min(tiles, MOST_TILES)
    for panel in (layout.slide, layout.attention):
        assert panel.height / panel.width == pytest.approx(aspect)
    boxes = [layout.slide, layout.attention, *layout.tiles]
    for box in boxes:
        assert box.left > 0
        assert box.top > 0
        assert box.right < layout.size[0]
        assert box.bottom < layout.size[1]
    for one, two in combinations(boxes, 2):
        beside = one.right < two.left or two.right < one.left
        assert beside or one.bottom < two.top or two.bottom < one.top


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 4)), max_size=8))
def test_badges_are_near_inside_and_apart(marks: list[tuple[float, float]]) -> None:
    points = np.array(marks, float).reshape(-1, 2)
    badges = place_badges(points, (5, 4))
    assert badges.shape == points.shape
    assert (np.linalg.norm(badges - points, axis=1) < 1.3).all()
    assert ((badges > 0) & (badges < (5, 4))).all()
    for one, two in combinations(badges, 2):
        assert np.linalg.norm(one - two) > 0.2


def test_what_the_encoder_looked_at_is_outlined_where_it_lies(tmp_path: Path) -> None:
    """Halves of black tiles, the right and the upper one: their edges are no longer black."""
    right, upper = [[0.5, 0], [1, 0], [1, 1], [0.5, 1]], [[0, 0], [1, 0], [1, 0.5], [0, 0.5]]
    shown = overview(cuts=np.array([right, upper]))
    first, second = arrange(0.6, 2).tiles
    plain, outlined = draw(tmp_path / "plain.png", overview()), draw(tmp_path / "cut.png", shown)

    edges = [(first, 0.5, 0.75), (second, 0.75, 0.5)]
    for box, x, y in edges:
        assert (colour_at(plain, box, x, y) == 0).all()
        assert colour_at(outlined, box, x, y).max() > 60
    for box, x, y in [(first, 0.75, 0.5), (first, 0.25, 0.75), (second, 0.5, 0.75)]:
        assert (colour_at(outlined, box, x, y) == 0).all()


def test_outlines_that_are_not_of_the_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match=r"need cuts of the shape \(2, 4, 2\), found \(1, 4, 2\)"):
        overview(cuts=np.zeros((1, 4, 2)))
