import csv
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from saccade.pipeline.export.features import write_features_h5
from saccade.pipeline.export.tables import read_tiles_csv, write_tiles_csv
from saccade.tiling.grid import CellGrid
from saccade.tiling.places import Places
from saccade.tiling.slide import Slide
from saccade.tiling.source import Level, SlideInfo

GRID = CellGrid(shape=(4, 7), cell_l0=(64.0, 64.0))


class Nothing:
    """A source of which only the facts are asked."""

    def __init__(self, *downsamples: float) -> None:
        sizes = [(int(4000 / d), int(3000 / d)) for d in downsamples]
        self.info = SlideInfo(
            levels=tuple(Level(*s, d) for s, d in zip(sizes, downsamples, strict=True)),
            reader="array",
            mpp=(0.25, 0.25),
        )


def slide(*downsamples: float) -> Slide:
    return Slide(Nothing(*downsamples), Path("slide one.svs"))  # type: ignore[arg-type]


@pytest.fixture
def places() -> Places:
    return Places(
        corners_l0=np.array([[10, -20], [30, 40], [5, 6]]),
        side_px=224,
        mpp=0.5,
        side_l0=(448.112, 448.0),
        cells=np.array([0, 8, 27]),
        probability=np.array([0.5, 0.1, 0.25]),
    )


def test_tiles_read_back_are_the_tiles_written(tmp_path: Path, places: Places) -> None:
    weight = np.array([0.2, 0.7, 0.1])
    write_tiles_csv(tmp_path / "tiles.csv", places, {"weight": weight}, grid=GRID)

    again, columns = read_tiles_csv(tmp_path / "tiles.csv", grid=GRID)

    assert (again.side_px, again.mpp, again.side_l0) == (224, 0.5, (448.112, 448.0))
    for name in ("corners_l0", "cells", "probability"):
        assert (getattr(again, name) == getattr(places, name)).all()
    assert list(columns) == ["weight"]
    assert (columns["weight"] == weight).all()


def test_table_has_a_line_per_tile_in_the_order_of_the_draw(tmp_path: Path, places: Places) -> None:
    path = tmp_path / "tiles.csv"
    weight = np.array([0.1, 0.2, 0.7], np.float32)
    write_tiles_csv(path, places, {"weight": weight, "rank": np.array([3, 2, 1])}, grid=GRID)

    assert path.read_text(encoding="utf-8").splitlines() == [
        "order,x_l0,y_l0,side_px,mpp,side_l0_x,side_l0_y,cell_row,cell_col,probability,weight,rank",
        "1,10,-20,224,0.5,448.112,448.0,0,0,0.5,0.1,3",
        "2,30,40,224,0.5,448.112,448.0,1,1,0.1,0.2,2",
        "3,5,6,224,0.5,448.112,448.0,3,6,0.25,0.7,1",
    ]


def test_table_loses_no_digit(tmp_path: Path, places: Places) -> None:
    path = tmp_path / "tiles.csv"
    weight = np.random.default_rng(0).random(3)
    write_tiles_csv(path, places, {"weight": weight}, grid=GRID)
    with path.open(newline="") as file:
        assert [float(line["weight"]) for line in csv.DictReader(file)] == weight.tolist()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"mpp": np.ones(3)}, "columns mpp are written from the places"),
        ({"weight": np.ones(2)}, "'weight' needs one number per tile"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    tmp_path: Path, places: Places, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_tiles_csv(tmp_path / "tiles.csv", places, columns, grid=GRID)


def test_features_are_laid_out_as_clam_and_trident_read_them(
    tmp_path: Path, places: Places
) -> None:
    path = tmp_path / "features.h5"
    features = np.random.default_rng(0).random((3, 16))
    write_features_h5(path, features, places, slide(1, 2.0005, 8), encoder="resnet18")

    with h5py.File(path) as file:
        assert file["features"].dtype == np.float32
        np.testing.assert_allclose(file["features"], features, rtol=1e-6)
        assert file["features"].attrs["encoder"] == "resnet18"
        assert file["coords"].dtype == np.int64
        np.testing.assert_array_equal(file["coords"], places.corners_l0)
        facts = dict(file["coords"].attrs)
    assert facts["patch_size"] == 224
    assert facts["patch_size_level0"] == 448
    assert (facts["level0_magnification"], facts["target_magnification"]) == (40, 20)
    assert (facts["level0_width"], facts["level0_height"], facts["overlap"]) == (4000, 3000, 0)
    assert facts["name"] == "slide one"
    assert facts["patch_level"] == 1
    assert facts["downsample"].tolist() == [2.0005, 2.0005]
    assert facts["downsampled_level_dim"].tolist() == [1999, 1499]


def test_clam_cannot_read_wrong_tiles_from_a_slide_without_that_level(
    tmp_path: Path, places: Places
) -> None:
    path = tmp_path / "features.h5"
    write_features_h5(path, np.ones((3, 2)), places, slide(1, 4), encoder="resnet18")
    with h5py.File(path) as file:
        assert "patch_level" not in file["coords"].attrs
        assert file["coords"].attrs["patch_size_level0"] == 448


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((2, 5)), r"shape \(3, dims\)"),
        (np.ones(3), r"shape \(3, dims\)"),
        (np.full((3, 5), np.nan), "must be finite"),
    ],
)
def test_features_that_do_not_fit_are_refused(
    tmp_path: Path, places: Places, features: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_features_h5(tmp_path / "f.h5", features, places, slide(1), encoder="resnet18")
    assert not (tmp_path / "f.h5").exists()
