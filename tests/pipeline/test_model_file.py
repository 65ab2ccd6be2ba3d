import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import saccade
from saccade.pipeline.config import ModelConfig, RunConfig
from saccade.pipeline.errors import ModelFileError
from saccade.pipeline.model_file import (
    ModelCard,
    load_encoder_weights,
    load_model,
    read_card,
    weights_hash,
)
from saccade.pipeline.tasks.classes import Classes
from tests.cohort import TINY


@pytest.fixture
def model(trained: Path) -> Path:
    return trained / "model.safetensors"


def header_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        header: dict[str, Any] = json.loads(file.metadata()["saccade"])
    return header


def with_header(original: Path, path: Path, **changes: Any) -> Path:
    header = {**header_of(original), **changes}
    kept = {key: value for key, value in header.items() if value is not None}
    save_file(load_file(original), path, metadata={"saccade": json.dumps(kept)})
    return path


def test_the_file_says_everything_that_prediction_needs(model: Path) -> None:
    card = read_card(model)

    assert card.task == Classes(("a", "b"))
    assert (card.view, card.tiles, card.finest_mpp) == (TINY.view, TINY.tiles, 4.0)
    assert card.model == TINY.model
    assert card.code == saccade.__version__
    assert card.training["epoch"] in (1, 2)


FRESH = """
import sys, torch
from pathlib import Path
from saccade.pipeline.model_file import load_model
torch.set_num_threads(1)
model, _ = load_model(Path(sys.argv[1]))
dice = torch.Generator().manual_seed(0)
log_probs = model.attend(torch.rand(1, 3, 20, 30, generator=dice))
tiles = torch.rand(1, 3, 3, 32, 32, generator=dice)
torch.save([log_probs, model.classify(tiles, log_probs[:, :3])], sys.argv[2])
"""


def test_a_fresh_process_computes_the_same(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FRESH, str(model), str(tmp_path / "fresh.pt")]
    subprocess.run(command, check=True)
    loaded, _ = load_model(model)
    dice = torch.Generator().manual_seed(0)

    log_probs = loaded.attend(torch.rand(1, 3, 20, 30, generator=dice))
    logits = loaded.classify(torch.rand(1, 3, 3, 32, 32, generator=dice), log_probs[:, :3])
    there = torch.load(tmp_path / "fresh.pt", weights_only=True)
    assert torch.equal(there[0], log_probs)
    assert torch.equal(there[1], logits)


def test_loaded_for_evaluation(model: Path) -> None:
    assert not load_model(model)[0].training


def test_the_hash_is_of_the_content(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "another name.safetensors"
    copy.write_bytes(model.read_bytes())

    assert weights_hash(copy) == weights_hash(model)
    copy.write_bytes(model.read_bytes()[:-1] + b"\x01")
    assert weights_hash(copy) != weights_hash(model)


@pytest.mark.parametrize("first", [{"weights": "encoder.pt"}, {"pretrained": True}])
def test_where_the_first_weights_came_from_is_forgotten(first: dict[str, Any]) -> None:
    """Else a model could be loaded only where the encoder's weights lie."""
    config = RunConfig(model=ModelConfig(encoder="timm:resnet10t", **first))
    card = ModelCard.of(config, Classes(("a", "b")))

    assert card.model == ModelConfig(encoder="timm:resnet10t")


def refused(path: Path, match: str) -> None:
    with pytest.raises(ModelFileError, match=match) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.safetensors", "no such file")


@pytest.mark.parametrize("size", [0, 7, 100, 5000])
def test_a_cut_file_is_refused(model: Path, tmp_path: Path, size: int) -> None:
    (tmp_path / "cut.safetensors").write_bytes(model.read_bytes()[:size])
    refused(tmp_path / "cut.safetensors", "cut.safetensors: is not a model")


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    refused(tmp_path / "foreign.safetensors", "is not a model")
    (tmp_path / "text.safetensors").write_text("hello\n" * 100)
    refused(tmp_path / "text.safetensors", "is not a model")


def test_the_temperature_travels_and_older_files_have_none(model: Path, tmp_path: Path) -> None:
    warm = with_header(model, tmp_path / "warm.safetensors", temperature=2.5, calibration="why")
    old = with_header(model, tmp_path / "old.safetensors", temperature=None, calibration=None)

    assert (read_card(warm).temperature, read_card(warm).calibration) == (2.5, "why")
    assert read_card(old).temperature == 1
    for impossible in (0.0, -1.0, "hot"):
        path = with_header(model, tmp_path / "m.safetensors", temperature=impossible)
        refused(path, "incomplete or damaged")


def test_files_of_before_there_were_tasks_name_their_classes(model: Path, tmp_path: Path) -> None:
    old = with_header(model, tmp_path / "m.safetensors", version=1, task=None, classes=["a", "b"])

    assert load_model(old)[1].task == Classes(("a", "b"))


def test_a_newer_format_is_refused(model: Path, tmp_path: Path) -> None:
    refused(with_header(model, tmp_path / "m.safetensors", version=99), "format 99.*upgrade")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"task": None}, "incomplete or damaged"),
        ({"task": {"kind": "prophecy"}}, "incomplete or damaged"),
        ({"task": {"kind": "classes"}}, "incomplete or damaged"),
        ({"view": {"mpp": -1}}, "view.mpp must be positive"),
        ({"tiles": {"colour": 3}}, "incomplete or damaged"),
        ({"task": {"kind": "classes", "names": ["a", "b", "c"]}}, "do not fit"),
        ({"model": {"attention": "paper"}}, "do not fit"),
        ({"model": {"attention": "telescope"}}, "telescope"),
        ({"version": "new"}, "is not a model"),
        ({"format": "abmil"}, "is not a model"),
    ],
)
def test_a_damaged_description_is_refused(
    model: Path, tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    refused(with_header(model, tmp_path / "m.safetensors", **changes), match)


def test_a_description_that_is_no_mapping_is_refused(model: Path, tmp_path: Path) -> None:
    save_file(load_file(model), tmp_path / "m.safetensors", metadata={"saccade": "[1]"})
    refused(tmp_path / "m.safetensors", "is not a model")


def test_encoder_weights_are_plain_tensors(tmp_path: Path) -> None:
    state = {"w": torch.arange(3.0)}
    torch.save(state, tmp_path / "w.pt")
    save_file(state, tmp_path / "w.safetensors")
    for name in ("w.pt", "w.safetensors"):
        assert load_encoder_weights(tmp_path / name)["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}])
def test_encoder_weights_of_another_kind_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelFileError, match="no plain dictionary"):
        load_encoder_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.safetensors"])
def test_damaged_encoder_weights_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        load_encoder_weights(tmp_path / name)
    (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(ModelFileError, match="cannot be read as weights"):
        load_encoder_weights(tmp_path / name)
