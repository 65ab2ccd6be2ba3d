"""Rims against looking pixel by pixel, also at the edge of a tile; errors of settings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from saccade.pipeline.annotations.config import AnnotationsConfig
from saccade.pipeline.annotations.open_truth import open_truth
from saccade.pipeline.config import AugmentConfig
from saccade.pipeline.errors import ConfigError
from saccade.pipeline.segmentation.config import (
    ObjectsConfig,
    SegmentationConfig,
    SegmentationNetworkConfig,
    SegmentationTilesConfig,
    SegmentationTrainingConfig,
)
from saccade.pipeline.segmentation.targets import rim_of, target_of
from saccade.tiling import open_slide


@pytest.mark.parametrize("reach", [1.0, 1.5, 2.0, 3.7])
def test_a_rim_is_what_lies_near_to_another_object(reach: float) -> None:
    numbers = np.random.default_rng(0).choice([0, 0, 0, 1, 1, 2, 3], (15, 13))
    rim = rim_of(numbers, reach)

    places = np.argwhere(numbers > 0)
    for row, col in np.argwhere(np.ones_like(numbers, bool)):
        own = numbers[row, col]
        near = ((places - (row, col)) ** 2).sum(axis=1) <= reach**2
        others = numbers[tuple(places[near].T)]
        assert rim[row, col] == (own > 0 and bool((others != own).any())), (row, col)


@pytest.mark.parametrize("mpp", [0.5, 1.0])
def test_a_tile_has_the_rim_that_the_whole_has_there(mpp: float, tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).integers(0, 4, (20, 20)).repeat(3, 0).repeat(3, 1)
    Image.fromarray(numbers.astype(np.uint16)).save(tmp_path / "s_instances.png")
    slide = open_slide(np.zeros((60, 60, 3), np.uint8), mpp=0.5)
    truth = open_truth(AnnotationsConfig(folder=str(tmp_path)), "s", slide)
    whole = target_of(truth, (0, 0), round(30 / mpp), mpp, rim_um=1.5, instances=1)

    first = round(10 / mpp)
    tile = target_of(truth, (20, 20), 12, mpp, rim_um=1.5, instances=1)

    np.testing.assert_array_equal(tile, whole[first : first + 12, first : first + 12])
    assert set(np.unique(whole)) == {0, 1, 2}
    plain = target_of(truth, (20, 20), 12, mpp)
    np.testing.assert_array_equal(plain > 0, tile > 0)


def test_only_objects_of_the_class_have_a_rim(tmp_path: Path) -> None:
    classes = np.array([[1, 1, 2, 2, 0, 0, 2, 2]], np.uint8).repeat(4, 0)
    Image.fromarray(classes).save(tmp_path / "s_labels.png")
    slide = open_slide(np.zeros((4, 8, 3), np.uint8), mpp=0.5)
    config = AnnotationsConfig(kind="labels", folder=str(tmp_path), classes=("b", "c", "d"))
    truth = open_truth(config, "s", slide)

    target = target_of(truth, (0, 0), 8, 0.5, rim_um=1.5, instances=2)

    assert target[0].tolist() == [1, 1, 2, 3, 0, 0, 3, 2]
    assert (target[4:] == 255).all()


LABELS = AnnotationsConfig(kind="labels", classes=("background", "tumour", "nucleus"))


def test_the_rim_is_the_last_class() -> None:
    config = SegmentationConfig(LABELS, objects=ObjectsConfig(of="nucleus", rim_um=1.0))

    assert config.classes == ("background", "tumour", "nucleus", "rim")
    assert SegmentationConfig().instances == "object"
    assert SegmentationConfig(LABELS).instances is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SegmentationConfig(objects=ObjectsConfig(of="cell")), "objects.of must be"),
        (
            lambda: SegmentationConfig(LABELS, objects=ObjectsConfig(rim_um=1.0)),
            "objects.of names no class",
        ),
        (
            lambda: SegmentationConfig(
                AnnotationsConfig(classes=("b", "rim")), objects=ObjectsConfig(rim_um=1.0)
            ),
            "may not hold rim",
        ),
        (lambda: ObjectsConfig(rim_um=-1.0), "objects.rim_um"),
        (lambda: SegmentationTilesConfig(size_px=8), "tiles.size_px must be at least 16"),
        (lambda: SegmentationTilesConfig(mpp=0), "tiles.mpp"),
        (lambda: SegmentationTilesConfig(per_epoch=0), "tiles.per_epoch must be at least 1"),
        (lambda: SegmentationTilesConfig(uniform=1.5), "tiles.uniform must be in"),
        (lambda: SegmentationTrainingConfig(epochs=0), "training.epochs"),
        (lambda: SegmentationTrainingConfig(workers=0), "training.workers"),
        (lambda: SegmentationTrainingConfig(dice=-1.0), "training.dice"),
        (lambda: SegmentationTrainingConfig(layer_decay=0.0), "training.layer_decay"),
        (lambda: AugmentConfig(stain=2.0), "augment.stain"),
        (lambda: SegmentationNetworkConfig(name=""), "network.name"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
