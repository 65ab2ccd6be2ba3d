import math

import numpy as np
import pytest

from saccade.pipeline.metrics.regression import regression_metrics

NAN = math.nan


def test_metrics_of_four_slides_by_hand() -> None:
    found, wanted = np.array([[1.0], [2], [3], [6]]), np.array([[1.0], [3], [2], [6]])
    metrics = regression_metrics(found, wanted, ("x",), (2.0,))

    assert metrics["mae"] == 0.5
    assert metrics["rmse"] == pytest.approx(math.sqrt(0.5))
    assert metrics["loss"] == pytest.approx(0.5 / 4)
    assert metrics["r2"] == pytest.approx(1 - 2 / 14)
    assert metrics["spearman"] == pytest.approx(0.8)
    assert metrics["by_name"]["x"]["mae"] == 0.5


def test_numbers_of_different_units_have_errors_of_their_own_and_share_what_has_none() -> None:
    found = np.array([[1.0, 100], [2, 300], [3, 200]])
    wanted = np.array([[1.0, 100], [2, NAN], [4, 200]])
    metrics = regression_metrics(found, wanted, ("x", "y"), (1.0, 100.0))

    assert "mae" not in metrics
    assert {name: each["mae"] for name, each in metrics["by_name"].items()} == {
        "x": pytest.approx(1 / 3),
        "y": 0,
    }
    assert metrics["loss"] == pytest.approx(1 / 5)  # five numbers are known
    assert metrics["spearman"] == pytest.approx(1)


def test_what_does_not_exist_is_left_out() -> None:
    alike = regression_metrics(np.array([[1.0], [2]]), np.array([[3.0], [3]]), ("x",), (1.0,))
    assert "r2" not in alike
    constant = regression_metrics(np.array([[1.0], [1]]), np.array([[1.0], [3]]), ("x",), (1.0,))
    assert constant["r2"] == pytest.approx(-1)
    assert "spearman" not in constant
