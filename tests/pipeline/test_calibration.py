import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from saccade.pipeline.calibration import (
    FEWEST,
    UNCALIBRATED,
    calibration_metrics,
    calibration_of,
    fit_temperature,
)


def cohort(
    slides: int, temperature: float, classes: int = 3
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits that are `temperature` times as large as labels drawn from them warrant."""
    dice = np.random.default_rng(0)
    honest = dice.normal(size=(slides, classes)) * 2
    chances = softmax(honest, axis=1).cumsum(axis=1)
    labels = (dice.random(slides)[:, None] > chances).sum(axis=1)
    return honest * temperature, labels


@pytest.mark.parametrize("wanted", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_logits_were_made_with(wanted: float) -> None:
    found = fit_temperature(*cohort(20_000, wanted))

    assert found.temperature == pytest.approx(wanted, rel=0.05)
    assert found.reason == "fitted on 20000 validation slides"


def test_it_has_the_least_loss_that_a_fine_search_finds() -> None:
    """A search over a thousand temperatures, one by one."""
    logits, labels = cohort(60, 2.5)
    tried = np.geomspace(0.2, 10, 1000)
    losses = [-np.log(softmax(logits / t, axis=1)[np.arange(60), labels]).mean() for t in tried]

    assert fit_temperature(logits, labels).temperature == pytest.approx(
        tried[np.argmin(losses)], rel=0.005
    )
    metrics = calibration_metrics(logits, labels)
    assert metrics["calibrated_loss"] == pytest.approx(min(losses), rel=1e-4)


def test_two_classes_by_hand() -> None:
    """Of slides called with a logit of 2, three in four are right: sigmoid(2 / T) = 3 / 4."""
    logits = np.array([[2.0, 0.0]] * 40)
    labels = np.array([0, 0, 0, 1] * 10)

    assert fit_temperature(logits, labels).temperature == pytest.approx(2 / np.log(3), rel=1e-4)
    metrics = calibration_metrics(logits, labels)
    assert metrics["calibrated_error"] == pytest.approx(0, abs=1e-5)


def test_scaling_by_a_number_scales_the_temperature() -> None:
    logits, labels = cohort(50, 1.0)
    one, five = (fit_temperature(logits * n, labels).temperature for n in (1, 5))

    assert five == pytest.approx(5 * one, rel=1e-4)


@pytest.mark.parametrize(
    ("logits", "labels", "why"),
    [
        ([[1.0, 0.0]] * (FEWEST - 1), [0, 1] * (FEWEST // 2 - 1) + [0], "do not say enough"),
        ([[1.0, 0.0], [0.0, 1.0]] * FEWEST, [0, 1] * FEWEST, "all validation slides are right"),
        ([[1.0, 0.0], [0.0, 1.0]] * FEWEST, [1, 0] * FEWEST, "no temperature in reach"),
    ],
    ids=["too few", "separated", "worse than guessing"],
)
def test_where_slides_do_not_determine_it_it_is_one_with_the_reason(
    logits: list[list[float]], labels: list[int], why: str
) -> None:
    found = fit_temperature(np.array(logits), np.array(labels))

    assert found.temperature == 1
    assert found.reason.startswith("not calibrated: ")
    assert why in found.reason
    assert set(calibration_metrics(np.array(logits), np.array(labels))) == {
        "temperature",
        "calibration",
    }


def test_the_metrics_of_an_epoch_carry_it() -> None:
    metrics = calibration_metrics(*cohort(50, 2.0))

    assert calibration_of(metrics) == fit_temperature(*cohort(50, 2.0))
    assert calibration_of({}) == UNCALIBRATED
