"""Tiles of an epoch: each class as often as any other, on a pixel of it, the same ones again."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.pipeline.annotations import class_cells
from saccade.pipeline.annotations.balanced import BalancedTiles
from saccade.pipeline.annotations.class_cells import CELL_PX, count_classes
from saccade.pipeline.annotations.config import AnnotationsConfig
from saccade.pipeline.annotations.open_truth import open_truth
from saccade.pipeline.annotations.truth import IGNORED
from saccade.tiling import open_slide

SIDE_PX, MPP = 32, 1.0  # of slides of 0.5 um/px: 64 level-0 pixels
SIZES_L0 = [(300, 200), (220, 260), (50, 200)]


@pytest.fixture
def tiles(tmp_path: Path) -> BalancedTiles:
    """Slides of background with a small square of class 1; class 2 is on the second only."""
    cells = []
    for number, (width, height) in enumerate(SIZES_L0):
        classes = np.zeros((height, width), np.uint8)
        classes[:20, :] = IGNORED
        classes[100:110, 30:42] = 1
        if number == 1:
            classes[250:, 200:] = 2
        Image.fromarray(classes).save(tmp_path / f"s{number}_labels.png")
        slide = open_slide(np.zeros((height, width, 3), np.uint8), mpp=0.5)
        config = AnnotationsConfig(kind="labels", folder=str(tmp_path), classes=("b", "c", "d"))
        cells.append(count_classes(open_truth(config, f"s{number}", slide), slide, MPP))
    return BalancedTiles(cells, SIZES_L0, [(64.0, 64.0)] * 3, uniform=0.25)


def test_pixels_are_counted_in_cells(tiles: BalancedTiles) -> None:
    one, other, _ = tiles.cells

    assert one.counts.shape == (2, 3, 3)  # cells are 128 level-0 pixels
    assert one.cell_l0 == (2.0 * CELL_PX, 2.0 * CELL_PX)
    assert one.counts[..., 1].tolist() == [[5 * 6, 0, 0], [0, 0, 0]]
    assert other.counts[..., 2].sum() == 5 * 10
    assert one.counts.sum() == 150 * 90  # what is ignored, and what lies beyond, is left out


@pytest.mark.parametrize("count", [3, 40, 101])
def test_each_class_is_drawn_as_often_as_any_other(tiles: BalancedTiles, count: int) -> None:
    drawn = Counter(aim.wanted for aim in tiles.draw(count, seed=0, epoch=0))

    assert drawn.pop(None, 0) == round(0.25 * count)
    assert max(drawn.values()) - min(drawn.get(number, 0) for number in range(3)) <= 1


def test_every_tile_holds_a_pixel_of_its_class_and_lies_in_the_slide(tiles: BalancedTiles) -> None:
    aims = tiles.draw(200, seed=0, epoch=0)

    for aim in aims:
        labels = tiles.cells[aim.slide].truth.labels(*aim.corner_l0, (SIDE_PX, SIDE_PX), MPP)
        assert (labels != IGNORED).any() if aim.wanted is None else (labels == aim.wanted).any()
        for corner, size in zip(aim.corner_l0, SIZES_L0[aim.slide], strict=True):
            assert size < 64 or 0 <= corner <= size - 64
    assert len({aim.corner_l0[0] for aim in aims if aim.slide == 2}) > 10  # too narrow to hold it
    assert len({aim.wanted for aim in aims[:12]}) == 4  # they come in no order
    assert {aim.slide for aim in aims if aim.wanted == 1} == {0, 1, 2}
    assert {aim.slide for aim in aims if aim.wanted == 2} == {1}


def test_slides_with_a_class_are_drawn_alike(tiles: BalancedTiles) -> None:
    aims = tiles.draw(1200, seed=0, epoch=0)
    drawn = Counter(aim.slide for aim in aims if aim.wanted == 1)

    assert all(abs(number - 100) < 40 for number in drawn.values())  # four standard deviations


def test_the_same_seed_and_epoch_give_the_same_tiles(tiles: BalancedTiles) -> None:
    first, again = (tiles.draw(20, seed=1, epoch=2) for _ in range(2))

    assert first == again
    assert first != tiles.draw(20, seed=1, epoch=3)
    assert first != tiles.draw(20, seed=2, epoch=2)


def test_large_slides_are_looked_at_in_steps(
    tiles: BalancedTiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_cells, "_MOST_PX", 150 * 100 // 4)
    truth = tiles.cells[0].truth
    slide = open_slide(np.zeros((200, 300, 3), np.uint8), mpp=0.5)

    cells = count_classes(truth, slide, MPP)

    assert (cells.mpp, cells.counts.shape) == (2.0, (1, 2, 3))
    for seed in range(20):
        x, y = cells.place_l0(np.random.default_rng(seed), 1)
        assert truth.labels(x - 0.5, y - 0.5, (1, 1), 0.5)[0, 0] == 1


def test_slides_of_which_nothing_is_known_are_refused(tiles: BalancedTiles) -> None:
    nothing = [
        class_cells.ClassCells(each.truth, each.mpp, each.cell_l0, 0 * each.counts)
        for each in tiles.cells
    ]

    with pytest.raises(ValueError, match="no slide has a pixel whose class is known"):
        BalancedTiles(nothing, SIZES_L0, [(64.0, 64.0)] * 3).draw(1, seed=0, epoch=0)
    with pytest.raises(ValueError, match="no pixel is of class 2"):
        tiles.cells[0].place_l0(np.random.default_rng(0), 2)
