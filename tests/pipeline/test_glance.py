from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.models.attention_sampling import AttentionSampling
from saccade.models.build import build_model
from saccade.pipeline.config import TilesConfig, ViewConfig
from saccade.pipeline.glance import Glance, as_batch, glance_at
from saccade.pipeline.look import Look, Subject, attend, look
from saccade.pipeline.reading import SlideRef, TileReader
from saccade.pipeline.seeds import generator_for
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


def lively_model(stride: int) -> AttentionSampling:
    """Attention starts out even; this one does not, so that a difference would show."""
    torch.manual_seed(0)
    model = build_model(classes=2, attention_options={"stride": stride}).eval()
    torch.nn.init.normal_(model.attention.score.weight)  # type: ignore[union-attr, arg-type]
    return model


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


def test_settings_of_the_view_count(pyramid: Pyramid) -> None:
    strict = parse_config("view: {mpp: 16, min_tissue: 1.0}").view
    few = glance_at(pyramid, strict, stride=1, name="s0").tissue.sum()
    many = glance_at(pyramid, replace(strict, min_tissue=0.01), stride=1, name="s0").tissue.sum()

    assert 0 < few < many


def test_batch_is_padded_with_no_tissue() -> None:
    glances = [plain_glance(2, 5), plain_glance(4, 3)]
    views, tissue = as_batch(glances, CPU)

    assert views.shape == (2, 3, 4, 5)
    assert tissue.sum(dim=(1, 2)).tolist() == [10, 12]
    assert views[0, 0, :2].min() > 0
    assert views[0, :, 2:].max() == 0


def plain_glance(rows: int, cols: int) -> Glance:
    mask = np.ones((rows, cols), bool)
    pixels = np.full((rows, cols, 3), 200, np.uint8)
    return Glance(pixels, mask, CellGrid(shape=(rows, cols), cell_l0=(32, 32)), mask)


@pytest.fixture
def subjects(cohort: TinyCohort, pyramids: Path) -> list[Subject]:
    return [subject_of(cohort, pyramids, name, stride=2) for name in ("s0", "s3", "s1")]


def subject_of(cohort: TinyCohort, pyramids: Path, name: str, stride: int) -> Subject:
    ref = SlideRef(cohort.path(name))
    with ref.open() as slide:
        pyramid = ensure_pyramid(slide, pyramids / name / "pyramid.zarr", TINY.pyramid)
        glance = glance_at(pyramid, TINY.view, stride=stride, name=name)
        return Subject(name, ref, glance, slide.mpp)


def test_attention_of_a_batch_is_that_of_each_slide_alone(subjects: list[Subject]) -> None:
    model = lively_model(stride=2)
    together = attend(model, subjects, CPU)

    assert len({tuple(each.shape) for each in together}) == 3
    for whole, subject in zip(together, subjects, strict=True):
        (alone,) = attend(model, [subject], CPU)
        assert alone.exp().max() > 3 * alone.exp()[alone.isfinite()].min()
        torch.testing.assert_close(whole, alone)
        assert np.array_equal(whole.isfinite().numpy(), subject.glance.valid)


def test_verdict_of_a_batch_is_that_of_each_slide_alone(subjects: list[Subject]) -> None:
    model, tiles = lively_model(stride=2), TilesConfig(per_slide=3, size_px=32)

    def looked(chosen: list[Subject]) -> list[Look]:
        dice = [generator_for("test", subject.name) for subject in chosen]
        found = look(model, chosen, reader, tiles, dice)
        return [each for each in found if isinstance(each, Look)]

    with TileReader(size_px=32, mpp=0.5, workers=2) as reader, torch.inference_mode():
        together = looked(subjects)
        alone = [looked([subject])[0] for subject in subjects]
    assert len(together) == 3
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(one.places.corners_l0, other.places.corners_l0)
        torch.testing.assert_close(one.reading.logits, other.reading.logits)
