"""Anchors: the published table, and who is to be an object in cases small enough to see."""

import re

import pytest
import torch
from torch import Tensor

from saccade.models.anchors import (
    BACKGROUND,
    IGNORED,
    OBJECT,
    anchors,
    assign_anchors,
    assign_proposals,
    sample,
    spread,
)

NONE = torch.zeros(0, 4)
ROOM = (100, 100)


def boxes(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def labels(places: Tensor, truths: Tensor, size_px: tuple[int, int] = ROOM) -> list[int]:
    return assign_anchors(places, truths, size_px).labels.tolist()


def test_the_published_nine() -> None:
    assert anchors().tolist() == [
        [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199],
        [-56, -56, 71, 71], [-120, -120, 135, 135], [-248, -248, 263, 263],
        [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359],
    ]  # fmt: skip


def test_anchors_of_small_objects_have_the_sides_asked_for_around_the_cell() -> None:
    small = anchors(8, ratios=[1], scales=[1.5, 3, 5])

    assert (small[:, 2:] - small[:, :2] + 1).tolist() == [[12, 12], [24, 24], [40, 40]]
    assert ((small[:, 2:] + small[:, :2]) / 2).unique().tolist() == [3.5]  # of pixels 0 to 7


@pytest.mark.parametrize(
    "options", [{"scales": [0.0]}, {"ratios": []}, {"scales": []}, {"ratios": [1.0, -1.0]}]
)
def test_impossible_anchors_are_refused(options: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match=re.escape("ratios and scales above 0")):
        anchors(**options)  # type: ignore[arg-type]


def test_anchors_of_a_map_go_cell_by_cell_row_by_row() -> None:
    cell = anchors(ratios=[1], scales=[1, 2])

    everywhere = spread(cell, 2, 3, 16)

    assert everywhere.shape == (2 * 3 * 2, 4)
    right, down = torch.tensor([16, 0, 16, 0]), torch.tensor([0, 16, 0, 16])
    assert torch.equal(everywhere[:2], cell)
    assert torch.equal(everywhere[2:4], cell + right)
    assert torch.equal(everywhere[6:8], cell + down)
    assert torch.equal(everywhere[10:], cell + 2 * right + down)


def test_overlap_decides_with_its_bounds_belonging_to_object_and_to_ignored() -> None:
    """A truth of 10 x 10 pixels has one like it; of the others, parts are cut off."""
    truth = boxes((0, 0, 9, 9))
    places = boxes((0, 0, 9, 9), (0, 0, 9, 6), (0, 0, 9, 5), (0, 0, 9, 2), (0, 0, 9, 1))

    assert labels(places, truth) == [OBJECT, OBJECT, IGNORED, IGNORED, BACKGROUND]


def test_each_truth_has_its_best_anchors_however_bad_ties_included() -> None:
    truth = boxes((10, 10, 19, 19))
    left, right, worse = (6, 6, 11, 11), (18, 18, 23, 23), (19, 19, 24, 24)

    assert labels(boxes(left, right, worse), truth) == [OBJECT, OBJECT, BACKGROUND]


def test_an_anchor_that_is_the_best_of_one_truth_is_moved_to_the_one_nearest_to_it() -> None:
    near, far = (10, 10, 19, 19), (18, 10, 37, 19)
    given = assign_anchors(boxes((11, 10, 20, 19), (60, 60, 69, 69)), boxes(far, near), ROOM)

    assert given.labels.tolist() == [OBJECT, BACKGROUND]
    assert given.nearest[0] == 1


def test_a_truth_that_no_anchor_touches_makes_none_its_own() -> None:
    assert labels(boxes((0, 0, 9, 9), (30, 30, 39, 39)), boxes((60, 60, 69, 69))) == [0, 0]


def test_anchors_across_the_border_are_ignored_and_are_nobodys_best() -> None:
    truth = boxes((0, 0, 9, 9))
    places = boxes((-1, 0, 9, 9), (0, 0, 9, 100), (4, 4, 13, 13), (90, 90, 99, 99))

    assert labels(places, truth) == [IGNORED, IGNORED, OBJECT, BACKGROUND]


def test_without_truths_all_anchors_inside_are_background() -> None:
    places = boxes((0, 0, 9, 9), (-1, 0, 9, 9))

    assert labels(places, NONE) == [BACKGROUND, IGNORED]
    assert assign_anchors(places, NONE, ROOM).nearest.tolist() == [0, 0]


@pytest.mark.parametrize(("least", "others"), [(0.0, [0, 0, 0]), (0.1, [0, 0, -1])])
def test_proposals_need_half_an_object_and_background_some_of_it_if_asked(
    least: float, others: list[int]
) -> None:
    truths = boxes((50, 50, 59, 59), (0, 0, 9, 9))
    proposals = boxes((0, 0, 9, 4), (0, 0, 9, 3), (0, 0, 9, 0), (20, 20, 29, 29))

    given = assign_proposals(proposals, truths, background_from=least)

    assert given.labels.tolist() == [OBJECT, *others]
    assert given.nearest[:3].tolist() == [1, 1, 1]
    assert assign_proposals(proposals, NONE, background_from=least).labels.tolist() == [0] * 4


@pytest.mark.parametrize(
    ("objects", "background", "wanted"),
    [
        (500, 500, (128, 128)),
        (20, 500, (20, 236)),  # background fills up
        (500, 20, (128, 20)),  # objects do not
        (0, 500, (0, 256)),
        (3, 4, (3, 4)),
        (0, 0, (0, 0)),
    ],
)
def test_as_many_are_drawn_as_there_are_and_half_of_them_objects_at_most(
    objects: int, background: int, wanted: tuple[int, int]
) -> None:
    given = torch.tensor([OBJECT] * objects + [IGNORED] * 7 + [BACKGROUND] * background)

    drawn = sample(given, 256, share=0.5)

    assert tuple(map(len, drawn)) == wanted
    assert (given[drawn[0]] == OBJECT).all()
    assert (given[drawn[1]] == BACKGROUND).all()
    assert len(torch.cat(drawn).unique()) == sum(wanted)


def test_a_seed_settles_the_draw() -> None:
    given = torch.tensor([OBJECT, BACKGROUND] * 100)

    def draw(seed: int) -> list[list[int]]:
        dice = torch.Generator().manual_seed(seed)
        return [each.tolist() for each in sample(given, 20, share=0.5, generator=dice)]

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)
