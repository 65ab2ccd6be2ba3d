"""Any rectangle at any scale: exact where it can be, and never shifted."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.tiling.resample import Axis, Box, resample

RNG = np.random.default_rng(7)
NOISE = RNG.integers(0, 256, (96, 80, 3), dtype=np.uint8)


@given(
    factor=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    corner=st.tuples(st.integers(0, 15), st.integers(0, 31)),
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
)
def test_whole_blocks_become_their_mean_rounded_half_up(
    factor: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> None:
    (x, y), (fx, fy), (width, height) = corner, factor, size
    right, bottom = x + width * fx, y + height * fy
    found = resample(NOISE, (x, y, right, bottom), size)
    blocks = NOISE[y:bottom, x:right].reshape(height, fy, width, fx, 3).astype(np.int64)
    total, count = blocks.sum(axis=(1, 3)), fx * fy
    assert np.array_equal(found, (2 * total + count) // (2 * count))


def test_pixels_that_fit_are_not_touched() -> None:
    assert np.array_equal(resample(NOISE, (3, 5, 43, 65), (40, 60)), NOISE[5:65, 3:43])


@given(
    start=st.floats(-300, 300),
    step=st.one_of(st.floats(0.2, 4), st.floats(4, 60)),
    pitch=st.sampled_from([1.0, 0.5, 1 / 2.0005, 1 / 3.99918]),
    count=st.integers(1, 12),
)
def test_a_slope_stays_where_it_is(start: float, step: float, pitch: float, count: int) -> None:
    axis = Axis.snapped(start, step, count, pitch)
    level_px = axis.first + np.arange(axis.pixels) + 0.5  # centres of the pixels that are read
    slope = min(1.0, 200 / axis.pixels)  # grey levels a pixel
    grey = (20 + slope * (level_px - level_px[0])).astype(np.float64)
    row = grey.round().astype(np.uint8)[:, None]
    pixels = np.ascontiguousarray(np.broadcast_to(row, (math.ceil(step), axis.pixels, 3)))
    left, right = axis.inner
    found = resample(pixels, (left, 0, right, step), (count, 1))[0, :, 0]
    wanted = 20 + slope * (start + (np.arange(count) + 0.5) * step - level_px[0])
    # Beyond 32 the mean is over whole pixels: half a pixel off at most.
    assert np.abs(found - wanted).max() <= (1.6 if step >= 32 else 1.2)


@given(
    start=st.floats(-5000, 5000),
    step=st.floats(0.1, 300),
    count=st.integers(2, 300),
    pitch=st.sampled_from([1.0, 0.25, 1 / 2.0005]),
)
def test_cuts_share_out_all_output_pixels(
    start: float, step: float, count: int, pitch: float
) -> None:
    axis = replace(Axis.snapped(start, step, count, pitch), divisible=True)
    (a, b), (c, d) = axis.cuts
    assert 0 == a < b == c < d == count
    assert axis.part(c, d).start == pytest.approx(axis.start + b * axis.step)
    assert axis.part(c, d).is_whole == axis.is_whole


def test_scanner_rounding_is_taken_for_what_it_means() -> None:
    box = Box.around((7.9999, 0), (8, 8), (4.00012, 4.0), (4.0, 4.0))
    assert box.outer_px == (2, 0, 8, 8)
    assert box.inner_px == (0, 0, 8, 8)


def test_a_real_difference_is_resampled() -> None:
    box = Box.around((0, 0), (256, 256), (2.0005, 2.0005), (1.0, 1.0))
    assert box.outer_px[2] > 512
    assert box.inner_px[2] - box.inner_px[0] == pytest.approx(256 * 2.0005)
