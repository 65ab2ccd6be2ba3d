"""Saliency runs on slides: from every kind of target, with the same targets in the same places."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from saccade.pipeline.config import ViewConfig
from saccade.pipeline.errors import ResultsError, SheetError
from saccade.pipeline.saliency.config import (
    NetworkConfig,
    SaliencyConfig,
    SaliencyTrainingConfig,
    TargetsConfig,
)
from saccade.pipeline.saliency.examples import Gallery, load_gallery
from saccade.pipeline.saliency.train import train_saliency
from saccade.pipeline.saliency_model import load_saliency_model
from tests.cohort import TinyCohort

# Everywhere: that slides are tissue only here and there is of no matter but in one test.
CONFIG = SaliencyConfig(
    view=ViewConfig(mpp=16.0, min_tissue=0.0),
    network=NetworkConfig(width=8, convolutions=1),
    training=SaliencyTrainingConfig(epochs=1, learning_rate=1e-3),
)
CENTRE_L0 = (320.0, 224.0)
HALF_L0 = 96.0


@pytest.fixture
def targets(tmp_path: Path, cohort: TinyCohort) -> Path:
    """One square of each slide, as points, outline and map, each in a folder of its kind."""
    for kind in ("fixations", "annotations", "density"):
        (tmp_path / kind).mkdir()
    (x, y), half = CENTRE_L0, HALF_L0
    grid = np.arange(-half + 8, half, 16)
    points = "".join(f"{x + dx},{y + dy}\n" for dy in grid for dx in grid)
    ring = [[x - half, y - half], [x + half, y - half], [x + half, y + half], [x - half, y + half]]
    shape = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}}
    for row in cohort.rows:
        width, height = _size_of(row.path)
        inside = np.zeros((height // 4, width // 4), np.uint8)
        inside[int(y - half) // 4 : int(y + half) // 4, int(x - half) // 4 : int(x + half) // 4] = 9
        (tmp_path / "fixations" / f"{row.slide}.csv").write_text("x_l0,y_l0\n" + points)
        (tmp_path / "annotations" / f"{row.slide}.geojson").write_text(json.dumps(shape))
        Image.fromarray(inside).save(tmp_path / "density" / f"{row.slide}.png")
    return tmp_path


def _size_of(path: Any) -> tuple[int, int]:
    from saccade.tiling import open_slide

    with open_slide(path) as slide:
        return slide.size_l0


def with_targets(folder: Path, kind: Any, **changes: Any) -> SaliencyConfig:
    targets = TargetsConfig(kind=kind, folder=str(folder / kind), blur_um=0.0)
    return dataclasses.replace(CONFIG, targets=targets, **changes)


def gallery_of(config: SaliencyConfig, cohort: TinyCohort, pyramids: Path) -> Gallery:
    return load_gallery(cohort.rows, pyramids, config)


@pytest.mark.parametrize("kind", ["annotations", "fixations", "density"])
def test_each_kind_of_file_names_the_same_square(
    kind: str, targets: Path, cohort: TinyCohort, pyramids: Path
) -> None:
    gallery = gallery_of(with_targets(targets, kind), cohort, pyramids)

    assert [len(gallery.train), len(gallery.val)] == [4, 2]
    for example in gallery.train:
        target = example.picture.target
        assert target.shape == example.picture.pixels.shape[:2]
        assert target.sum() == pytest.approx(1, abs=1e-5)
        rows, cols = (np.arange(n) + 0.5 for n in target.shape)
        mpp_l0 = 0.5
        centre = np.array([target.sum(0) @ cols, target.sum(1) @ rows]) * 16 / mpp_l0
        np.testing.assert_allclose(centre, CENTRE_L0, atol=1e-3)


def test_targets_lie_on_tissue(targets: Path, cohort: TinyCohort, pyramids: Path) -> None:
    everywhere = with_targets(targets, "annotations")
    config = dataclasses.replace(everywhere, view=ViewConfig(mpp=16.0, min_tissue=0.9))

    some, every = (gallery_of(each, cohort, pyramids) for each in (config, everywhere))
    kept = [e.picture.target > 0 for e in some.train]
    whole = [e.picture.target > 0 for e in every.train]
    assert all((w | ~k).all() for k, w in zip(kept, whole, strict=False))
    assert sum(k.sum() for k in kept) < sum(w.sum() for w in whole) or some.failures


def test_a_teachers_attention_is_a_target(
    cohort: TinyCohort, pyramids: Path, trained: Path
) -> None:
    teacher = str(trained / "model.safetensors")
    config = dataclasses.replace(CONFIG, targets=TargetsConfig(kind="attention", teacher=teacher))

    gallery = gallery_of(config, cohort, pyramids)

    for example in gallery.train:
        assert example.picture.target.sum() == pytest.approx(1, abs=1e-5)
        assert 0 < (example.picture.target > 0).mean() < 1  # tissue, and what is none


def test_a_slide_without_target_costs_that_slide(
    targets: Path, cohort: TinyCohort, pyramids: Path, tmp_path: Path
) -> None:
    (targets / "fixations" / "s1.csv").unlink()
    (targets / "fixations" / "s2.csv").write_text("x_l0,y_l0\n-5,-5\n")
    config = with_targets(targets, "fixations")

    result = train_saliency(config, cohort.rows, tmp_path / "run", pyramids=pyramids)

    assert set(result.failures) == {"s1", "s2"}
    assert "wanted s1.csv" in result.failures["s1"]
    assert "nothing of it lies in the view" in result.failures["s2"]
    for row in cohort.rows:
        (targets / "fixations" / f"{row.slide}.csv").unlink(missing_ok=True)
    with pytest.raises(SheetError, match="found none"):
        gallery_of(config, cohort, pyramids)


def test_a_run_leaves_a_model_and_a_record(
    targets: Path, cohort: TinyCohort, pyramids: Path, tmp_path: Path
) -> None:
    config, out = with_targets(targets, "density"), tmp_path / "run"
    lines: list[dict[str, Any]] = []

    train_saliency(config, cohort.rows, out, pyramids=pyramids, report=lines.append)

    _, card = load_saliency_model(out / "model.safetensors")
    assert card.mpp == 16.0
    assert card.training["targets"] == "density"
    assert set(lines[0]["val"]) == {"loss", "cc", "sim"}
    record = json.loads((out / "record.json").read_text())
    assert record["step"] == "train saliency"
    assert len(record["inputs"]["slides_and_targets"]) == 6


def test_other_targets_are_another_run_and_another_folder_is_not(
    targets: Path, cohort: TinyCohort, pyramids: Path, tmp_path: Path
) -> None:
    config, out = with_targets(targets, "fixations"), tmp_path / "run"
    train_saliency(config, cohort.rows, out, pyramids=pyramids)
    (targets / "fixations").rename(targets / "moved")
    moved = dataclasses.replace(
        config, targets=dataclasses.replace(config.targets, folder=str(targets / "moved"))
    )

    train_saliency(moved, cohort.rows, out, pyramids=pyramids)  # is done, and says nothing
    (targets / "moved" / "s0.csv").write_text("x_l0,y_l0\n10,10\n")
    with pytest.raises(ResultsError, match="other settings"):
        train_saliency(moved, cohort.rows, out, pyramids=pyramids)
