import math

import pytest
import torch
from torch import Tensor, nn

from saccade.pipeline.tasks.choose import described, task_of
from saccade.pipeline.tasks.labels import Labels
from saccade.pipeline.tasks.task import mean_loss
from saccade.pipeline.uncertainty import Outcome

TASK = Labels(("tumour", "necrosis"))
NAN = math.nan
TRAIN = torch.tensor([[1, 0], [0, NAN], [0, 1], [0, NAN]], dtype=torch.float64)


def gradient(outputs: Tensor, targets: Tensor, mode: str = "balanced") -> Tensor:
    leaf = outputs.clone().requires_grad_()
    mean_loss(TASK.criterion(TRAIN, mode), leaf, targets).backward()
    assert leaf.grad is not None
    return leaf.grad


def test_what_is_unknown_moves_nothing_at_all() -> None:
    """Exactly: neither by itself nor through what is known beside it."""
    outputs = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    found = gradient(outputs, TRAIN)
    assert (found[TRAIN.isnan()] == 0).all()
    assert (found[~TRAIN.isnan()] != 0).all()
    wild = torch.where(TRAIN.isnan(), torch.tensor(torch.inf), outputs)
    assert gradient(wild, TRAIN).equal(found)
    criterion = TASK.criterion(TRAIN, "balanced")
    assert mean_loss(criterion, wild, TRAIN).equal(mean_loss(criterion, outputs, TRAIN))


def test_the_loss_is_the_mean_over_what_is_known() -> None:
    outputs = torch.tensor([[2.0, -1.0], [0.5, 9.0]])
    targets = torch.tensor([[1, 0], [0, NAN]], dtype=torch.float64)
    found = mean_loss(TASK.criterion(TRAIN, "none"), outputs, targets)
    wanted = [math.log1p(math.exp(-2)), math.log1p(math.exp(-1)), math.log1p(math.exp(0.5))]
    assert found.item() == pytest.approx(sum(wanted) / 3)


def test_balanced_lets_slides_with_a_label_count_as_much_as_those_without() -> None:
    """Of the training slides one has tumour and three do not: at no opinion, forces are level."""
    pull = gradient(torch.zeros(4, 2), TRAIN)
    assert pull.sum(dim=0).tolist() == pytest.approx([0, 0], abs=1e-7)
    assert gradient(torch.zeros(4, 2), TRAIN, "none").sum(dim=0)[0] > 0


def test_sums_over_batches_are_the_sum_over_all() -> None:
    """What steps of several batches and processes rest on."""
    criterion = TASK.criterion(TRAIN, "balanced")
    outputs = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    parts = [(outputs[:1], TRAIN[:1]), (outputs[1:], TRAIN[1:])]
    total = sum(criterion.total(each, wanted) for each, wanted in parts)
    weight = sum(criterion.weight(wanted) for _, wanted in parts)
    torch.testing.assert_close(total / weight, mean_loss(criterion, outputs, TRAIN))


def test_without_anything_unknown_it_is_torchs_own_loss() -> None:
    outputs, targets = torch.randn(5, 2), torch.randint(0, 2, (5, 2))
    found = mean_loss(TASK.criterion(TRAIN, "none"), outputs, targets.double())
    wanted = nn.functional.binary_cross_entropy_with_logits(outputs, targets.float())
    torch.testing.assert_close(found, wanted)


def test_each_label_has_a_probability_and_is_named_from_one_half_on() -> None:
    read = TASK.activate(torch.tensor([0.0, -2.0])).numpy()
    assert TASK.summary(read) == {
        "labels": ["tumour"],
        "probabilities": {"tumour": 0.5, "necrosis": pytest.approx(1 / (1 + math.exp(2)))},
    }
    assert TASK.cells(TASK.summary(read)) == {
        "predicted_tumour": 1,
        "predicted_necrosis": 0,
        "prob_tumour": "0.500000",
        "prob_necrosis": "0.119203",
    }


def test_it_is_sure_once_each_label_is_on_its_side() -> None:
    estimates = torch.tensor([[3, -3.0], [3.2, -3.2], [2.8, -2.8], [3.1, -2.9]]).double()
    assert Outcome(estimates.mean(0), estimates, TASK).is_sure()
    estimates[:, 1] += 3  # around nothing: that label could be there or not
    assert not Outcome(estimates.mean(0), estimates, TASK).is_sure()


def test_an_interval_holds_the_probability_of_each_label() -> None:
    estimates = torch.tensor([[1.0, -2], [2, -1], [3, 0]]).double()
    outcome = Outcome(estimates.mean(0), estimates, TASK)
    half = 4.302653 / math.sqrt(3)  # Student's t of 2 degrees, standard error of 1, 2, 3
    ends = [[1 / (1 + math.exp(-m - s * half)) for s in (-1, 1)] for m in (2, -1)]
    assert outcome.intervals().tolist() == [pytest.approx(each) for each in ends]


def test_what_is_described_is_the_same_task() -> None:
    assert task_of({"task": described(TASK)}) == TASK
