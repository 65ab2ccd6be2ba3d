"""Steps of runs that are kept on disk by `epochs`: rates of groups, and steps that saw nothing."""

import pytest
import torch
from torch import Tensor, nn

from saccade.pipeline.epochs import fit_steps
from saccade.pipeline.errors import DivergedError
from saccade.pipeline.saliency.config import SaliencyTrainingConfig

SETTINGS = SaliencyTrainingConfig(epochs=1, learning_rate=0.5, clip_norm=0.0)


def fit(steps: list[list[float]]) -> tuple[float, float, float]:
    """The loss of two numbers is their sum times an example, by gradient descent."""
    model = nn.ParameterList([torch.zeros(()), torch.zeros(())])
    groups = [{"params": [model[0]], "lr_scale": 0.1}, {"params": [model[1]]}]
    optimizer = torch.optim.SGD(groups, lr=9.0)

    def loss_of(example: float) -> Tensor:
        return (model[0] + model[1]) * example

    loss = fit_steps(SETTINGS, model, optimizer, steps, len(steps), 0, loss_of)
    return float(model[0].detach()), float(model[1].detach()), loss


def test_each_group_has_its_share_of_the_rate_and_gradients_of_a_step_are_a_mean() -> None:
    slow, fast, loss = fit([[1.0, 3.0]])

    assert (slow, fast) == pytest.approx((-0.5 * 0.1 * 2, -0.5 * 2))
    assert loss == 0


def test_a_step_that_saw_nothing_is_none() -> None:
    assert fit([[], [1.0, 3.0], []]) == fit([[1.0, 3.0]])
    with pytest.raises(DivergedError, match="nothing could be read for any step of epoch 1"):
        fit([[], []])
