from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from saccade.models.attention_sampling import draw_places, draw_places_with_replacement


def dice(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_draws_equal_drawing_one_after_the_other() -> None:
    probs = torch.tensor([0.5, 0.25, 0.2, 0.05])
    draws = draw_places(probs.log().expand(12_000, -1), 2, generator=dice(0))

    orders = list(permutations(range(4), 2))
    expected = [float(probs[i] * probs[j] / (1 - probs[i])) for i, j in orders]
    seen = [int((draws == torch.tensor(order)).all(dim=1).sum()) for order in orders]

    assert sum(seen) == 12_000
    assert chisquare(seen, [p * 12_000 for p in expected]).pvalue > 0.01


def test_draws_with_replacement_are_independent() -> None:
    probs = torch.tensor([0.7, 0.2, 0.1])
    draws = draw_places_with_replacement(probs.log().expand(9_000, -1), 2, generator=dice(0))

    seen = torch.bincount(draws[:, 0] * 3 + draws[:, 1], minlength=9)
    expected = probs.double().outer(probs.double()).flatten()

    assert chisquare(seen, expected / expected.sum() * 9_000).pvalue > 0.01


@given(
    masks=st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
)
def test_places_differ_and_never_lie_at_minus_infinity(masks: list[list[bool]], seed: int) -> None:
    offered = torch.tensor(masks)
    offered[:, 3] = True
    k = int(offered.sum(dim=1).min())
    log_probs = torch.randn(offered.shape, generator=dice(seed)).masked_fill(~offered, -torch.inf)

    places = draw_places(log_probs, k, generator=dice(seed))

    assert places.dtype == torch.int64
    assert offered.gather(1, places).all()
    assert all(len(set(row)) == k for row in places.tolist())


def test_a_peaked_place_comes_first_and_the_rest_still_come() -> None:
    log_probs = torch.tensor([[0.0, -80.0, -90.0]])

    assert draw_places(log_probs, 3, generator=dice(0))[0, 0] == 0
    assert sorted(draw_places(log_probs, 3, generator=dice(0))[0].tolist()) == [0, 1, 2]


def test_one_generator_an_image_makes_draws_independent_of_the_batch() -> None:
    log_probs = torch.randn(3, 50, generator=dice(9)).log_softmax(dim=1)

    together = draw_places(log_probs, 5, generator=[dice(1), dice(2), dice(3)])
    backwards = draw_places(log_probs.flip(0), 5, generator=[dice(3), dice(2), dice(1)])
    alone = draw_places(log_probs[1:2], 5, generator=dice(2))

    assert torch.equal(together, backwards.flip(0))
    assert torch.equal(together[1:2], alone)


def test_padding_never_changes_a_draw() -> None:
    grid = torch.randn(1, 6, 7, generator=dice(0))
    padded = torch.nn.functional.pad(grid, (0, 4, 0, 2), value=-torch.inf)

    places = draw_places(grid.flatten(1), 5, generator=dice(1))
    places_padded = draw_places(padded.flatten(1), 5, generator=dice(1))

    assert torch.equal(places // 7, places_padded // 11)
    assert torch.equal(places % 7, places_padded % 11)


def test_same_seed_same_draw_and_torchs_own_by_default() -> None:
    log_probs = torch.zeros(2, 30).log_softmax(dim=1)

    torch.manual_seed(5)
    first, second = draw_places(log_probs, 4), draw_places(log_probs, 4)
    torch.manual_seed(5)

    assert torch.equal(first, draw_places(log_probs, 4))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("log_probs", "k", "message"),
    [
        ([[0.0, 0.0, -torch.inf]], 3, "cannot draw k=3 different places; an image offers 2"),
        ([[0.0, 0.0], [0.0, -torch.inf]], 2, "an image offers 1"),
        ([[0.0]], 0, "cannot draw k=0"),
        ([[0.0, torch.nan]], 1, "NaN"),
    ],
)
def test_impossible_draws_are_refused(log_probs: list[list[float]], k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_places(torch.tensor(log_probs), k)


def test_too_few_generators_are_refused() -> None:
    with pytest.raises(ValueError, match="one generator for each of 2 images, got 1"):
        draw_places(torch.zeros(2, 3), 1, generator=[dice(0)])
