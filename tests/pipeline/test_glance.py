from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.pipeline.config import ViewConfig
from saccade.pipeline.glance import Glance, as_batch, glance_at, sight
from saccade.pipeline.thumbnails import ensure_pyramid
from saccade.pipeline.yaml_config import parse_config
from saccade.tiling import open_slide
from saccade.tiling.errors import NoTissueError
from saccade.tiling.grid import CellGrid
from saccade.tiling.pyramid_view import Pyramid
from tests.cohort import TINY, TinyCohort
from tests.slides import write_pyramid_tiff

CPU = torch.device("cpu")


@pytest.fixture
def pyramid(cohort: TinyCohort, pyramids: Path) -> Pyramid:
    with open_slide(cohort.path("s0")) as slide:
        return ensure_pyramid(slide, pyramids / "s0" / "pyramid.zarr", TINY.pyramid)


@pytest.mark.parametrize("stride", [1, 3])
def test_places_are_those_with_tissue(pyramid: Pyramid, stride: int) -> None:
    glance = glance_at(pyramid, ViewConfig(mpp=16.0), stride=stride, name="s0")

    seen = pyramid.view(16.0).tissue >= 0.1
    assert 0 < seen.sum() < seen.size
    assert glance.grid.shape == tuple(-(-n // stride) for n in seen.shape)
    for row, col in np.ndindex(*glance.valid.shape):
        block = seen[row * stride : (row + 1) * stride, col * stride : (col + 1) * stride]
        assert glance.valid[row, col] == block.any()


def test_a_place_spans_stride_pixels_of_the_view(pyramid: Pyramid) -> None:
    glance = glance_at(pyramid, ViewConfig(mpp=16.0), stride=3, name="s0")

    assert glance.grid.cell_l0 == (3 * 16 / 0.5, 3 * 16 / 0.5)


def test_a_slide_without_tissue_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = write_pyramid_tiff(tmp_path / "glass.tiff", np.full((600, 700, 3), 243, np.uint8))
    with open_slide(path) as slide:
        pyramid = ensure_pyramid(slide, tmp_path / "pyramid.zarr", TINY.pyramid)

    with pytest.raises(NoTissueError, match=r"glass: no tissue .* lower view.min_tissue"):
        glance_at(pyramid, ViewConfig(), stride=1, name="glass")
    everywhere = glance_at(pyramid, parse_config("view: {min_tissue: 0}").view, stride=1, name="")
    assert everywhere.valid.all()


def test_settings_of_the_view_count(pyramid: Pyramid) -> None:
    strict = parse_config("view: {mpp: 16, min_tissue: 1.0}").view
    few = glance_at(pyramid, strict, stride=1, name="s0").tissue.sum()
    many = glance_at(pyramid, replace(strict, min_tissue=0.01), stride=1, name="s0").tissue.sum()

    assert 0 < few < many


def test_batch_is_padded_with_no_tissue() -> None:
    sights = [sight(plain_glance(2, 5), stride=1), sight(plain_glance(4, 3), stride=1)]
    views, tissue = as_batch(sights, CPU)

    assert views.shape == (2, 3, 4, 5)
    assert tissue.sum(dim=(1, 2)).tolist() == [10, 12]
    assert views[0, 0, :2].min() > 0
    assert views[0, :, 2:].max() == 0


def test_a_view_is_filled_up_to_whole_places(pyramid: Pyramid) -> None:
    glance = glance_at(pyramid, ViewConfig(mpp=16.0), stride=3, name="s0")
    seen = sight(glance, stride=3)
    rows, cols = glance.tissue.shape

    assert seen.tissue.shape == tuple(3 * n for n in glance.grid.shape) != (rows, cols)
    assert np.array_equal(seen.pixels[:, :rows, :cols].permute(1, 2, 0).numpy(), glance.pixels)
    assert np.array_equal(seen.tissue[:rows, :cols].numpy(), glance.tissue)
    assert seen.tissue.sum() == glance.tissue.sum()


def plain_glance(rows: int, cols: int) -> Glance:
    mask = np.ones((rows, cols), bool)
    pixels = np.full((rows, cols, 3), 200, np.uint8)
    return Glance(pixels, mask, CellGrid(shape=(rows, cols), cell_l0=(32, 32)), mask)
