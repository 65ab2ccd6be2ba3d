"""A prior is a distribution over the tissue of its own slide, or is refused."""

from pathlib import Path

import numpy as np
import pytest

from saccade.pipeline.cohort import load_cohort
from saccade.pipeline.config import TrainingConfig
from saccade.pipeline.errors import ConfigError, RegionError
from saccade.pipeline.glance import Glance
from saccade.pipeline.options import EXPLORED, PredictOptions
from saccade.pipeline.prior import Prior
from saccade.pipeline.stages.field import Field, write_field
from saccade.pipeline.tasks.truth import truth_of
from saccade.tiling import open_slide
from saccade.tiling.grid import CellGrid
from tests.cohort import TINY, TinyCohort, with_training

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


def test_training_explores_where_the_maps_say(
    tmp_path: Path, cohort: TinyCohort, pyramids: Path
) -> None:
    """One slide has no map, another that of its neighbour: both are named and left out."""
    hashes = {row.slide: opened_hash(row.path) for row in cohort.rows}
    for row in cohort.rows[:3]:
        write_map(tmp_path / row.slide / "saliency.zarr", hashes[row.slide])
    write_map(tmp_path / "s3" / "saliency.zarr", hashes["s2"])
    found = load_cohort(
        cohort.rows,
        truth_of(TINY.task, cohort.rows),
        pyramids,
        with_training(explore=0.2, priors=str(tmp_path)),
        stride=2,
    )

    assert [each.subject.name for each in found.train] == ["s0", "s1", "s2"]
    assert "another slide" in found.failures["s3"]
    assert "is no field" in found.failures["s4"]
    assert set(found.priors) == {"s0", "s1", "s2"}
    for each in found.train:
        prior = each.subject.log_prior
        assert prior is not None
        assert prior.shape == each.subject.glance.valid.shape
        assert float(prior.exp().sum()) == pytest.approx(1, abs=1e-5)


def opened_hash(path: Path) -> str:
    with open_slide(path) as slide:
        return slide.content_hash


def write_map(path: Path, slide_hash: str) -> None:
    provenance = {"stage": "saliency", "slide": slide_hash}
    write_field(path, field(grid=CellGrid((6, 8), (200.0, 200.0)), provenance=provenance))


def test_maps_that_nothing_would_follow_are_refused() -> None:
    with pytest.raises(ConfigError, match="explore is 0"):
        TrainingConfig(priors="results")
    prior = Prior(Path("field.zarr"), field())
    with pytest.raises(ConfigError, match="draws nothing from the prior"):
        PredictOptions(prior=prior, explore=0)
    with pytest.raises(ConfigError, match="by attention alone"):
        PredictOptions(prior=prior, top=True)


def test_a_share_of_the_draws_follows_a_prior_unless_another_is_said() -> None:
    prior = Prior(Path("field.zarr"), field())
    assert PredictOptions().share_explored == 0
    assert PredictOptions(prior=prior).share_explored == EXPLORED
    assert PredictOptions(prior=prior, explore=0.5).share_explored == 0.5
    assert PredictOptions(explore=0.5).share_explored == 0.5
    assert PredictOptions(prior=prior).inputs != PredictOptions(explore=EXPLORED).inputs
