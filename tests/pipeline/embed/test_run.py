"""Features of a slide: each tile's own, in their order, whatever happened on the way."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from saccade.pipeline.embed.encoder import EncoderChoice, TileEncoder
from saccade.pipeline.embed.options import EmbedOptions
from saccade.pipeline.embed.run import FEATURES, embed_slide
from saccade.pipeline.errors import ConfigError, ResultsError
from saccade.pipeline.model_file import ModelCard, load_model, save_model, weights_hash
from saccade.pipeline.options import PredictOptions
from saccade.pipeline.predict import predict_slide
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.record import RECORD_OF_EMBEDDING as RECORD
from saccade.pipeline.tasks.classes import Classes
from saccade.tiling import open_slide
from saccade.tiling.errors import NoTissueError
from saccade.tiling.pyramid_view import Pyramid
from saccade.tiling.tissue_tiles import tissue_tiles
from tests.cohort import TINY, TinyCohort
from tests.slides import write_pyramid_tiff

SLIDE = "s6"  # 1024 x 640 px at 0.5 um/px
BATCH = EmbedOptions(batch=16, workers=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles of 32 px at 0.5 um/px, from a network that has seen nothing."""
    torch.manual_seed(0)
    card = ModelCard.of(TINY, Classes(("a", "b")))
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, card.build().state_dict(), card)
    return path


@pytest.fixture(scope="module")
def slide_ref(cohort: TinyCohort) -> SlideRef:
    return SlideRef(cohort.path(SLIDE))


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, slide_ref: SlideRef, model: Path, one_thread: None
) -> Path:
    out = tmp_path_factory.mktemp("embedding")
    assert embed_slide(slide_ref, EncoderChoice(model), out, BATCH)
    return out


def with_pyramid(found: Path) -> EmbedOptions:
    return replace(BATCH, pyramid=found / "pyramid.zarr")


def features_of(out: Path) -> np.ndarray:
    with h5py.File(out / FEATURES) as file:
        return np.asarray(file["features"][:])


def coords_of(out: Path) -> np.ndarray:
    with h5py.File(out / FEATURES) as file:
        return np.asarray(file["coords"][:])


@torch.inference_mode()
def test_features_are_those_of_each_tile_read_by_itself(
    found: Path, slide_ref: SlideRef, model: Path
) -> None:
    network, _ = load_model(model)
    with slide_ref.open() as slide:
        tiles = [slide.read(x, y, 32, mpp=0.5) for x, y in coords_of(found).tolist()]
    one_by_one = [
        network.encode(torch.from_numpy(tile).permute(2, 0, 1)[None, None])[0, 0] for tile in tiles
    ]
    np.testing.assert_allclose(features_of(found), torch.stack(one_by_one), atol=1e-5)


def test_places_are_the_tissue_tiles_row_by_row(found: Path, slide_ref: SlideRef) -> None:
    with slide_ref.open() as slide:
        pyramid = Pyramid.open(found / "pyramid.zarr")
        wanted = tissue_tiles(slide, pyramid, side_px=32, mpp=0.5, least=0.1)
    coords = coords_of(found)

    np.testing.assert_array_equal(coords, wanted.corners_l0)
    np.testing.assert_array_equal(coords, coords[np.lexsort((coords[:, 0], coords[:, 1]))])
    assert 100 < len(coords) < wanted.in_grid == 32 * 20
    cost = json.loads((found / RECORD).read_text())["cost"]
    assert (cost["tiles_embedded"], cost["tiles_in_grid"]) == (len(coords), 32 * 20)


