"""Tiled equals untiled; and where it must not, it does not."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import weakref
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.pipeline.errors import RegionError
from saccade.pipeline.stages.limit import Limit
from saccade.pipeline.stages.runner import RunOptions, run_stage
from saccade.pipeline.stages.scene import ArrayScene, SlideScene
from saccade.pipeline.stages.stage import Stage
from saccade.pipeline.stages.tile_plan import Window
from saccade.tiling import open_slide
from tests.slides import tissue_like, write_pyramid_tiff
from tests.stage_networks import Contextual, Enlarged, Plain, Strided, scene, spec, values_of

VIEW = (123, 157)  # odd, and no multiple of anything


@torch.inference_mode()
def untiled(stage: Stage, view: ArrayScene, wanted: NDArray[np.bool_] | None = None) -> Tensor:
    """A stage over a whole view at once, written without the runner."""
    rows, cols = view.grid.shape
    pixels = view.read(Window(0, 0, rows, cols))
    features = stage.encode(torch.from_numpy(pixels)[None].permute(0, 3, 1, 2))
    mask = torch.ones(features.shape[2:], dtype=torch.bool)
    mask = mask if wanted is None else torch.from_numpy(wanted)
    survey = None
    if stage.survey is not None:
        survey = stage.survey.of(features[0][:, mask].numpy())
    output = stage.decode(features, survey)[0]
    if stage.closing is None:
        return output
    seen = output if wanted is None else output[:, mask]
    return stage.finalise(output, stage.closing.of(seen.reshape(len(output), -1).numpy()))


def tiled(stage: Stage, view: ArrayScene, out: Path, **changes: object) -> NDArray[np.float32]:
    stage.spec = dataclasses.replace(stage.spec, **changes)  # type: ignore[arg-type]
    return values_of(run_stage(stage, view, out / "field.zarr", options=RunOptions(batch=3)).values)


@pytest.mark.parametrize("tile_px", [16, 32, 64, 100, 256])
@pytest.mark.parametrize("kind", [Plain, Strided, Contextual])
def test_tiled_equals_untiled(tmp_path: Path, kind: type[Stage], tile_px: int) -> None:
    view, stage = scene(*VIEW), kind()

    found = tiled(stage, view, tmp_path, tile_px=tile_px)

    np.testing.assert_allclose(found, untiled(stage, view).numpy(), atol=1e-5)


def test_tiles_off_the_stride_give_another_result(tmp_path: Path) -> None:
    """A stage that says stride 2 where its network has 4 gets tiles that begin in between."""
    view, stage = scene(*VIEW), Enlarged()
    whole = untiled(stage, view).numpy()[:, : VIEW[0], : VIEW[1]]
    assert np.abs(tiled(stage, view, tmp_path) - whole).max() < 1e-5

    found = tiled(stage, view, tmp_path, tile_px=30, margin_px=14, stride=2)

    assert np.abs(found - whole).max() > 0.01


def test_a_margin_that_is_too_small_gives_another_result(tmp_path: Path) -> None:
    view, stage = scene(*VIEW), Plain()

    found = tiled(stage, view, tmp_path, margin_px=2)

    assert np.abs(found - untiled(stage, view).numpy()).max() > 1e-3


class OwnScale(Plain):
    """Normalises each tile by itself."""

    def decode(self, features: Tensor, survey: None) -> Tensor:
        evidence = super().decode(features, survey)
        low, high = evidence.amin((2, 3), keepdim=True), evidence.amax((2, 3), keepdim=True)
        return (evidence - low) / (high - low)


def test_a_normalisation_of_each_tile_gives_another_result(tmp_path: Path) -> None:
    view, stage = scene(*VIEW), OwnScale()

    found = tiled(stage, view, tmp_path)

    assert np.abs(found - untiled(stage, view).numpy()).max() > 0.01


def test_a_tile_off_the_stride_is_refused() -> None:
    with pytest.raises(ValueError, match=r"multiples of the network's stride=8"):
        spec(stride=8, tile_px=36, margin_px=8)
    with pytest.raises(ValueError, match=r"multiples of the network's stride=8"):
        spec(stride=8, tile_px=32, margin_px=20)


class CountingScene(ArrayScene):
    """Counts what is read of noise, and how many of the tiles that were read are still held."""

    def __init__(self, rows: int, cols: int) -> None:
        noise = scene(rows, cols)
        super().__init__(
            noise.read(Window(0, 0, rows, cols)), content=noise.content, slide_mpp=noise.slide_mpp
        )
        self.windows: list[Window] = []
        self.alive = self.most_alive = 0
        self._counting = Lock()

    def read(self, window: Window) -> NDArray[np.uint8]:
        pixels = super().read(window).copy()
        with self._counting:
            self.windows.append(window)
            self.alive += 1
            self.most_alive = max(self.most_alive, self.alive)
        weakref.finalize(pixels, self._gone)
        return pixels

    def _gone(self) -> None:
        self.alive -= 1


def test_a_small_view_goes_through_whole_and_once(tmp_path: Path) -> None:
    view, stage = CountingScene(*VIEW), Contextual()
    stage.spec = dataclasses.replace(stage.spec, whole_px=VIEW[0] * VIEW[1])

    found = values_of(run_stage(stage, view, tmp_path / "field.zarr").values)

    assert view.windows == [Window(0, 0, *VIEW)]
    np.testing.assert_allclose(found, untiled(stage, view).numpy(), atol=1e-6)


@pytest.mark.parametrize("rows", [64, 640])
def test_tiles_that_are_held_are_few_whatever_the_view(tmp_path: Path, rows: int) -> None:
    view, options = CountingScene(rows, 320), RunOptions(batch=2, ahead=2, workers=2)

    run_stage(Contextual(), view, tmp_path / "field.zarr", options=options)

    assert len(view.windows) == 2 * (rows // 32) * 10  # two passes over all tiles
    assert view.most_alive <= options.batch * (options.ahead + 2)


def some_blocks(shape: tuple[int, int], block_px: int) -> Limit:
    """A ring of blocks, so that tiles are wanted in part."""
    blocks = np.zeros([-(-n // block_px) for n in shape], bool)
    blocks[2:6, 3:9] = True
    blocks[3:5, 4:7] = False
    return Limit(blocks, block_px)


@pytest.mark.parametrize("tile_px", [16, 32, 100])
def test_a_region_is_judged_as_if_the_rest_were_only_seen(tmp_path: Path, tile_px: int) -> None:
    """Its statistics are of itself alone, so they do not depend on the tiles."""
    view, stage, limit = scene(*VIEW), Contextual(), some_blocks(VIEW, 8)
    stage.spec = dataclasses.replace(stage.spec, tile_px=tile_px)
    cells = limit.in_cells(Window(0, 0, *VIEW), 4)

    field = run_stage(stage, view, tmp_path / "field.zarr", limit=limit)

    wanted = untiled(stage, view, cells).numpy()
    np.testing.assert_allclose(values_of(field.values)[:, cells], wanted[:, cells], atol=1e-5)
    assert np.isnan(values_of(field.values)[:, ~cells]).all()
    np.testing.assert_array_equal(values_of(field.valid).astype(bool), cells)


def test_what_lies_outside_of_a_region_is_not_read(tmp_path: Path) -> None:
    view, blocks = CountingScene(320, 320), np.zeros((10, 10), bool)
    blocks[4, 7] = True

    run_stage(Plain(), view, tmp_path / "field.zarr", limit=Limit(blocks, 32))

    assert view.windows == [Window(4 * 32 - 4, 7 * 32 - 4, 5 * 32 + 4, 8 * 32 + 4)]
    chunks = [path.name for path in (tmp_path / "field.zarr" / "0").rglob("*") if path.is_file()]
    assert sorted(chunks) == ["0", "zarr.json"]


def test_a_region_without_anything_is_said(tmp_path: Path) -> None:
    with pytest.raises(RegionError, match="nothing of the view lies in the region"):
        run_stage(
            Plain(), scene(64, 64), tmp_path / "f.zarr", limit=Limit(np.zeros((2, 2), bool), 32)
        )


def test_a_scene_at_another_scale_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="looks at 8 um/px"):
        run_stage(Plain(), scene(64, 64, mpp=4.0), tmp_path / "f.zarr")


class Mortal(Contextual):
    """Ends the run by `end` when it has encoded so many batches."""

    def __init__(self, batches: float, end: Callable[[], None]) -> None:
        super().__init__()
        self.left, self.done, self._end = batches, 0, end

    def encode(self, tiles: Tensor) -> Tensor:
        if self.done >= self.left:
            self._end()
        self.done += 1
        return super().encode(tiles)


def interrupt() -> None:
    raise KeyboardInterrupt


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_mortal(out: Path, batches: float, end: Callable[[], None] = interrupt) -> int:
    """Run until the end comes; how many batches were encoded."""
    stage = Mortal(batches, end)
    with contextlib.suppress(KeyboardInterrupt):
        run_stage(stage, scene(*VIEW), out, options=RunOptions(batch=3))
    return stage.done


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, one_thread: None) -> None:
    whole, cut = tmp_path / "whole.zarr", tmp_path / "cut.zarr"
    batches = run_mortal(whole, np.inf)

    done = run_mortal(cut, 3)  # ends within the first pass
    process = multiprocessing.get_context("spawn").Process(
        target=run_mortal, args=(cut, batches // 2, kill)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL  # within the second
    assert not cut.exists()
    done += batches // 2 + run_mortal(cut, np.inf)

    assert done == batches, "what was done is not done again"
    assert bytes_of(cut) == bytes_of(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.zarr", "whole.zarr"]


def test_a_run_of_something_else_does_not_go_on_from_it(tmp_path: Path) -> None:
    out, other = tmp_path / "field.zarr", scene(*VIEW, seed=1)
    assert run_mortal(out, 3) == 3

    found = values_of(run_stage(Contextual(), other, out, options=RunOptions(batch=3)).values)

    np.testing.assert_allclose(found, untiled(Contextual(), other).numpy(), atol=1e-5)


def test_a_slide_is_read_tile_by_tile(tmp_path: Path) -> None:
    """At a scale that is no level's, where a block read elsewhere would be filtered elsewhere."""
    path = write_pyramid_tiff(tmp_path / "s.tiff", tissue_like(1500, 700), mpp=0.5)
    with open_slide(path) as slide:
        view = SlideScene(slide, 1.3)
        stage = Plain(spec(channels=("a", "b"), mpp=1.3, tile_px=100))
        field = run_stage(stage, view, tmp_path / "field.zarr")
        whole = ArrayScene(
            view.read(Window(0, 0, *view.grid.shape)),
            content="",
            slide_mpp=slide.mpp,
            grid=view.grid,
        )
    assert view.blocks_read == 2
    assert field.mpp == pytest.approx((1.3, 1.3))
    np.testing.assert_allclose(values_of(field.values), untiled(stage, whole).numpy(), atol=1e-5)
