import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from saccade.tiling import area
from saccade.tiling.area import area_mean, halve, halve_fraction

SIDES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)


def blocks_of(image: NDArray[np.generic], row: int, col: int) -> NDArray[np.float64]:
    block = image[..., 2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
    return np.asarray(block, np.float64).mean(axis=(-2, -1))


@given(SIDES.flatmap(lambda sides: hnp.arrays(np.uint8, (3, *sides))))
def test_halves_are_rounded_means_of_what_is_there(image: NDArray[np.uint8]) -> None:
    half = halve(image)

    rows, cols = image.shape[1:]
    assert half.shape == (3, -(-rows // 2), -(-cols // 2))
    for row, col in np.ndindex(half.shape[1:]):
        assert (half[:, row, col] == np.rint(blocks_of(image, row, col))).all()


@given(SIDES.flatmap(lambda sides: hnp.arrays(np.bool_, sides)))
def test_fractions_are_means_of_what_is_there(mask: NDArray[np.bool_]) -> None:
    half = halve_fraction(mask.astype(np.float32))

    for row, col in np.ndindex(half.shape):
        assert half[row, col] == blocks_of(mask, row, col)


@given(
    SIDES.flatmap(lambda sides: hnp.arrays(np.uint8, (*sides, 2))),
    st.integers(1, 40),
    st.integers(1, 50),
)
def test_means_count_each_pixel_by_the_part_that_lies_inside(
    image: NDArray[np.uint8], tenths: int, strip_px: int
) -> None:
    """Against pixels split into 10 x 10 equal parts, where every ratio of tenths is whole."""
    ratio = 1 + tenths / 10
    step = 10 + tenths
    rows, cols = image.shape[:2]
    shape = (-(-rows * 10 // step), -(-cols * 10 // step))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(area, "_STRIP_PX", strip_px)  # more than one strip
        mean = area_mean(lambda first, last: image[first:last], (rows, cols), shape, (ratio, ratio))

    fine = np.repeat(np.repeat(image, 10, axis=0), 10, axis=1)
    for row, col in np.ndindex(shape):
        part = fine[row * step : (row + 1) * step, col * step : (col + 1) * step]
        np.testing.assert_allclose(mean[row, col], part.mean(axis=(0, 1)), rtol=1e-5, atol=1e-4)


def test_maps_without_channels_stay_without() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)

    mean = area_mean(lambda first, last: image[first:last], (3, 4), (2, 2), (2.0, 2.0))

    assert mean.tolist() == [[2.5, 4.5], [8.5, 10.5]]
