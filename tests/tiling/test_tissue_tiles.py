"""Which tiles hold tissue: shares of a label by hand, on grids that fit and on ones that do not."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from saccade.tiling import Slide, open_slide
from saccade.tiling.errors import NoTissueError
from saccade.tiling.pyramid_levels import PyramidLevel
from saccade.tiling.pyramid_view import Pyramid
from saccade.tiling.tissue_tiles import tissue_tiles

MPP, LABEL_MPP = 0.5, 4.0  # 8 level-0 pixels a pixel of the label


def labelled(folder: Path, label: NDArray[np.bool_]) -> tuple[Slide, Pyramid]:
    """A blank slide whose pyramid says that it has this tissue."""
    rows, cols = label.shape
    slide = open_slide(np.full((rows * 8, cols * 8, 3), 255, np.uint8), mpp=MPP)
    zarr.open_group(folder, mode="w").create_array(
        "labels/tissue/0", data=label.astype(np.uint8), chunks=(64, 64)
    )
    level = PyramidLevel(label.shape, (LABEL_MPP, LABEL_MPP))
    return slide, Pyramid(folder, (level,), "-", slide.size_l0, slide.mpp, 0.5, {})


@pytest.fixture
def quarter(tmp_path: Path) -> tuple[Slide, Pyramid]:
    """Tissue in the first 12 of 40 columns and the first 10 of 20 rows."""
    label = np.zeros((20, 40), bool)
    label[:10, :12] = True
    return labelled(tmp_path, label)


def test_shares_and_corners_are_those_by_hand(quarter: tuple[Slide, Pyramid]) -> None:
    """Tiles of 32 um are 8 x 8 pixels of the label, 64 x 64 of the slide."""
    found = tissue_tiles(*quarter, side_px=32, mpp=1.0, least=0.1)

    assert found.corners_l0.tolist() == [[0, 0], [64, 0], [0, 64], [64, 64]]
    assert found.share.tolist() == [1, 0.5, 0.25, 0.125]
    assert (found.side_px, found.mpp, found.side_l0, found.in_grid) == (32, 1.0, (64, 64), 3 * 5)


@pytest.mark.parametrize(("least", "count"), [(0.0, 15), (0.125, 4), (0.126, 3), (1.0, 1)])
def test_a_tile_counts_from_the_least_share_on(
    quarter: tuple[Slide, Pyramid], least: float, count: int
) -> None:
    assert len(tissue_tiles(*quarter, side_px=32, mpp=1.0, least=least)) == count


def test_what_overhangs_is_no_tissue(tmp_path: Path) -> None:
    """20 rows and 40 columns of tissue, tiles of 16: the last row of tiles has 4 rows of it."""
    slide, pyramid = labelled(tmp_path, np.ones((20, 40), bool))
    found = tissue_tiles(slide, pyramid, side_px=64, mpp=1.0, least=0.0)

    assert found.share.tolist() == [1, 1, 0.5, 0.25, 0.25, 0.125]
    assert found.corners_l0[-1].tolist() == [256, 128]


@given(side=st.integers(17, 90), seed=st.integers(0, 9))
@settings(max_examples=25)
def test_shares_of_any_tiles_are_those_of_their_areas(
    tmp_path_factory: pytest.TempPathFactory, side: int, seed: int
) -> None:
    """Sides that fit no pixel of the label: held against the label at the slide's resolution."""
    label = np.random.default_rng(seed).random((9, 14)) < 0.5
    slide, pyramid = labelled(tmp_path_factory.mktemp("label"), label)
    found = tissue_tiles(slide, pyramid, side_px=side, mpp=MPP, least=0.0)

    fine = np.zeros((9 * 8 + side, 14 * 8 + side))
    fine[: 9 * 8, : 14 * 8] = label.repeat(8, 0).repeat(8, 1)
    rows, cols = -(-9 * 8 // side), -(-14 * 8 // side)
    cells = fine[: rows * side, : cols * side].reshape(rows, side, cols, side).mean(axis=(1, 3))
    np.testing.assert_allclose(found.share, cells.flatten(), atol=1e-5)
    grid = [[col * side, row * side] for row in range(rows) for col in range(cols)]
    assert found.corners_l0.tolist() == grid


def test_what_is_all_tissue_is_so_on_any_grid(tmp_path: Path) -> None:
    """Shares are sums of parts that are rounded."""
    slide, pyramid = labelled(tmp_path, np.ones((21, 63), bool))
    found = tissue_tiles(slide, pyramid, side_px=19, mpp=0.7, least=1.0)

    assert len(found) == (21 * 8 * 10 // (19 * 14)) * (63 * 8 * 10 // (19 * 14))


def test_tiles_begin_at_pixels_that_are_read(tmp_path: Path) -> None:
    """17 px at 1.1 um/px are 37.4 of level 0: off the grid by half a pixel at most."""
    slide, pyramid = labelled(tmp_path, np.ones((20, 40), bool))
    found = tissue_tiles(slide, pyramid, side_px=17, mpp=1.1, least=0.0)

    exact = np.array([[col * 37.4, row * 37.4] for row in range(5) for col in range(9)])
    assert (np.abs(found.corners_l0 - exact) <= 1).all()


def test_no_tissue_says_what_the_most_was(tmp_path: Path) -> None:
    label = np.zeros((20, 40), bool)
    label[0, :2] = True
    with pytest.raises(NoTissueError, match=r"at least 10% tissue, the most was 3.1%"):
        tissue_tiles(*labelled(tmp_path, label), side_px=32, mpp=1.0, least=0.1)
