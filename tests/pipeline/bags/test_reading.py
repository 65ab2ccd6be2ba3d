"""A slide in pieces is the slide, and its maps sum to what was said of it."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from saccade.models.slide_heads import BagHead, GridHead
from saccade.pipeline.bags.reading import read_maps


@pytest.fixture
def grid_head(one_thread: None) -> GridHead:
    return bold(GridHead(features=4, classes=3, width=5))


def bold(model: nn.Module) -> nn.Module:
    """With weights so large that every place differs from the others."""
    torch.manual_seed(0)
    for value in model.parameters():
        if value.ndim > 1:
            nn.init.normal_(value, std=0.5)
    return model.eval()


def slide(rows: int = 23, cols: int = 9) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Tiles of half of a grid, in no order, with rows that have none."""
    dice = np.random.default_rng(0)
    there = dice.random((rows, cols)) < 0.5
    there[8:14] = False
    cells = np.argwhere(there)
    dice.shuffle(cells)
    return dice.normal(size=(len(cells), 4)).astype(np.float32), cells


@pytest.mark.parametrize("cells_at_once", [1, 50, 80, 10_000])
@pytest.mark.parametrize("side", [1, 3])
def test_pieces_are_the_whole(side: int, cells_at_once: int, one_thread: None) -> None:
    model = bold(GridHead(features=4, classes=3, width=5, side=side))
    features, cells = slide()
    with torch.no_grad():
        wanted = model(torch.from_numpy(features), torch.from_numpy(cells))

    found = read_maps(model, features, cells, cells_at_once=cells_at_once)

    assert found.log_classes is not None
    assert wanted.log_classes is not None
    np.testing.assert_allclose(found.attention_logits, wanted.attention_logits, atol=1e-6)
    np.testing.assert_allclose(found.log_classes, wanted.log_classes, atol=1e-6)
    np.testing.assert_allclose(found.probabilities, wanted.log_probs.exp(), atol=1e-6)


def test_evidence_sums_to_what_is_said_of_the_slide(grid_head: GridHead) -> None:
    found = read_maps(grid_head, *slide(), cells_at_once=50)

    assert found.evidence is not None
    assert found.attention.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found.evidence.sum(axis=1), found.probabilities, atol=1e-6)


def test_where_the_grid_begins_does_not_count(grid_head: GridHead) -> None:
    features, cells = slide()

    found, moved = (
        read_maps(grid_head, features, each) for each in (cells, cells + np.array([40, 7]))
    )
    np.testing.assert_allclose(moved.probabilities, found.probabilities, atol=1e-7)


def test_in_training_too_a_tile_is_normalised_by_itself(one_thread: None) -> None:
    model = bold(GridHead(features=4, classes=3, width=5, side=1)).train()
    features, cells = (torch.from_numpy(each) for each in slide())

    with torch.no_grad():
        among, alone = model(features, cells), model(features[3:4], cells[3:4])

    torch.testing.assert_close(among.log_classes[:, 3], alone.log_classes[:, 0])
    torch.testing.assert_close(among.attention_logits[3], alone.attention_logits[0])


def test_neighbours_count_for_a_grid_and_not_for_a_bag(
    grid_head: GridHead, one_thread: None
) -> None:
    features, cells = slide()
    elsewhere = cells[np.random.default_rng(1).permutation(len(cells))]
    bag_head = bold(BagHead(features=4, classes=3, width=5))

    for model, alike in ((grid_head, False), (bag_head, True)):
        here, there = (read_maps(model, features, each) for each in (cells, elsewhere))
        assert np.allclose(here.attention_logits, there.attention_logits, atol=1e-5) is alike
    bag = read_maps(bag_head, features, cells)
    assert bag.log_classes is None
    assert bag.evidence is None
    assert bag.attention.sum() == pytest.approx(1, abs=1e-12)
    assert bag.probabilities.sum() == pytest.approx(1, abs=1e-12)
