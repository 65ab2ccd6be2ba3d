"""Features are read as CLAM, TRIDENT and Saccade write them, and what cannot be used is refused."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from saccade.pipeline.bags.feature_file import find_features, read_features
from saccade.pipeline.errors import FeaturesError
from saccade.pipeline.export.features import write_features_h5
from saccade.tiling import open_slide
from saccade.tiling.places import Places
from tests.cohort import TinyCohort
from tests.pipeline.bags.feature_files import write_features

CORNERS = np.array([[0, 0], [512, 256]])
FEATURES = np.arange(6, dtype=np.float32).reshape(2, 3)


def write(path: Path, **attributes: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = FEATURES, CORNERS
        file["coords"].attrs.update(attributes)
    return path


def test_what_saccade_writes_is_read(tmp_path: Path, cohort: TinyCohort) -> None:
    places = Places(CORNERS, 32, 0.5, (32.0, 32.0), np.array([0, 1]), np.array([0.5, 0.5]))
    with open_slide(cohort.rows[0].path) as slide:
        write_features_h5(tmp_path / "f.h5", FEATURES, places, slide, encoder="compact")

    found = read_features(tmp_path / "f.h5")

    assert np.array_equal(found.features, FEATURES)
    assert np.array_equal(found.corners_l0, CORNERS)
    assert (found.side_l0, found.step_l0, found.encoder) == (32, 32, "compact")


def test_one_network_with_other_weights_is_another_encoder(tmp_path: Path) -> None:
    path = write_features(tmp_path / "f.h5", FEATURES, CORNERS, encoder="compact")
    with h5py.File(path, "a") as file:
        file["features"].attrs["weights"] = "sha256:1"

    assert read_features(path).encoder == "compact, sha256:1"


@pytest.mark.parametrize(
    ("attributes", "side", "step"),
    [
        ({"patch_size_level0": 256}, 256, 256),  # TRIDENT
        ({"patch_size_level0": 512, "patch_size": 256, "overlap": 64}, 512, 384),
        ({"patch_size": 256, "downsample": (2.0, 2.0)}, 512, 512),  # CLAM
        ({"patch_size": 256}, None, None),  # of which level?
        ({}, None, None),
    ],
)
def test_the_side_of_a_tile_is_found(
    attributes: dict[str, Any], side: float | None, step: float | None, tmp_path: Path
) -> None:
    found = read_features(write(tmp_path / "f.h5", **attributes))

    assert (found.side_l0, found.step_l0) == (side, step)


def test_a_first_axis_of_one_is_taken_off(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["features"], file["coords"] = FEATURES[None], CORNERS

    assert read_features(tmp_path / "f.h5").features.shape == (2, 3)


def test_tiles_off_a_grid_are_refused_with_what_can_be_done(tmp_path: Path) -> None:
    off = np.array([[0, 0], [300, 0], [512, 0]])
    path = write_features(tmp_path / "f.h5", np.zeros((3, 2), np.float32), off)

    with pytest.raises(
        FeaturesError, match=r"s1: its tiles do not lie on one grid: along x.*abmil"
    ):
        read_features(path).gridded("s1")
    with pytest.raises(FeaturesError, match="s1: its features do not say how wide a tile is"):
        read_features(write(tmp_path / "g.h5")).gridded("s1")


@pytest.mark.parametrize(
    ("features", "coords", "message"),
    [
        (FEATURES, CORNERS[:1], r"found \(2, 3\) and \(1, 2\)"),
        (FEATURES[:0], CORNERS[:0], "one tile or more"),
        (FEATURES * np.nan, CORNERS, "no numbers"),
    ],
)
def test_damaged_features_are_refused(
    features: Any, coords: Any, message: str, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["features"], file["coords"] = features, coords

    with pytest.raises(FeaturesError, match=message):
        read_features(tmp_path / "f.h5")


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "f.h5").write_text("no")
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file["features"] = FEATURES

    for name in ("f.h5", "g.h5"):
        with pytest.raises(FeaturesError, match="cannot be read as features"):
            read_features(tmp_path / name)
    with pytest.raises(FeaturesError, match=r"s1: has no features in .*wanted s1/features\.h5"):
        find_features(tmp_path, "s1")


def test_features_are_found_by_each_name(tmp_path: Path) -> None:
    flat = write(tmp_path / "s1.h5")
    assert find_features(tmp_path, "s1") == flat
    (tmp_path / "s1").mkdir()
    assert find_features(tmp_path, "s1") == flat
    nested = write(tmp_path / "s1" / "features.h5")
    assert find_features(tmp_path, "s1") == nested
    (tmp_path / "s1" / "embedding").mkdir()
    embedded = write(tmp_path / "s1" / "embedding" / "features.h5")
    assert find_features(tmp_path, "s1") == embedded
