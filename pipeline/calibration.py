"""Temperature scaling: one number, fitted on the validation slides, makes probabilities honest.

Logits are divided by a temperature before the softmax. No class changes its rank; the model becomes
less sure of itself, or more, so that its probabilities fit the validation slides best.

Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017,
https://arxiv.org/abs/1706.04599, section 4.2. It is found by bounded search, not by gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from saccade.pipeline.reliability import calibration_error, reliability

FEWEST = 20
"""Slides below which a temperature would be a matter of luck."""
_RANGE = (0.05, 20.0)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A temperature, and where it comes from in words for people."""

    temperature: float
    reason: str


UNCALIBRATED = Calibration(1.0, "not calibrated: there were no validation slides")


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Calibration:
    """Find the temperature with the least mean negative log likelihood.

    It is 1, with the reason, where slides do not determine it: too few of them, all of them right
    (the least loss is that of a model without any doubt), or so wrong that guessing is better.

    Args:
        logits: (slides, classes).
        labels: (slides,) class indices.
    """
    logits = np.asarray(logits, np.float64)
    if len(labels) < FEWEST:
        return _none(f"{len(labels)} validation slides do not say enough, {FEWEST} would")
    rivals = np.where(np.eye(logits.shape[1], dtype=bool)[labels], -np.inf, logits).max(axis=1)
    if (logits[np.arange(len(labels)), labels] > rivals).all():
        return _none("all validation slides are right, so they do not say how sure to be")
    low, high = np.log(_RANGE)
    found = minimize_scalar(
        lambda log_t: _loss(logits / np.exp(log_t), labels),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-6},
    )
    if not low + 0.01 < found.x < high - 0.01:
        return _none("no temperature in reach makes the probabilities fit the validation slides")
    return Calibration(float(np.exp(found.x)), f"fitted on {len(labels)} validation slides")


def calibration_metrics(
    logits: NDArray[np.floating], labels: NDArray[np.integer]
) -> dict[str, Any]:
    """The temperature of validation slides and its reason; loss and calibration error with it.

    Returns:
        `temperature` and `calibration`, the reason; where one was fitted, also `calibrated_loss`
        and `calibrated_error`, to be held against those without.
    """
    found = fit_temperature(logits, labels)
    metrics: dict[str, Any] = {"temperature": found.temperature, "calibration": found.reason}
    if found.temperature != 1:
        scaled = np.asarray(logits, np.float64) / found.temperature
        metrics["calibrated_loss"] = _loss(scaled, labels)
        metrics["calibrated_error"] = calibration_error(
            reliability(softmax(scaled, axis=1), labels)
        )
    return metrics


def calibration_of(metrics: dict[str, Any]) -> Calibration:
    """What `calibration_metrics` found, from the metrics of an epoch."""
    if not metrics:
        return UNCALIBRATED
    if "temperature" not in metrics:
        return _none("a temperature is defined for classes that exclude each other")
    return Calibration(metrics["temperature"], metrics["calibration"])


def _loss(logits: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    return -float(log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def _none(why: str) -> Calibration:
    return Calibration(1.0, f"not calibrated: {why}")
