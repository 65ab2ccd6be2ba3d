"""Targets by hand: what lies where in the view, and how much of it."""

import numpy as np
import pytest

from saccade.pipeline.saliency.targets import (
    count_fixations,
    from_attention,
    from_density,
    from_fixations,
    from_outlines,
)
from saccade.tiling.grid import CellGrid


def test_points_fall_on_the_pixels_that_hold_them() -> None:
    points = np.array([[2.9, 0.0], [2.0, 0.99], [0.0, 1.0], [3.0, 0.0], [0.0, 2.0], [-0.1, 0.0]])

    counts = count_fixations(points, (2, 3))

    assert counts.tolist() == [[0, 0, 2], [1, 0, 0]]  # the last three are outside
    np.testing.assert_allclose(from_fixations(points, (2, 3), 0), counts / 3)


def test_a_blurred_point_is_a_gaussian() -> None:
    target = from_fixations(np.array([[20.5, 20.5]]), (41, 41), 3.0)

    x = np.arange(41) - 20
    wanted = np.exp(-(x**2) / 18)
    assert target.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(target[20] / target[20, 20], wanted, atol=2e-3)
    np.testing.assert_array_equal(target, target.T)


def test_a_blur_loses_what_leaves_the_view() -> None:
    """Mirrored back it would make the edge as likely as the inside."""
    target = from_fixations(np.array([[0.5, 5.5], [20.5, 5.5]]), (11, 41), 2.0)

    assert target[:, :10].sum() < 0.65 * target[:, 11:31].sum()


def test_points_outside_alone_are_no_target() -> None:
    with pytest.raises(ValueError, match="nothing of it lies in the view"):
        from_fixations(np.array([[9.0, 9.0]]), (2, 2), 1.0)


def test_an_image_is_brought_to_the_size_of_the_view() -> None:
    image = np.kron(np.array([[1, 2], [3, 10]]), np.ones((8, 8), int)).astype(np.uint8)

    np.testing.assert_allclose(from_density(image, (2, 2)), np.array([[1, 2], [3, 10]]) / 16)
    np.testing.assert_allclose(from_density(image, (16, 16)), image / image.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    "image", [np.zeros((2, 2)), np.full((2, 2), np.nan), -np.ones((2, 2)), np.ones((2, 2, 3))]
)
def test_images_that_are_no_map_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"wanted a map|nothing of it"):
        from_density(image, (2, 2))


def box(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])


def test_outlines_count_by_the_area_they_cover() -> None:
    """A box of 2 x 1 pixels that begins in the middle of one, on a view of 2 rows and 4 columns."""
    target = from_outlines([[box(0.5, 0, 2, 1)]], (2, 4), 0)

    np.testing.assert_allclose(target, np.array([[0.5, 1, 0.5, 0], [0, 0, 0, 0]]) / 2)


def test_holes_are_empty_and_overlaps_count_once() -> None:
    ring = [box(0, 0, 6, 6), box(2, 2, 2, 2)]

    target = from_outlines([ring, [box(0, 0, 6, 2)]], (6, 6), 0)

    assert target[2:4, 2:4].tolist() == [[0, 0], [0, 0]]
    assert np.unique(target[target > 0]).size == 1
    assert (target > 0).sum() == 32


def test_what_reaches_beyond_the_view_is_cut_off() -> None:
    target = from_outlines([[box(-3, -3, 4, 4)], [box(50, 50, 2, 2)]], (3, 3), 0)

    assert target.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="nothing of it"):
        from_outlines([[box(50, 50, 2, 2)]], (3, 3), 0)


def test_attention_is_spread_over_the_pixels_of_its_places() -> None:
    """Places of 2 x 2 pixels; the last column of places reaches beyond a view of 3 columns."""
    log_attention = np.log(np.array([[0.5, 0.25], [0.25, 1e-30]]))
    log_attention[1, 1] = -np.inf
    places, view = CellGrid((2, 2), (16.0, 16.0)), CellGrid((4, 3), (8.0, 8.0))

    target = from_attention(log_attention, places, view)

    rows = [[2, 2, 1], [2, 2, 1], [1, 1, 0], [1, 1, 0]]
    np.testing.assert_allclose(target, np.array(rows) / 14, rtol=1e-6)