def test_clam_and_trident_find_what_they_look_for(found: Path, model: Path) -> None:
    with h5py.File(found / FEATURES) as file:
        features, coords = file["features"], file["coords"]
        assert (features.dtype, coords.dtype) == (np.float32, np.int64)
        assert len(features[:]) == len(coords[:])
        of_clam = {"patch_size": 32, "patch_level": 0, "name": SLIDE}
        of_trident = {
            "patch_size_level0": 32,
            "level0_magnification": 20,
            "target_magnification": 20,
            "overlap": 0,
            "level0_width": 1024,
            "level0_height": 640,
        }
        for name, value in (of_clam | of_trident).items():
            assert coords.attrs[name] == value, name
        assert coords.attrs["downsample"].tolist() == [1, 1]
        assert coords.attrs["downsampled_level_dim"].tolist() == [1024, 640]
        about = dict(features.attrs)
    assert about["encoder"] == "compact"
    assert about["weights"] == weights_hash(model)
    assert about["pixel_mean"].tolist() == [0.7, 0.55, 0.7]
    assert about["pixel_std"].tolist() == [0.2, 0.25, 0.2]
    assert (about["mpp"], about["tiles"], about["min_tissue"]) == (0.5, "tissue", 0.1)


def test_batches_and_workers_change_nothing(
    found: Path, slide_ref: SlideRef, model: Path, tmp_path: Path
) -> None:
    options = replace(with_pyramid(found), batch=37, workers=3)
    embed_slide(slide_ref, EncoderChoice(model), tmp_path, options)

    np.testing.assert_array_equal(coords_of(tmp_path), coords_of(found))
    np.testing.assert_allclose(features_of(tmp_path), features_of(found), atol=1e-5)


