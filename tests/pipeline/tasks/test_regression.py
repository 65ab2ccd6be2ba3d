import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.pipeline.tasks.choose import described, new_task, task_of
from saccade.pipeline.tasks.config import TaskConfig
from saccade.pipeline.tasks.regression import Regression
from saccade.pipeline.tasks.task import mean_loss
from saccade.pipeline.uncertainty import Outcome

NAN = math.nan
TASK = Regression(("age", "size"), (60.0, 0.2), (10.0, 0.05), ("years", "mm"))


def test_means_and_deviations_are_those_of_the_training_slides() -> None:
    config = TaskConfig("regression", ("age", "size"), ("years", "mm"))
    train = [(50.0, 0.1), (70.0, NAN), (60.0, 0.3), (60.0, NAN)]
    task = new_task(config, config.columns, train)
    assert isinstance(task, Regression)
    assert task.means == (60.0, pytest.approx(0.2))
    assert task.deviations == (pytest.approx(math.sqrt(50)), pytest.approx(0.1))


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_standardised_and_back_is_the_number_itself(
    value: float, mean: float, deviation: float
) -> None:
    task = Regression(("x",), (mean,), (deviation,))
    there = task.standardise(torch.tensor([[value]], dtype=torch.float64))
    back = task.activate(there)
    assert back.item() == pytest.approx(value, abs=1e-9 * (abs(value) + abs(mean) + deviation))


def test_the_loss_is_the_squared_error_in_deviations_of_what_is_known() -> None:
    outputs = torch.tensor([[1.0, 0.0], [0.0, 7.0]])
    targets = torch.tensor([[80.0, 0.25], [60.0, NAN]], dtype=torch.float64)
    found = mean_loss(TASK.criterion(targets, "none"), outputs, targets)
    assert found.item() == pytest.approx((1 + 1 + 0) / 3)


def test_what_is_unknown_moves_nothing_at_all() -> None:
    targets = torch.tensor([[80.0, NAN], [NAN, 0.3]], dtype=torch.float64)
    found = []
    for far in (0.0, math.inf):
        outputs = torch.tensor([[0.5, far], [far, -0.5]], requires_grad=True)
        mean_loss(TASK.criterion(targets, "none"), outputs, targets).backward()
        assert outputs.grad is not None
        found.append(outputs.grad)
    assert found[0].equal(found[1])
    assert (found[0][targets.isnan()] == 0).all()


def test_evidence_of_all_tiles_the_bias_and_the_mean_are_the_number() -> None:
    tiles, bias = torch.tensor([[1.0, 2.0], [3.0, -1.0]]).double(), torch.tensor([0.5, 0.1])
    weight = torch.tensor([0.25, 0.75]).double()
    found = weight @ TASK.evidence(tiles) + bias * torch.tensor([10.0, 0.05])
    wanted = TASK.activate(weight @ tiles + bias)
    torch.testing.assert_close(found + torch.tensor([60.0, 0.2]).double(), wanted)


def test_an_interval_is_in_the_unit_of_the_number() -> None:
    """Estimates 1, 2, 3: mean 2, standard error 1 / sqrt(3), Student's t of 2 degrees."""
    estimates = torch.tensor([[1.0, 0], [2, 0], [3, 0]]).double()
    outcome = Outcome(estimates.mean(0), estimates, TASK)
    half = 10 * 4.302653 / math.sqrt(3)
    assert outcome.intervals()[0].tolist() == pytest.approx([80 - half, 80 + half])
    assert outcome.is_sure()  # nothing is named that other tiles could name otherwise


def test_people_read_name_number_and_unit() -> None:
    read = np.array([63.21, 0.1234567])
    assert TASK.words(read) == ["age 63.21 years", "size 0.1235 mm"]
    assert TASK.summary(read) == {"values": {"age": 63.21, "size": 0.1234567}}
    assert TASK.read(TASK.summary(read)) == read.tolist()
    assert TASK.note(3.456) == "+3.46 years"


def test_what_is_described_is_the_same_task_through_a_file() -> None:
    assert task_of({"task": json.loads(json.dumps(described(TASK)))}) == TASK


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"means": (1.0,)}, "a mean, a deviation and a unit for each name"),
        ({"units": ("mm",)}, "a mean, a deviation and a unit for each name"),
        ({"means": (1.0, math.nan)}, "means must be finite"),
        ({"deviations": (1.0, 0.0)}, "deviations must be positive"),
    ],
)
def test_impossible_tasks_are_refused(changes: dict[str, Any], message: str) -> None:
    values = {"names": ("a", "b"), "means": (0.0, 0.0), "deviations": (1.0, 1.0)}
    with pytest.raises(ValueError, match=message):
        Regression(**(values | changes))
