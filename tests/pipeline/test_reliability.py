from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.pipeline.export.reliability_picture import draw_reliability
from saccade.pipeline.reliability import Bin, calibration_error, reliability

PROBABILITIES = np.array([[0.95, 0.05], [0.05, 0.95], [0.93, 0.07], [0.6, 0.4], [0.45, 0.55]])
LABELS = np.array([0, 1, 1, 0, 0])


def test_the_table_by_hand() -> None:
    low, high = reliability(PROBABILITIES, LABELS)  # 0.6 belongs to the bin that ends there

    assert (low.above, low.up_to, low.slides) == (0.5, 0.6, 2)
    assert (low.confidence, low.accuracy) == (pytest.approx(0.575), 0.5)
    assert (high.above, high.up_to, high.slides) == (0.9, 1.0, 3)
    assert (high.confidence, high.accuracy) == (pytest.approx(2.83 / 3), pytest.approx(2 / 3))


def test_the_error_is_the_mean_distance_over_slides() -> None:
    table = reliability(PROBABILITIES, LABELS)

    assert calibration_error(table) == pytest.approx((2 * 0.075 + 3 * (2.83 / 3 - 2 / 3)) / 5)


def test_every_slide_is_in_one_bin_and_honest_probabilities_have_no_error() -> None:
    dice = np.random.default_rng(0)
    probabilities = dice.dirichlet((1, 1, 1), 20_000)
    labels = (dice.random(20_000)[:, None] > probabilities.cumsum(axis=1)).sum(axis=1)
    table = reliability(probabilities, labels)

    assert sum(each.slides for each in table) == 20_000
    assert calibration_error(table) < 0.01
    assert all(each.above < each.confidence <= each.up_to for each in table)


def test_certainty_is_in_the_last_bin() -> None:
    (only,) = reliability(np.array([[1.0, 0.0]]), np.array([0]))

    assert (only.above, only.up_to, only.accuracy) == (0.9, 1.0, 1.0)


def test_the_picture_has_a_bar_as_high_as_the_share(tmp_path: Path) -> None:
    """Blue over the middle of the bin, below its share alone."""
    draw_reliability(tmp_path / "a.png", [Bin(0.5, 0.7, 40, 0.6, 0.5), Bin(0.7, 1, 9, 0.8, 1.0)])

    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    blue = (pixels[..., 2] - pixels[..., 0]) > 30
    cols = np.nonzero(blue.any(axis=0))[0]
    left, right = cols[0] + 5, cols[-1] - 5
    heights = blue[:, left].sum(), blue[:, right].sum()
    assert heights[0] / heights[1] == pytest.approx(0.5, abs=0.03)
