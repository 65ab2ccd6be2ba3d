"""Probabilities of classes in tiles are those of the view at once."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saccade.pipeline.errors import ConfigError, DivergedError
from saccade.pipeline.segmentation.model_file import load_segmentation_model
from saccade.pipeline.stages.runner import run_stage
from saccade.pipeline.stages.scene import ArrayScene
from saccade.pipeline.stages.segmentation import STEPS, SegmentationStage
from tests.segment_model import SMALL, Seer, write_small_model
from tests.slides import tissue_like
from tests.stage_networks import values_of

VIEW = (301, 395)  # odd, and no multiple of anything


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    model = write_small_model(tmp_path_factory.mktemp("model") / "m.safetensors")
    return load_segmentation_model(model)[0]


@pytest.fixture
def view() -> ArrayScene:
    pixels = tissue_like(VIEW[1], VIEW[0], seed=3)
    return ArrayScene(pixels, content="tissue", slide_mpp=(1.0, 1.0))


@torch.inference_mode()
def whole(network: nn.Module, view: ArrayScene) -> np.ndarray:
    pixels = torch.from_numpy(view._pixels).permute(2, 0, 1)[None]
    return network(pixels).softmax(dim=1)[0].numpy()


@pytest.mark.parametrize("tile_px", [64, 160])
def test_tiles_change_a_probability_by_a_step_at_most(
    network: nn.Module, view: ArrayScene, tmp_path: Path, tile_px: int
) -> None:
    stage = SegmentationStage(network, SMALL, tile_px=tile_px)
    field = run_stage(stage, view, tmp_path / "f.zarr")

    values, wanted = values_of(field.values), whole(network, view)
    assert stage.exact
    assert values.dtype == np.float16
    assert wanted.max(axis=(1, 2)).min() > 0.5  # every class is somewhere the likeliest
    steps = np.rint(values.astype(np.float64) * STEPS)
    np.testing.assert_allclose(values, steps / STEPS, atol=2.5e-4)  # what half precision holds
    off = np.abs(steps - np.rint(wanted * STEPS))
    assert off.max() <= 1
    assert (off > 0).mean() < 1e-3


def test_a_network_without_a_margin_is_called_what_it_is(
    network: nn.Module, view: ArrayScene
) -> None:
    blind = SegmentationStage(Seer(exact=False), SMALL, overlap_px=30)
    assert not blind.exact
    assert (blind.spec.margin_px, blind.spec.tile_px) == (32, SMALL.tile_px)


def test_a_tile_off_the_stride_is_refused(network: nn.Module) -> None:
    with pytest.raises(ConfigError, match="tile wants a multiple of 32 pixels"):
        SegmentationStage(network, SMALL, tile_px=100)


def test_scores_that_are_no_numbers_are_refused(view: ArrayScene, tmp_path: Path) -> None:
    class Lost(Seer):
        def forward(self, pixels: Tensor) -> Tensor:
            return super().forward(pixels) * torch.nan

    with pytest.raises(DivergedError, match="scores of the model are not numbers"):
        run_stage(SegmentationStage(Lost(), SMALL), view, tmp_path / "f.zarr")


def test_a_field_in_half_precision_takes_half_the_room(view: ArrayScene, tmp_path: Path) -> None:
    stage = SegmentationStage(Seer(), SMALL)
    sizes = []
    for dtype in ("float16", "float32"):
        stage.spec = dataclasses.replace(stage.spec, dtype=dtype)
        field = run_stage(stage, view, tmp_path / f"{dtype}.zarr")
        sizes.append(field.values.nbytes)
    assert sizes[0] * 2 == sizes[1]
