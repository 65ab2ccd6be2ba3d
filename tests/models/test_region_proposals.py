"""The region proposal network: its size, its order of numbers, its loss and its proposals."""

import math

import pytest
import torch
from torch import Tensor, nn

from saccade.models.anchors import anchors, spread
from saccade.models.boxes import encode_boxes
from saccade.models.region_proposals import (
    TEST,
    TRAINING,
    Glimpses,
    Limits,
    RegionProposalNetwork,
)

NONE = torch.zeros(0, 4)


def boxes(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def seen(places: Tensor, likely: list[float]) -> Glimpses:
    """Anchors that stay where they are, with these probabilities of being an object."""
    chance = torch.tensor(likely)
    logits = torch.stack([(1 - chance).log(), chance.log()], dim=1)
    return Glimpses(logits[None], torch.zeros(1, len(places), 4), places)


@pytest.fixture
def network() -> RegionProposalNetwork:
    torch.manual_seed(0)
    return RegionProposalNetwork(3, stride=8, ratios=[1], scales=[1, 2], min_side_px=5, hidden=4)


def test_parameters_are_as_many_as_published() -> None:
    with torch.device("meta"):
        network = RegionProposalNetwork(512)

    assert sum(p.numel() for p in network.parameters()) == 2_387_510
    assert (network.score.out_channels, network.code.out_channels) == (18, 36)
    last = (*network.score.parameters(), *network.code.parameters())
    assert sum(p.numel() for p in last) == 27_702


def test_limits_are_the_published_ones() -> None:
    assert (Limits(12_000, 2_000), Limits(6_000, 300)) == (TRAINING, TEST)


def test_each_anchor_has_the_numbers_of_its_own_cell(network: RegionProposalNetwork) -> None:
    """Scores: all backgrounds, then all objects. Codes: four numbers an anchor."""
    features = torch.rand(2, 3, 4, 5)
    for layer in (network.score, network.code):
        nn.init.normal_(layer.bias)  # type: ignore[arg-type]

    found = network(features)

    x = network.look(features).relu()
    scores, codes = network.score(x), network.code(x)
    row, col, anchor = 2, 3, 1
    number = (row * 5 + col) * 2 + anchor
    assert found.scores.shape == (2, 4 * 5 * 2, 2)
    assert torch.equal(found.scores[1, number], scores[1, [anchor, 2 + anchor], row, col])
    assert torch.equal(found.codes[1, number], codes[1, 4 * anchor : 4 * anchor + 4, row, col])
    assert torch.equal(found.places, spread(anchors(8, ratios=[1], scales=[1, 2]), 4, 5, 8))


def test_loss_by_hand(network: RegionProposalNetwork) -> None:
    """One object, one ignored, two of background: three count, for boxes also."""
    truth = boxes((0, 0, 9, 9))
    places = boxes((0, 0, 9, 9), (0, 0, 9, 5), (30, 30, 39, 39), (50, 50, 59, 59))
    glimpses = seen(places, [0.5, 0.9, 0.2, 0.1])
    glimpses.codes[0, 0] = torch.tensor([1.0, 0, 0, 1 / 9])
    glimpses.codes[0, 2] = 100  # nobody asks where background is

    of_scores, of_codes = network.losses(glimpses, [truth], (64, 64))

    assert float(of_scores) == pytest.approx(-math.log(0.5 * 0.8 * 0.9) / 3)
    assert float(of_codes) == pytest.approx((1 - 0.5 / 9 + 0.5 / 9) / 3)


def test_loss_of_a_batch_is_the_mean_over_its_images(network: RegionProposalNetwork) -> None:
    places = boxes((0, 0, 9, 9), (30, 30, 39, 39))
    one = seen(places, [0.5, 0.2])
    both = Glimpses(one.scores.repeat(2, 1, 1), one.codes.repeat(2, 1, 1), places)

    of_scores, of_codes = network.losses(both, [places[:1], NONE], (64, 64))

    logs = [math.log(0.5 * 0.8), math.log(0.5 * 0.8)]
    assert float(of_scores) == pytest.approx(-sum(logs) / 4)
    assert float(of_codes) == 0


def test_codes_that_say_the_truth_have_no_loss(network: RegionProposalNetwork) -> None:
    truth, places = boxes((1, 2, 9, 12)), boxes((0, 0, 9, 9))
    glimpses = Glimpses(torch.zeros(1, 1, 2), encode_boxes(truth, places)[None], places)

    assert float(network.losses(glimpses, [truth], (64, 64))[1]) == 0


def test_an_image_that_no_anchor_fits_into_has_no_loss_yet_a_gradient(
    network: RegionProposalNetwork,
) -> None:
    losses = torch.stack(network.losses(network(torch.rand(1, 3, 1, 1)), [NONE], (7, 7)))

    losses.sum().backward()
    assert losses.tolist() == [0, 0]


def test_no_more_than_256_anchors_count(network: RegionProposalNetwork) -> None:
    """Each anchor that counts pulls at its logits; others do not."""
    glimpses = network(torch.rand(1, 3, 20, 20))
    glimpses.scores.retain_grad()

    network.losses(glimpses, [boxes((16, 16, 31, 31))], (160, 160))[0].backward()

    pulled = glimpses.scores.grad
    assert pulled is not None
    assert int(pulled.any(dim=2).sum()) == 256


def test_proposals_lie_inside_and_are_not_too_small_and_the_best_come_first(
    network: RegionProposalNetwork,
) -> None:
    places = boxes(
        (-5, -5, 10, 10),  # is clipped
        (20, 20, 23, 40),  # 4 px are too narrow
        (20, 20, 24, 40),  # 5 px are not
        (60, 0, 70, 20),  # has 4 px inside
    )

    found = network.propose(seen(places, [0.2, 0.9, 0.8, 0.7]), (64, 64), TRAINING)

    assert [each.tolist() for each in found] == [[[20, 20, 24, 40], [0, 0, 10, 10]]]


def test_the_best_proposal_suppresses_what_it_covers_by_more_than_0_7(
    network: RegionProposalNetwork,
) -> None:
    places = boxes((0, 0, 9, 9), (0, 0, 9, 6), (0, 0, 9, 7))

    (found,) = network.propose(seen(places, [0.9, 0.8, 0.7]), (64, 64), TRAINING)

    assert found.tolist() == places[:2].tolist()


def test_limits_count_before_and_after_suppression(network: RegionProposalNetwork) -> None:
    places = boxes((0, 0, 9, 9), (0, 0, 9, 8), (20, 20, 29, 29), (40, 40, 49, 49))
    glimpses = seen(places, [0.9, 0.8, 0.7, 0.6])

    def proposed(before: int, after: int) -> list[list[float]]:
        return network.propose(glimpses, (64, 64), Limits(before, after))[0].tolist()

    assert proposed(2, 9) == places[[0]].tolist()
    assert proposed(3, 9) == places[[0, 2]].tolist()
    assert proposed(9, 2) == places[[0, 2]].tolist()


def test_a_map_without_any_proposal_gives_none(network: RegionProposalNetwork) -> None:
    found = network.propose(seen(boxes((0, 0, 3, 3)), [0.9]), (64, 64), TEST)

    assert [each.shape for each in found] == [(0, 4)]
