"""Losses by hand, and that what is not known has no say."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from saccade.models.segmentation_losses import cross_entropy, soft_dice_loss


def scores_of(probabilities: list[list[float]]) -> Tensor:
    """One row of pixels, a list of probabilities each, as logits."""
    return torch.tensor(probabilities, dtype=torch.float64).log().T[None, :, None]


PIXELS = scores_of([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.5, 0.25, 0.25]])


def test_dice_by_hand() -> None:
    """Class 2 is nowhere, and does not count; the third pixel is not known."""
    loss = soft_dice_loss(PIXELS, torch.tensor([[[0, 1, 255]]]))

    first, second = 2 * 0.8 / (0.8 + 0.3 + 1), 2 * 0.6 / (0.1 + 0.6 + 1)
    assert float(loss) == pytest.approx(1 - (first + second) / 2)


def test_dice_is_nothing_where_all_is_right_and_one_where_all_is_wrong() -> None:
    truth = torch.tensor([[[0, 1, 1]]])
    right = 60 * F.one_hot(truth, 3).movedim(-1, 1).double()

    assert float(soft_dice_loss(right, truth)) == pytest.approx(0)
    assert float(soft_dice_loss(right, (truth + 1) % 3)) == pytest.approx(1)


def test_cross_entropy_by_hand() -> None:
    truth = torch.tensor([[[0, 1, 255]]])
    logs = torch.tensor([0.8, 0.6], dtype=torch.float64).log()
    weights = torch.tensor([1.0, 3.0, 7.0], dtype=torch.float64)

    assert float(cross_entropy(PIXELS, truth)) == pytest.approx(float(-logs.mean()))
    weighed = -(logs[0] + 3 * logs[1]) / 4
    assert float(cross_entropy(PIXELS, truth, weights=weights)) == pytest.approx(float(weighed))


@pytest.mark.parametrize("loss", [cross_entropy, soft_dice_loss])
def test_what_is_not_known_has_neither_loss_nor_gradient(loss: object) -> None:
    scores = PIXELS.clone().requires_grad_()
    assert callable(loss)
    value = loss(scores, torch.full((1, 1, 3), 255))
    value.backward()

    assert float(value.detach()) == 0
    assert scores.grad is not None
    assert not scores.grad.any()
    loss(scores, torch.tensor([[[0, 1, 255]]])).backward()
    assert scores.grad[..., :2].all()
    assert not scores.grad[..., 2].any()
