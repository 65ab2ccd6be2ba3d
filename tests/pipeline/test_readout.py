import pytest
import torch

from saccade.pipeline import readout

LOGITS = torch.tensor([0.3, -1.2, 2.0, 0.1], dtype=torch.float64)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_scores_lead_back_to_the_probabilities(classes: int) -> None:
    logits = LOGITS[:classes]

    found = readout.from_scores(readout.scores(logits))
    torch.testing.assert_close(found, readout.read_out(logits))
    torch.testing.assert_close(found.sum(), torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_slopes_are_the_derivatives_of_the_scores(classes: int) -> None:
    logits = LOGITS[:classes]
    wanted = torch.autograd.functional.jacobian(readout.scores, logits)

    torch.testing.assert_close(readout.slopes(logits), wanted)


def test_leads_are_what_the_first_class_has_over_each_other() -> None:
    assert (readout.leads(LOGITS) @ LOGITS).tolist() == pytest.approx([1.7, 3.2, 1.9])


def test_a_temperature_of_the_outputs_keeps_their_order() -> None:
    calm = readout.read_out(LOGITS / 2)

    assert calm.argsort().equal(LOGITS.argsort())
    assert calm.max() < readout.read_out(LOGITS).max()