class Killed(BaseException):
    """What no code catches on its way."""


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tiles of each batch that goes through the network."""
    batches: list[int] = []
    encode = TileEncoder.encode

    def counted(self: TileEncoder, tiles: np.ndarray) -> np.ndarray:
        batches.append(len(tiles))
        return encode(self, tiles)

    monkeypatch.setattr(TileEncoder, "encode", counted)
    return batches


def test_a_killed_run_goes_on_to_the_same_bytes(
    found: Path,
    slide_ref: SlideRef,
    model: Path,
    tmp_path: Path,
    encoded: list[int],
) -> None:
    options, choice = with_pyramid(found), EncoderChoice(model)

    def kill(done: int, total: int) -> None:
        if done >= 64:
            raise Killed

    with pytest.raises(Killed):
        embed_slide(slide_ref, choice, tmp_path, options, progress=kill)
    assert not (tmp_path / FEATURES).exists()
    log = tmp_path / ".features.h5.work" / "features.log"
    with log.open("ab") as file:
        file.write(b"half a batch")  # as a kill in the middle of a write leaves it
    del encoded[:]
    assert embed_slide(slide_ref, choice, tmp_path, options)

    assert sum(encoded) == len(coords_of(found)) - 64 + 1  # and the one tile that is tried first
    assert (tmp_path / FEATURES).read_bytes() == (found / FEATURES).read_bytes()
    assert json.loads((tmp_path / RECORD).read_text())["cost"]["tiles_of_killed_runs"] == 64
    assert not log.parent.exists()


def test_what_another_network_has_begun_is_thrown_away(
    found: Path, slide_ref: SlideRef, model: Path, tmp_path: Path, encoded: list[int]
) -> None:
    def kill(done: int, total: int) -> None:
        if done:
            raise Killed

    options = with_pyramid(found)
    other = EncoderChoice(name="compact", tile_px=32, tile_mpp=0.5)
    with pytest.raises(Killed):
        embed_slide(slide_ref, other, tmp_path, options, progress=kill)
    embed_slide(slide_ref, EncoderChoice(model), tmp_path, options)

    np.testing.assert_array_equal(features_of(tmp_path), features_of(found))


def test_nothing_is_done_again_unless_something_changed(
    found: Path, slide_ref: SlideRef, model: Path, encoded: list[int], tmp_path: Path
) -> None:
    for name in (FEATURES, RECORD):
        (tmp_path / name).write_bytes((found / name).read_bytes())
    options, choice = with_pyramid(found), EncoderChoice(model)
    assert not embed_slide(slide_ref, choice, tmp_path, replace(options, batch=8, workers=2))
    assert not encoded

    assert embed_slide(slide_ref, choice, tmp_path, replace(options, min_tissue=0.9))
    assert len(coords_of(tmp_path)) < len(coords_of(found))
    assert embed_slide(slide_ref, choice, tmp_path, options)
    assert (tmp_path / FEATURES).read_bytes() == (found / FEATURES).read_bytes()
    (tmp_path / FEATURES).unlink()
    assert embed_slide(slide_ref, choice, tmp_path, options)


def test_sampled_tiles_are_those_of_a_prediction(
    found: Path, slide_ref: SlideRef, model: Path, tmp_path: Path
) -> None:
    pyramid = found / "pyramid.zarr"
    predicted = tmp_path / "predicted"
    predict_slide(slide_ref, model, predicted, PredictOptions(seed=3), pyramid_path=pyramid)
    options = replace(BATCH, sampler=model, seed=3, pyramid=pyramid)
    embed_slide(slide_ref, EncoderChoice(model), tmp_path / "drawn", options)

    np.testing.assert_array_equal(coords_of(tmp_path / "drawn"), coords_of(predicted))
    np.testing.assert_allclose(features_of(tmp_path / "drawn"), features_of(predicted), atol=1e-5)
    with h5py.File(tmp_path / "drawn" / FEATURES) as file:
        about = dict(file["features"].attrs)
    assert (about["tiles"], about["sampler"], about["seed"]) == ("sampled", weights_hash(model), 3)


def test_another_encoder_sees_the_sampled_places(
    found: Path, slide_ref: SlideRef, model: Path, tmp_path: Path
) -> None:
    options = replace(with_pyramid(found), sampler=model, tiles=7)
    choice = EncoderChoice(name="paper", tile_px=16, tile_mpp=1.0)
    embed_slide(slide_ref, choice, tmp_path / "coarse", options)
    embed_slide(slide_ref, EncoderChoice(model), tmp_path / "own", options)

    assert features_of(tmp_path / "coarse").shape == (7, 32)
    # Both tiles span 32 level-0 pixels; they begin at pixels of the level that each is read from.
    distance = coords_of(tmp_path / "coarse") - coords_of(tmp_path / "own")
    assert np.abs(distance).max() <= 1


def test_a_slide_without_tissue_is_said_and_leaves_nothing(model: Path, tmp_path: Path) -> None:
    blank = write_pyramid_tiff(tmp_path / "blank.tiff", np.full((512, 512, 3), 243, np.uint8))
    out = tmp_path / "out"
    with pytest.raises(NoTissueError, match=r"blank.tiff: no tile of 32 px at 0.5 um/px is at lea"):
        embed_slide(SlideRef(blank), EncoderChoice(model), out, BATCH)
    assert {path.name for path in out.iterdir()} == {".lock", ".pyramid.lock", "pyramid.zarr"}

    everywhere = replace(BATCH, min_tissue=0.0)
    assert embed_slide(SlideRef(blank), EncoderChoice(model), out, everywhere)
    assert len(coords_of(out)) == 16 * 16


def test_predictions_and_embeddings_do_not_overwrite_each_other(
    found: Path, slide_ref: SlideRef, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ResultsError, match="holds what `saccade embed` made"):
        predict_slide(slide_ref, model, found, PredictOptions())
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(ResultsError, match=r"choose another --out, such as .*embedding"):
        embed_slide(slide_ref, EncoderChoice(model), tmp_path, BATCH)


def test_a_pyramid_that_is_there_is_used_at_its_own_scale(
    slide_ref: SlideRef, model: Path, tmp_path: Path
) -> None:
    from saccade.tiling.pyramid import build_pyramid

    with open_slide(slide_ref.path) as slide:
        build_pyramid(slide, tmp_path / "pyramid.zarr", finest_mpp=8.0)
    before = (tmp_path / "pyramid.zarr" / "zarr.json").stat().st_mtime_ns
    embed_slide(slide_ref, EncoderChoice(model), tmp_path, BATCH)

    assert (tmp_path / "pyramid.zarr" / "zarr.json").stat().st_mtime_ns == before
    assert json.loads((tmp_path / RECORD).read_text())["inputs"]["finest_mpp"] == 8.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_tissue": 1.5}, "a share from 0 to 1"),
        ({"batch": 0}, "at least 1 tile"),
        ({"tiles": 4}, "give a --sampler"),
        ({"tiles": 0, "sampler": Path("m")}, "at least 1, got 0"),
    ],
)
def test_impossible_options_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EmbedOptions(**change)  # type: ignore[arg-type]
