"""The head: what it sees of a region, its loss, and which of its answers stay."""

import math
import re

import pytest
import torch
from torch import Tensor

from saccade.models.boxes import encode_boxes
from saccade.models.roi_head import RoIHead

NONE = torch.zeros(0, 4)


def boxes(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def labels(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


class Answers(RoIHead):
    """Says for each region what it is told to, whatever the features are."""

    def __init__(self, likely: list[list[float]], *, codes: Tensor | None = None) -> None:
        super().__init__(1, classes=len(likely[0]) - 1, hidden=1)
        self.logits = torch.tensor(likely).log()
        self.codes = torch.zeros(*self.logits.shape, 4) if codes is None else codes
        self.regions: list[Tensor] = []

    def forward(self, features: Tensor, regions: list[Tensor]) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        self.regions = regions
        n = sum(map(len, regions))
        return self.logits[:n], self.codes[:n]


FEATURES = torch.zeros(1, 1, 4, 4)


@pytest.fixture
def head() -> RoIHead:
    torch.manual_seed(0)
    return RoIHead(2, classes=3, stride=4, hidden=5, side=2)


def test_a_head_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("at least one kind of objects, got 0")):
        RoIHead(1, classes=0)


def test_a_region_is_seen_where_its_pixels_are() -> None:
    """Each cell of a ramp holds the centre of its pixels: so does the mean of a region."""
    head = RoIHead(1, classes=1, stride=4, side=1)
    ramp = (torch.arange(8.0) * 4 + 1.5).expand(1, 1, 8, 8)
    caught = []
    head.look.register_forward_pre_hook(lambda _, args: caught.append(args[0]))

    head(ramp, [boxes((6, 6, 13, 13), (5, 8, 16, 9), (9, 9, 9, 9))])

    assert caught[0].squeeze(1).tolist() == pytest.approx([9.5, 10.5, 9])


def test_regions_of_all_images_come_one_after_the_other(head: RoIHead) -> None:
    features = torch.rand(2, 2, 8, 8)
    first, second = boxes((0, 0, 9, 9)), boxes((3, 3, 20, 20), (8, 0, 30, 12))

    scores, codes = head(features, [first, second])

    assert (scores.shape, codes.shape) == ((3, 4), (3, 4, 4))
    alone = head(features[1:], [second])
    torch.testing.assert_close((scores[1:], codes[1:]), alone)


def test_loss_by_hand() -> None:
    """The proposal is background, the truth itself an object of class 1: of two, two count."""
    truth = boxes((0, 0, 9, 9))
    codes = torch.full((2, 3, 4), 100.0)
    codes[0, 2] = torch.tensor([0.5, 0, 0, 3])  # only those of the object's own class count
    head = Answers([[0.5, 0.25, 0.25], [0.2, 0.4, 0.4]], codes=codes)

    of_classes, of_codes = head.losses(FEATURES, [boxes((30, 30, 39, 39))], [truth], [labels(1)])

    assert [each.tolist() for each in head.regions] == [[[0, 0, 9, 9], [30, 30, 39, 39]]]
    assert float(of_classes) == pytest.approx(-math.log(0.25 * 0.2) / 2)
    assert float(of_codes) == pytest.approx((0.125 + 2.5) / 2)


def test_codes_are_in_units_of_their_spread() -> None:
    truth, region = boxes((0, 0, 9, 9)), boxes((1, 1, 10, 9))
    right = encode_boxes(truth, region)[0] / torch.tensor([0.1, 0.1, 0.2, 0.2])
    codes = torch.zeros(2, 2, 4)
    codes[:] = right
    head = Answers([[0.01, 0.99]] * 2, codes=codes)

    (found,) = head.detect(FEATURES, [region], (64, 64), min_score=0.5)
    assert found.boxes[0].tolist() == pytest.approx([0, 0, 9, 9], abs=1e-5)

    torch.manual_seed(0)
    _, loss = head.losses(FEATURES, [region], [truth], [labels(0)])
    of_the_truth = (right.abs() - 0.5).where(right.abs() >= 1, right**2 / 2).sum() / 2
    assert float(loss) == pytest.approx(float(of_the_truth))  # the truth needs no move, yet has one


def test_a_quarter_of_128_regions_are_objects_at_most() -> None:
    truth = boxes((0, 0, 19, 19))
    near, far = truth.repeat(100, 1), boxes((40, 40, 59, 59)).repeat(200, 1)
    head = Answers([[0.5, 0.5]] * 128)

    head.losses(FEATURES, [torch.cat([near, far])], [truth], [labels(0)])

    (regions,) = head.regions
    assert len(regions) == 128
    assert int((regions[:, 0] == 0).sum()) == 32


def test_nothing_to_find_is_learned_as_background() -> None:
    head = Answers([[0.25, 0.75]] * 9)

    losses = head.losses(FEATURES, [boxes((0, 0, 9, 9), (20, 0, 29, 9))], [NONE], [labels()])

    assert [float(loss) for loss in losses] == [pytest.approx(-math.log(0.25)), 0]


def test_no_region_at_all_has_no_loss_and_finds_nothing(head: RoIHead) -> None:
    features = torch.rand(1, 2, 4, 4)

    losses = torch.stack(head.losses(features, [NONE], [NONE], [labels()]))
    (found,) = head.detect(features, [NONE], (16, 16), min_score=0)

    assert losses.tolist() == [0, 0]
    assert [each.shape for each in found] == [(0, 4), (0,), (0,)]


def test_objects_suppress_those_of_their_class_only_above_0_3() -> None:
    three = boxes((0, 0, 9, 9), (0, 0, 9, 2), (0, 6, 9, 9))  # 0.3 and 0.4 of the first
    head = Answers([[0.05, 0.5, 0.45], [0.1, 0.4, 0.5], [0.4, 0.3, 0.3]])

    (found,) = head.detect(FEATURES, [three], (64, 64), min_score=0.2)

    assert found.classes.tolist() == [0, 0, 1, 1]
    assert found.scores.tolist() == pytest.approx([0.5, 0.4, 0.5, 0.45])
    assert found.boxes.tolist() == three[[0, 1, 1, 0]].tolist()


def test_what_is_found_lies_inside_and_has_a_pixel() -> None:
    two = boxes((50, 50, 80, 80), (5, 5, 9, 9))
    codes = torch.zeros(2, 2, 4)
    codes[1, 1, 2] = -20  # narrower than any pixel
    head = Answers([[0.1, 0.9]] * 2, codes=codes)

    (found,) = head.detect(FEATURES, [two], (64, 60), min_score=0.5)

    assert found.boxes.tolist() == [[50, 50, 63, 59]]
