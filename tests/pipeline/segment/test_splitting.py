"""Areas are split where they are narrow, and each by itself."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from saccade.pipeline.segment.splitting import split_by_depth

MASKS = arrays(bool, st.tuples(st.integers(1, 16), st.integers(1, 16)))


def disc(shape: tuple[int, int], row: float, col: float, radius: float) -> np.ndarray:
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return np.asarray(np.hypot(rows + 0.5 - row, cols + 0.5 - col) < radius)


def parts(numbers: np.ndarray) -> set[bytes]:
    return {(numbers == i).tobytes() for i in np.unique(numbers) if i}


def test_two_discs_that_overlap_are_two() -> None:
    mask = disc((40, 60), 20, 20, 10) | disc((40, 60), 20, 36, 10)
    numbers = split_by_depth(mask, mask)

    assert np.unique(numbers).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(numbers > 0, mask)
    assert numbers[20, 20] != numbers[20, 36]
    assert abs(np.count_nonzero(numbers == 1) - np.count_nonzero(numbers == 2)) < 15


def test_a_rim_parts_what_its_shape_does_not() -> None:
    mask = np.zeros((20, 40), bool)
    mask[5:15, 5:35] = True
    core = mask.copy()
    core[:, 19:21] = False

    assert split_by_depth(mask, mask).max() == 1
    numbers = split_by_depth(mask, core)
    assert numbers.max() == 2
    np.testing.assert_array_equal(numbers > 0, mask)


@settings(max_examples=40)
@given(MASKS, MASKS)
def test_each_area_is_split_as_if_it_were_alone(mask: np.ndarray, core: np.ndarray) -> None:
    shape = tuple(min(pair) for pair in zip(mask.shape, core.shape, strict=True))
    mask, core = (np.pad(each[: shape[0], : shape[1]], 1) for each in (mask, core))
    core &= mask
    areas, count = ndimage.label(mask)

    together = split_by_depth(mask, core)

    np.testing.assert_array_equal(together > 0, mask)
    alone = [split_by_depth(areas == i, core & (areas == i)) for i in range(1, count + 1)]
    assert parts(together) == set().union(*(parts(each) for each in alone)) if alone else True
    for each in np.unique(together[together > 0]):
        assert ndimage.label(together == each)[1] == 1
