"""Evidence of a slide: what is kept sums to what is said, and lies where the tiles lie."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from saccade.pipeline.bags.config import HeadConfig
from saccade.pipeline.bags.model_file import BagCard, save_bag_model
from saccade.pipeline.errors import FeaturesError
from saccade.pipeline.evidence_slide import find_evidence
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.stages.field import read_field
from tests.cohort import TinyCohort
from tests.pipeline.bags.feature_files import write_features

SIDE_L0 = 64
SHAPE = 5, 7  # rows and columns of tiles
FIRST_L0 = 128, 64  # (x, y)
DARK = 2, 4  # row and column of the tile that stands out
KIND = {"spatial_output": 3, "abmil": 1}


def write_model(path: Path, head: str) -> Path:
    """One that reads class b off the first feature, tile by tile, and looks where it is high."""
    torch.manual_seed(0)
    card = BagCard(("a", "b"), 3, "known", HeadConfig(head=head, width=4, side=1))  # type: ignore[arg-type]
    save_bag_model(path, card.build().state_dict(), card)
    return path


def corners() -> NDArray[np.int64]:
    """All tiles of the grid but one."""
    row, col = np.divmod(np.arange(SHAPE[0] * SHAPE[1])[1:], SHAPE[1])
    return np.stack([col, row], axis=1) * SIDE_L0 + FIRST_L0


@pytest.fixture
def features(tmp_path: Path) -> Path:
    places = corners()
    values = np.random.default_rng(0).normal(size=(len(places), 3)).astype(np.float32)
    values[DARK[0] * SHAPE[1] + DARK[1] - 1] = 9
    return write_features(tmp_path / "features.h5", values, places, side_l0=SIDE_L0)


@pytest.fixture
def slide(cohort: TinyCohort, one_thread: None) -> SlideRef:
    return SlideRef(cohort.path("s6"))


@pytest.mark.parametrize("head", KIND)
def test_what_is_kept_sums_to_what_is_said(
    head: str, slide: SlideRef, features: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert find_evidence(
        slide, features, write_model(tmp_path / "m.safetensors", head), out, name="s6"
    )

    said = json.loads((out / "evidence.json").read_text())
    field = read_field(out / "evidence.zarr")
    assert field.kind == "logit"
    logits = field.channel("attention logit").astype(np.float64)
    attention = np.exp(logits - np.nanmax(logits))
    attention /= np.nansum(attention)
    assert said["tiles"] == field.valid[:].sum() == len(corners())
    assert len(field.channels) == KIND[head]
    with tifffile.TiffFile(out / "evidence.ome.tif") as tif:
        shown = tif.asarray()
    np.testing.assert_allclose(shown.reshape(-1, *SHAPE)[0], np.nan_to_num(attention), atol=1e-6)
    if head == "spatial_output":
        for number, (name, probability) in enumerate(said["probabilities"].items()):
            likeness = np.exp(field.channel(f"log class: {name}").astype(np.float64))
            assert np.nansum(attention * likeness) == pytest.approx(probability, abs=1e-6)
            layers = np.nan_to_num([likeness, attention * likeness])
            np.testing.assert_allclose(shown[[1 + number, 3 + number]], layers, atol=1e-6)
    assert next(iter(said["layers"])) == "attention"


def test_it_lies_where_the_tiles_lie(slide: SlideRef, features: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    find_evidence(slide, features, write_model(tmp_path / "m.safetensors", "abmil"), out)

    field = read_field(out / "evidence.zarr")
    assert field.grid.shape == SHAPE
    assert field.grid.cell_l0 == pytest.approx((SIDE_L0, SIDE_L0))
    assert field.grid.origin_l0 == pytest.approx(FIRST_L0)
    logits = field.channel("attention logit")
    assert np.isnan(logits[0, 0])
    apart = np.abs(logits - np.nanmedian(logits))
    assert np.unravel_index(np.nanargmax(apart), SHAPE) == DARK


def test_what_is_there_is_not_made_again(slide: SlideRef, features: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", write_model(tmp_path / "m.safetensors", "abmil")

    assert find_evidence(slide, features, model, out)
    assert not find_evidence(slide, features, model, out)
    assert find_evidence(slide, features, model, out, force=True)
    (out / "evidence.png").unlink()
    assert find_evidence(slide, features, model, out)
    write_features(features, np.ones((2, 3), np.float32), corners()[:2], side_l0=SIDE_L0)
    assert find_evidence(slide, features, model, out)


@pytest.mark.parametrize(
    ("values", "places", "message"),
    [
        (np.ones((1, 3)), [[10**6, 0]], "are they of another slide"),
        (np.ones((1, 4)), [[0, 0]], "has 4 features a tile"),
        (np.ones((2, 3)), [[0, 0], [90, 0]], "do not lie on one grid"),
    ],
)
def test_features_that_do_not_fit_are_refused(
    values: NDArray[np.float64],
    places: list[list[int]],
    message: str,
    slide: SlideRef,
    tmp_path: Path,
) -> None:
    path = write_features(
        tmp_path / "f.h5", values.astype(np.float32), np.array(places), side_l0=SIDE_L0
    )
    with pytest.raises(FeaturesError, match=message):
        find_evidence(slide, path, write_model(tmp_path / "m.safetensors", "abmil"), tmp_path)
    with pytest.raises(FeaturesError, match="cannot be read as features"):
        find_evidence(
            slide, tmp_path / "none.h5", write_model(tmp_path / "m.safetensors", "abmil"), tmp_path
        )
