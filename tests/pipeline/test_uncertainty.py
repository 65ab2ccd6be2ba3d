"""How far chance may have moved a prediction: intervals that hold what they say.

Draws here are of a slide whose answer by all places is known. Randomness is seeded, so that a rate
that passes once passes always.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import t as student
from torch import Tensor

from saccade.models.attention_sampling import draw_places
from saccade.models.des_raj import estimates_by_draw
from saccade.pipeline.tasks.classes import Classes
from saccade.pipeline.uncertainty import MISS, Outcome, looks, spent_at

PLACES, DRAWS = 300, 1200
CLASSES = Classes(())  # their number is that of the outputs
SHARPNESS = [0.3, 1.5, 3.0]  # of the attention: even, uneven, most of it on a few places


class Known:
    """A slide whose tiles' logits are known, those of uneven attention leaning to one class."""

    def __init__(self, sharpness: float, classes: int = 2, lean: float = 0.5) -> None:
        dice = torch.Generator().manual_seed(int(10 * sharpness) + classes)
        scores = sharpness * torch.randn(PLACES, generator=dice, dtype=torch.float64)
        self.log_attention = scores.log_softmax(0)
        logits = torch.randn(PLACES, classes, generator=dice, dtype=torch.float64)
        logits[:, 0] += lean * (scores - scores.mean())
        self.logits = logits - self.log_attention.exp() @ logits  # balanced: no class is ahead

    def shifted(self, lead: float) -> "Known":
        """Class 0 ahead of all others by `lead` logits."""
        self.logits[:, 0] += lead
        return self

    @property
    def truth(self) -> Tensor:
        return (self.log_attention.exp() @ self.logits).softmax(0)

    def draw(self, k: int, seed: int) -> list[int]:
        dice = torch.Generator().manual_seed(seed)
        return draw_places(self.log_attention[None], k, generator=dice)[0].tolist()

    def outcome(self, cells: list[int]) -> Outcome:
        log_probs = self.log_attention[cells][None]
        estimates = estimates_by_draw(self.logits[cells][None], log_probs)[0]
        return Outcome(estimates.mean(0), estimates, CLASSES)


