"""Segmentation runs: they learn, resume to the same weights, and see classes turned with pixels."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from saccade.pipeline.annotations.balanced import Aim
from saccade.pipeline.annotations.config import AnnotationsConfig
from saccade.pipeline.annotations.slides import grid_of, load_annotated
from saccade.pipeline.config import AugmentConfig
from saccade.pipeline.errors import ConfigError, ModelFileError, ResultsError, SheetError
from saccade.pipeline.reading import TileReader
from saccade.pipeline.segmentation.batches import TileSource, drop_empty
from saccade.pipeline.segmentation.config import (
    ObjectsConfig,
    SegmentationConfig,
    SegmentationNetworkConfig,
    SegmentationTilesConfig,
    SegmentationTrainingConfig,
)
from saccade.pipeline.segmentation.first_weights import card_of, fresh_network
from saccade.pipeline.segmentation.fit import make_bench, train_epoch, validate
from saccade.pipeline.segmentation.model_file import load_segmentation_model
from saccade.pipeline.segmentation.train import train_segmentation
from saccade.pipeline.sheet import SheetRow
from tests.drawn_discs import write_discs

NETWORK = SegmentationNetworkConfig("fcn:test_resnet", {"finest": 2})


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[SheetRow]:
    return write_discs(tmp_path_factory.mktemp("discs"))


def config_of(slides: list[SheetRow], **training: Any) -> SegmentationConfig:
    folder = Path(str(slides[0].path)).parent
    settings = {"epochs": 2, "batch": 4, "learning_rate": 1e-2, "schedule": "constant"}
    return SegmentationConfig(
        annotations=AnnotationsConfig(folder=str(folder), classes=("background", "disc")),
        tiles=SegmentationTilesConfig(size_px=48, per_epoch=8),
        network=NETWORK,
        objects=ObjectsConfig(rim_um=1.0),
        augment=AugmentConfig(tile_stain=0.0),
        training=SegmentationTrainingConfig(**settings | {"warmup_epochs": 0} | training),
    )


@pytest.fixture(scope="module")
def finished(
    slides: list[SheetRow], tmp_path_factory: pytest.TempPathFactory, one_thread: None
) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    train_segmentation(config_of(slides), slides, folder)
    return folder


def test_a_run_that_was_cut_off_ends_the_same(
    slides: list[SheetRow], finished: Path, tmp_path: Path
) -> None:
    """A constant rate: the first epoch of two is that of one."""
    first, both = config_of(slides, epochs=1), config_of(slides)
    train_segmentation(first, slides, tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    state["inputs"] = state["inputs"].replace('"epochs": 1', '"epochs": 2')
    torch.save(state, tmp_path / "checkpoint.pt")

    result = train_segmentation(both, slides, tmp_path)

    assert [line["epoch"] for line in result.history] == [1, 2]
    for name in ("model.safetensors", "last.safetensors", "metrics.jsonl"):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes(), name


def test_the_file_is_of_the_best_epoch_and_says_how_good_it_was(
    slides: list[SheetRow], finished: Path
) -> None:
    _, card = load_segmentation_model(finished / "model.safetensors")
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    best = min(lines, key=lambda line: line["val"]["loss"])

    assert {key: card.training[key] for key in best} == best
    assert card.training["annotations"] == "instances"
    assert (card.classes, card.instances, card.rim) == (
        ("background", "disc", "rim"),
        "disc",
        "rim",
    )
    assert (card.mpp, card.tile_px) == (0.5, 48)
    record = json.loads((finished / "record.json").read_text())
    assert record["step"] == "train segmentation"
    assert record["inputs"]["train"] == ["d0", "d1", "d2"]
    assert "folder" not in record["inputs"]["config"]["annotations"]


def test_another_run_is_not_written_over(slides: list[SheetRow], finished: Path) -> None:
    with pytest.raises(ResultsError, match="other settings, slides or code"):
        train_segmentation(config_of(slides, seed=1), slides, finished)


def test_classes_are_turned_with_their_pixels(slides: list[SheetRow]) -> None:
    """Discs are dark, so that the pixels themselves say what is wanted."""
    config = dataclasses.replace(config_of(slides), objects=ObjectsConfig())
    loaded = load_annotated(slides, config)
    aims = [Aim(i % 3, None, (5 * i, 3 * i)) for i in range(10)]
    with TileReader(size_px=48, mpp=0.5, workers=2) as reader:
        source = TileSource(loaded.train, config, reader)
        shown, plain = (list(drop_empty(source.batches(aims, epoch=epoch))) for epoch in (0, None))

    turned = 0
    for batch, other in zip(shown, plain, strict=True):
        assert torch.equal(batch.pixels.float().mean(dim=1) < 150, batch.classes == 1)
        turned += int((batch.classes != other.classes).any(dim=2).any(dim=1).sum())
    assert sum(len(batch.pixels) for batch in shown) == len(aims)
    assert turned > len(aims) // 2


def test_tiles_that_cannot_be_read_cost_nobody_else(slides: list[SheetRow], tmp_path: Path) -> None:
    broken = tmp_path / "d1.png"
    broken.write_bytes(Path(str(slides[1].path)).read_bytes())
    rows = [slides[0], dataclasses.replace(slides[1], path=broken)]
    config = config_of(slides)
    loaded = load_annotated(rows, config)
    broken.write_bytes(b"no slide any more")
    aims = [Aim(i, None, (0, 0)) for i in (0, 1, 0, 0, 1, 1, 1, 1)]  # two batches
    with TileReader(size_px=48, mpp=0.5, workers=2) as reader:
        source = TileSource(loaded.train, config, reader)
        sizes = [None if each is None else len(each.pixels) for each in source.batches(aims)]

    assert sizes == [3, None]
    assert list(source.failures) == ["d1"]


def test_slides_without_annotations_are_named_and_left_out(
    slides: list[SheetRow], tmp_path: Path
) -> None:
    rows = [*slides, dataclasses.replace(slides[0], slide="other")]

    loaded = load_annotated(rows, config_of(slides))

    assert len(loaded.train) == 3
    assert "wanted other_instances.png" in loaded.failures["other"]
    with pytest.raises(SheetError, match="training wants slides with split `train`"):
        load_annotated([rows[-1]], config_of(slides))


@pytest.mark.parametrize(("most", "wanted"), [(9, 4), (4, 4), (3, 3), (1, 1)])
def test_validation_looks_at_tiles_side_by_side(
    most: int, wanted: int, slides: list[SheetRow]
) -> None:
    (slide,) = load_annotated(slides, config_of(slides)).val

    corners = [aim.corner_l0 for aim in grid_of(0, slide, most)]

    assert len(corners) == wanted
    assert set(corners) <= {(0, 0), (48, 0), (0, 48), (48, 48)}
    assert len(set(corners)) == wanted


@pytest.mark.parametrize("finetune", ["all", "last_block", "frozen"])
def test_what_is_frozen_stays(slides: list[SheetRow], finetune: Any) -> None:
    config = config_of(slides, finetune=finetune)
    loaded = load_annotated(slides, config)
    network = fresh_network(config)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    bench = make_bench(config, card_of(config), network, loaded.train)
    with TileReader(size_px=48, mpp=0.5, workers=1) as reader:
        for epoch in range(2):  # scores are zero at first, and hold back the trunk's gradient
            train_epoch(bench, TileSource(loaded.train, config, reader), epoch)

    moved = {n for n, value in network.state_dict().items() if not value.equal(before[n])}
    in_trunk = {name for name in moved if name.startswith("trunk.")}
    assert moved - in_trunk
    if finetune == "all":
        assert "trunk.conv1.weight" in in_trunk or any("conv1" in name for name in in_trunk)
    else:
        assert bool(in_trunk) == (finetune == "last_block")
        assert all("layer4" in name for name in in_trunk)


def test_the_rim_counts_as_its_class_in_validation(slides: list[SheetRow]) -> None:
    """A network that is sure of the rim wherever it sees a disc is right everywhere."""

    class Dark(torch.nn.Module):
        stride, trunk = 1, torch.nn.Identity()

        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.tensor(20.0))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            dark = 2 * (pixels.float().mean(dim=1) < 150) - 1
            return torch.stack([-dark, 0.1 * dark, dark], dim=1) * self.gain

    config = config_of(slides)
    loaded = load_annotated(slides, config)
    bench = make_bench(config, card_of(config), Dark(), loaded.train)
    with TileReader(size_px=48, mpp=0.5, workers=1) as reader:
        found = validate(bench, TileSource(loaded.val, config, reader))
        nothing = validate(bench, TileSource([], config, reader))

    assert (found["mean_iu"], found["pixel_accuracy"]) == (1.0, 1.0)
    assert found["loss"] > 0.1  # it still takes discs for rims
    assert nothing == {}


def test_balanced_weights_are_the_inverse_of_shares(slides: list[SheetRow]) -> None:
    config = config_of(slides, class_weights="balanced")
    loaded = load_annotated(slides, config)
    bench = make_bench(config, card_of(config), fresh_network(config), loaded.train)
    pixels = np.array([slide.cells.counts.sum(axis=(0, 1)) for slide in loaded.train]).sum(axis=0)

    assert bench.weights is not None
    weights = bench.weights.numpy()
    assert weights[:2].mean() == pytest.approx(1)
    assert weights[0] * pixels[0] == pytest.approx(weights[1] * pixels[1], rel=1e-5)
    assert weights[2] == 1


def test_a_run_begins_from_a_model_or_from_a_trunk(
    slides: list[SheetRow], finished: Path, tmp_path: Path
) -> None:
    config = config_of(slides)
    trained, _ = load_segmentation_model(finished / "model.safetensors")
    weights = trained.state_dict()
    trunk = {n.removeprefix("trunk."): v for n, v in weights.items() if n.startswith("trunk.")}
    torch.save(trunk | {"fc.weight": torch.zeros(1)}, tmp_path / "trunk.pt")

    def begun(path: Path, options: dict[str, Any]) -> dict[str, Any]:
        network = dataclasses.replace(NETWORK, options=options, weights=str(path))
        return fresh_network(dataclasses.replace(config, network=network)).state_dict()

    same = begun(finished / "model.safetensors", {"finest": 2})
    assert all(torch.equal(same[name], value) for name, value in weights.items())
    for path in (finished / "model.safetensors", tmp_path / "trunk.pt"):
        other = begun(path, {"finest": 8})  # another network on the same trunk
        assert all(torch.equal(other[f"trunk.{name}"], value) for name, value in trunk.items())


def test_weights_of_another_network_are_refused(slides: list[SheetRow], tmp_path: Path) -> None:
    def begin(**network: Any) -> None:
        changed = dataclasses.replace(NETWORK, **network)
        fresh_network(dataclasses.replace(config_of(slides), network=changed))

    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="holds neither this network nor its trunk"):
        begin(weights=str(tmp_path / "other.pt"))
    with pytest.raises(ModelFileError, match="there is no such file"):
        begin(weights=str(tmp_path / "none.pt"))
    with pytest.raises(ConfigError, match=r"network\.name: there is no network 'unet'"):
        begin(name="unet")


def test_label_images_of_several_classes_are_learned_from(
    slides: list[SheetRow], tmp_path: Path
) -> None:
    for row in slides:
        numbers = np.asarray(Image.open(str(row.path).replace(".png", "_instances.png")))
        Image.fromarray((numbers % 3).astype(np.uint8)).save(tmp_path / f"{row.slide}_labels.png")
    annotations = AnnotationsConfig(kind="labels", folder=str(tmp_path), classes=("b", "c", "d"))
    config = dataclasses.replace(
        config_of(slides, epochs=1), annotations=annotations, objects=ObjectsConfig()
    )

    result = train_segmentation(config, slides, tmp_path / "run")

    _, card = load_segmentation_model(result.model)
    assert (card.classes, card.instances) == (("b", "c", "d"), None)
