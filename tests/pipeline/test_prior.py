"""A prior is a distribution over the tissue of its own slide, or is refused."""

from pathlib import Path

import numpy as np
import pytest

from saccade.pipeline.errors import RegionError
from saccade.pipeline.glance import Glance
from saccade.pipeline.prior import Prior
from saccade.pipeline.stages.field import Field, write_field
from saccade.tiling.grid import CellGrid

VALUES = np.random.default_rng(0).random((1, 6, 8)).astype(np.float32)


def field(values: np.ndarray = VALUES, **changes: object) -> Field:
    settings = {
        "values": values,
        "valid": np.ones(values.shape[1:], bool),
        "grid": CellGrid((6, 8), (16.0, 16.0)),
        "slide_mpp": (0.5, 0.5),
        "kind": "density",
        "channels": ("saliency",),
        "provenance": {"stage": "saliency", "slide": "sha256:one"},
    }
    return Field(**(settings | changes))


def glance(valid: np.ndarray) -> Glance:
    """Places of 32 level-0 pixels: four cells of the field each."""
    tissue = valid.repeat(2, 0).repeat(2, 1)
    pixels = np.zeros((*tissue.shape, 3), np.uint8)
    return Glance(pixels, tissue, CellGrid((3, 4), (32.0, 32.0)), valid)


def some_tissue() -> np.ndarray:
    valid = np.zeros((3, 4), bool)
    valid[0, 1:] = valid[2] = True
    return valid


def test_what_lies_on_tissue_shares_all_of_it(tmp_path: Path) -> None:
    write_field(tmp_path / "saliency.zarr", field())
    valid = some_tissue()
    found = Prior.read(tmp_path / "saliency.zarr").over(glance(valid), "sha256:one").exp().numpy()
    blocks = VALUES[0].reshape(3, 2, 4, 2).sum(axis=(1, 3)) * valid
    np.testing.assert_allclose(found, blocks / blocks.sum(), rtol=1e-6)


def test_one_that_names_no_slide_goes_with_any() -> None:
    prior = Prior(Path("field.zarr"), field(provenance={}))
    assert prior.over(glance(some_tissue()), "sha256:other").isfinite().any()


def test_one_of_another_slide_is_refused() -> None:
    with pytest.raises(RegionError, match="another slide"):
        Prior(Path("field.zarr"), field()).over(glance(some_tissue()), "sha256:other")


def test_one_with_nothing_on_the_tissue_is_refused() -> None:
    values = VALUES.copy()
    values[0, :2, 2:] = values[0, 4:] = 0
    with pytest.raises(RegionError, match="nothing but zeros"):
        Prior(Path("field.zarr"), field(values)).over(glance(some_tissue()), "sha256:one")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"values": VALUES - 0.5}, "never negative"),
        ({"values": VALUES.repeat(2, 0), "channels": ("a", "b")}, "one channel"),
    ],
)
def test_what_is_no_density_is_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(RegionError, match=why):
        Prior(Path("field.zarr"), field(**changes))


def test_the_hash_knows_numbers_and_place() -> None:
    moved = CellGrid((6, 8), (16.0, 16.0), (1.0, 0.0))
    hashes = {
        Prior(Path("field.zarr"), each).hash
        for each in (field(), field(VALUES * 2), field(grid=moved), field())
    }
    assert len(hashes) == 3