@pytest.mark.parametrize("sharpness", SHARPNESS)
@pytest.mark.parametrize(("k", "repeats", "classes"), [(8, 1, 2), (32, 1, 4), (8, 4, 2)])
def test_95_of_100_intervals_hold_what_all_tiles_give(
    sharpness: float, k: int, repeats: int, classes: int
) -> None:
    slide = Known(sharpness, classes)
    truth, held = slide.truth.numpy(), np.zeros(classes)
    for seed in range(DRAWS // repeats):
        draws = [slide.outcome(slide.draw(k, seed * repeats + i)) for i in range(repeats)]
        estimates = torch.cat([each.estimates for each in draws if each.estimates is not None])
        low, high = Outcome(estimates.mean(0), estimates, CLASSES).intervals().T
        held += (low <= truth) & (truth <= high)

    rate = held / (DRAWS // repeats)
    assert (abs(rate - (1 - MISS)) < 0.03).all(), rate


def stop(slide: Known, seed: int, first: int = 4, most: int = PLACES) -> tuple[int, bool]:
    """Tiles read, and whether the outcome then named the right class."""
    order = slide.draw(most, seed)
    for look, count in enumerate(looks(first, most), start=1):
        outcome = slide.outcome(order[:count])
        if outcome.is_sure(miss=spent_at(look)):
            break
    return count, int(outcome.outputs.argmax()) == int(slide.truth.argmax())


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("sharpness", SHARPNESS)
def test_who_looks_again_and_again_is_rarely_sure_of_the_wrong_class(
    sharpness: float, classes: int
) -> None:
    """The hardest case: all classes are all but level, so every time it is sure is by chance."""
    slide = Known(sharpness, classes).shifted(1e-6)
    ended = [stop(slide, seed, most=120) for seed in range(300)]

    wrong = np.mean([count < 120 and not right for count, right in ended])
    assert wrong <= MISS


def test_looking_without_paying_for_it_would_break_the_promise() -> None:
    """So that the test above does not hold for want of looks."""
    slide = Known(1.5).shifted(1e-6)
    fooled = 0
    for seed in range(300):
        order = slide.draw(120, seed)
        seen = [slide.outcome(order[:count]) for count in looks(4, 120)]
        sure = [each for each in seen if each.is_sure(miss=MISS)]
        fooled += bool(sure) and int(sure[0].outputs.argmax()) == 1

    assert fooled / 300 > MISS


def test_clear_slides_take_few_tiles_and_close_ones_many() -> None:
    far, near = (
        [stop(Known(1.5).shifted(lead), seed) for seed in range(60)] for lead in (3.0, 0.3)
    )

    assert np.mean([count for count, _ in far]) < 20
    assert np.mean([count for count, _ in near]) > 80
    assert all(right for _, right in far)


def test_all_looks_together_spend_what_one_may() -> None:
    spent = [spent_at(look) for look in range(1, 2000)]

    assert all(later < sooner for sooner, later in pairwise(spent))
    assert 0.99 * MISS < sum(spent) < MISS


def test_looks_grow_by_half_and_end_with_what_is_allowed() -> None:
    assert looks(16, 100) == [16, 24, 36, 54, 81, 100]
    assert looks(4, 30) == [16, 24, 30]  # a handful says nothing of its own spread
    assert looks(64, 20) == [20]
    assert looks(16, 100)[:5] == looks(16, 1000)[:5]


def outcome(*estimates: tuple[float, ...]) -> Outcome:
    values = torch.tensor(estimates, dtype=torch.float64)
    return Outcome(values.mean(0), values, CLASSES)


def test_interval_of_two_classes_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, standard error 1 / sqrt(3), Student's t of 2 degrees."""
    low, high = outcome((1, 0), (2, 0), (3, 0)).intervals()[0]

    half = 4.302653 / math.sqrt(3)
    assert low == pytest.approx(1 / (1 + math.exp(-(2 - half))))
    assert high == pytest.approx(1 / (1 + math.exp(-(2 + half))))


def test_intervals_of_two_classes_mirror_each_other_and_hold_the_probabilities() -> None:
    (low_a, high_a), (low_b, high_b) = outcome((1, 0), (2, 0.5), (4, -1)).intervals()

    assert (low_a + high_b, high_a + low_b) == (pytest.approx(1), pytest.approx(1))
    three = outcome((1, 0, 0.2), (2, 0.5, 0.1), (4, -1, 0.0))
    probabilities = three.outputs.softmax(0).numpy()
    low, high = three.intervals().T
    assert ((low < probabilities) & (probabilities < high)).all()


@pytest.mark.parametrize("others", [1, 2, 3])
def test_the_other_classes_share_the_chance_to_be_overlooked(others: int) -> None:
    """A lead of mean 2 and standard error 1 / sqrt(3): sure from that miss on, and not below."""
    slide = outcome(*((lead, *[0.0] * others) for lead in (1, 2, 3)))
    alone = float(student.sf(2 * math.sqrt(3), 2))  # chance of such a lead over a level class

    assert slide.is_sure(miss=1.01 * others * alone)
    assert not slide.is_sure(miss=0.99 * others * alone)


def test_one_tile_says_nothing_of_its_chance() -> None:
    alone = outcome((9.0, 0.0))

    assert alone.intervals().tolist() == [[0, 1], [0, 1]]
    assert not alone.is_sure()


def test_without_chance_there_is_none_to_cover() -> None:
    exact = Outcome(torch.tensor([0.1, 0.0], dtype=torch.float64), None, CLASSES)

    assert np.ptp(exact.intervals(), axis=1).tolist() == [0, 0]
    assert exact.is_sure()
    assert not exact.is_sure(margin=0.1)
    assert not Outcome(torch.zeros(2, dtype=torch.float64), None, CLASSES).is_sure()


def test_a_margin_is_a_probability_beyond_one_half() -> None:
    logit = math.log(0.7 / 0.3)
    for lead, margin, sure in ((logit + 0.01, 0.2, True), (logit - 0.01, 0.2, False)):
        exact = Outcome(torch.tensor([lead, 0.0, -5.0], dtype=torch.float64), None, CLASSES)
        assert exact.is_sure(margin) == sure
