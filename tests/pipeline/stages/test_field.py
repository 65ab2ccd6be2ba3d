"""A field comes back as it was written, affine and all."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from ome_zarr_models.v05.image import Image

from saccade.pipeline.errors import ResultsError
from saccade.pipeline.stages.field import Field, read_field, write_field
from saccade.tiling.grid import CellGrid

ODD = CellGrid(shape=(37, 53), cell_l0=(3.9997, 4.0001), origin_l0=(1 / 3, -17.0))


def field(grid: CellGrid = ODD, **changes: object) -> Field:
    rng = np.random.default_rng(0)
    settings: dict[str, object] = {
        "values": rng.normal(size=(2, *grid.shape)).astype(np.float32),
        "valid": rng.random(grid.shape) < 0.5,
        "grid": grid,
        "slide_mpp": (0.2521, 0.2519),
        "kind": "logit",
        "channels": ("tumour", "stroma"),
        "provenance": {"stage": "test", "weights": "sha256:0", "numbers": [0.1, 2]},
    }
    return Field(**(settings | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("downsample", [3.9997, 1 / 3, 16.000123456789012, 64.0])
def test_what_is_written_is_read(tmp_path: Path, downsample: float) -> None:
    grid = CellGrid((37, 53), (downsample, downsample * 1.0001), (0.1, 1e6 / 7))
    written = field(grid)

    read = write_field(tmp_path / "f.zarr", written)

    np.testing.assert_array_equal(np.asarray(read.values[:]), written.values)
    np.testing.assert_array_equal(np.asarray(read.valid[:]), written.valid)
    np.testing.assert_array_equal(read.affine_l0, written.affine_l0)  # to the last bit
    assert read.grid == grid
    assert (read.kind, read.channels, read.provenance) == (
        written.kind,
        written.channels,
        written.provenance,
    )
    assert read.mpp == written.mpp == (downsample * 0.2521, downsample * 1.0001 * 0.2519)


def test_a_field_larger_than_a_shard_is_copied_whole(tmp_path: Path) -> None:
    written = field(CellGrid((1030, 2050), (8.0, 8.0)))
    read = write_field(tmp_path / "f.zarr", written)
    again = write_field(tmp_path / "again.zarr", read)
    np.testing.assert_array_equal(np.asarray(again.values[:]), written.values)


def test_other_readers_of_ome_zarr_place_it_alike(tmp_path: Path) -> None:
    """The centre of pixel (0, 0), counted from the centre of the slide's first pixel."""
    read = write_field(tmp_path / "f.zarr", field())
    group = zarr.open_group(tmp_path / "f.zarr", mode="r")
    image = Image.from_zarr(group)
    (dataset,) = image.ome_attributes.multiscales[0].datasets
    scale, translation = dataset.coordinateTransformations
    centre_l0 = read.affine_l0 @ (0.5, 0.5, 1) - 0.5

    assert scale.scale == [1, read.mpp[1], read.mpp[0]]
    np.testing.assert_allclose(
        translation.translation, [0, *(centre_l0 * read.slide_mpp)[::-1]], rtol=1e-12
    )


def test_a_channel_shows_nothing_where_it_is_not_valid() -> None:
    made = field()
    shown = made.channel("stroma")
    np.testing.assert_array_equal(np.isnan(shown), ~made.valid)
    with pytest.raises(ValueError, match="found tumour, stroma"):
        made.channel("fat")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": ("a",)}, "shapes"),
        ({"valid": np.ones((2, 2), bool)}, "shapes"),
        ({"kind": "colour"}, "kind must be one of"),
        ({"slide_mpp": (0.25, 0.0)}, "slide_mpp must be positive"),
    ],
)
def test_impossible_fields_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        field(**change)


def test_what_is_no_field_is_said(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="is no field"):
        read_field(tmp_path / "missing.zarr")
    zarr.open_group(tmp_path / "other.zarr", mode="w")
    with pytest.raises(ResultsError, match="is no field"):
        read_field(tmp_path / "other.zarr")


@given(st.floats(1e-3, 1e6), st.floats(-1e9, 1e9))
def test_json_keeps_every_bit_of_an_affine(cell: float, origin: float) -> None:
    assert json.loads(json.dumps([cell, origin])) == [cell, origin]
