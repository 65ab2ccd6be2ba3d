import pytest
import torch

from saccade.pipeline.tasks.classes import Classes

TASK = Classes(("a", "b", "c", "d"))
LOGITS = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_scores_lead_back_to_the_probabilities(classes: int) -> None:
    logits = LOGITS[:classes]

    found = TASK.from_scores(TASK.scores(logits))
    torch.testing.assert_close(found, TASK.activate(logits))
    torch.testing.assert_close(found.sum(), torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_slopes_are_the_derivatives_of_the_scores(classes: int) -> None:
    logits = LOGITS[:classes]
    wanted = torch.autograd.functional.jacobian(TASK.scores, logits)

    torch.testing.assert_close(TASK.slopes(logits), wanted)


def test_leads_are_what_the_first_class_has_over_each_other() -> None:
    assert (TASK.leads(LOGITS) @ LOGITS).tolist() == pytest.approx([1.7, 3.2, 1.9])


def test_a_temperature_of_the_outputs_keeps_their_order() -> None:
    calm = TASK.activate(LOGITS / 2)

    assert calm.argsort().equal(LOGITS.argsort())
    assert calm.max() < TASK.activate(LOGITS).max()
