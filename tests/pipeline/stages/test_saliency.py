"""MSI-Net in tiles equals MSI-Net: odd sides, several tiles, two passes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.models.saliency import MSINet
from saccade.pipeline.errors import DivergedError
from saccade.pipeline.stages.runner import RunOptions, run_stage
from saccade.pipeline.stages.saliency import SaliencyStage
from saccade.pipeline.stages.tile_plan import Window
from tests.stage_networks import scene, values_of


def narrow() -> MSINet:
    """All layers of MSI-Net, with few channels: it sees as far."""
    torch.manual_seed(0)
    return MSINet(widths=(4, 4, 6, 6, 6), context_width=4, decoder_widths=(4, 4, 4)).eval()


@torch.inference_mode()
def whole(model: MSINet, rows: int, cols: int) -> np.ndarray:
    pixels = scene(rows, cols).read(Window(0, 0, rows, cols))
    return model(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())[0].numpy()


def largest_difference(model: MSINet, shape: tuple[int, int], out: Path, **changes: int) -> float:
    stage = SaliencyStage(model, 8.0, tile_px=256, whole_px=0)
    stage.spec = dataclasses.replace(stage.spec, **changes)
    field = run_stage(stage, scene(*shape), out / "field.zarr", options=RunOptions(batch=2))
    return float(np.abs(values_of(field.values) - whole(model, *shape)).max())


@pytest.mark.parametrize("tile_px", [512, 1000])
def test_tiled_equals_untiled_on_an_odd_view(
    tmp_path: Path, one_thread: None, tile_px: int
) -> None:
    assert largest_difference(narrow(), (1237, 1531), tmp_path, tile_px=tile_px) < 1e-5


def test_a_view_that_goes_through_whole_is_the_same(tmp_path: Path, one_thread: None) -> None:
    assert largest_difference(narrow(), (237, 331), tmp_path, whole_px=10**6) < 1e-5


@pytest.mark.parametrize(
    "changes",
    [
        {"tile_px": 252, "margin_px": 252, "survey_margin_px": 112, "stride": 4, "cell_px": 1},
        {"margin_px": 64},
    ],
    ids=["tiles off the stride", "a margin that is too small"],
)
def test_what_must_differ_does(tmp_path: Path, one_thread: None, changes: dict[str, int]) -> None:
    assert largest_difference(narrow(), (603, 701), tmp_path, **changes) > 1e-3


@pytest.mark.slow
def test_tiled_equals_untiled_with_the_published_widths(tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert largest_difference(MSINet().eval(), (261, 331), tmp_path, tile_px=128) < 1e-5


def test_numbers_that_are_none_are_said(tmp_path: Path) -> None:
    model = narrow()
    torch.nn.init.constant_(model.score.bias, float("nan"))
    with pytest.raises(DivergedError, match="not a number"):
        run_stage(SaliencyStage(model, 8.0), scene(64, 64), tmp_path / "field.zarr")
