"""A saliency model is one file; any other file is refused, saying what was wanted."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from saccade.models.saliency import MSINet
from saccade.pipeline.errors import ModelFileError
from saccade.pipeline.model_file import read_card
from saccade.pipeline.saliency_model import (
    SaliencyCard,
    load_saliency_model,
    read_saliency_card,
    save_saliency_model,
)

CARD = SaliencyCard(
    mpp=8.0,
    widths=(2, 3, 4, 4, 4),
    depths=(1, 1, 2, 2, 1),
    context_width=3,
    decoder_widths=(4, 3, 2),
    training={"epoch": 3},
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_saliency_model(tmp_path / "model.safetensors", CARD.build().state_dict(), CARD)
    return tmp_path / "model.safetensors"


def test_the_file_says_all_and_computes_the_same(model: Path) -> None:
    loaded, card = load_saliency_model(model)
    torch.manual_seed(0)
    saved = CARD.build()
    view = torch.rand(1, 3, 20, 24) * 255

    assert card == CARD
    assert not loaded.training
    assert torch.equal(loaded(view), saved(view))


def test_the_card_of_a_plain_model_builds_the_published_network() -> None:
    with torch.device("meta"):
        shapes, wanted = (
            {name: value.shape for name, value in each.state_dict().items()}
            for each in (SaliencyCard(mpp=None).build(), MSINet())
        )
    assert shapes == wanted


def test_pictures_without_a_scale_stay_without(model: Path, tmp_path: Path) -> None:
    card = dataclasses.replace(CARD, mpp=None)
    save_saliency_model(tmp_path / "other.safetensors", load_file(model), card)

    assert read_saliency_card(tmp_path / "other.safetensors").mpp is None


def test_a_scale_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="mpp must be positive"):
        SaliencyCard(mpp=0.0)


def test_what_is_no_saliency_model_is_refused(model: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is not a saliency model"):
        read_saliency_card(trained / "model.safetensors")
    with pytest.raises(ModelFileError, match="no such file; wanted a saliency model"):
        read_saliency_card(tmp_path / "none.safetensors")
    with pytest.raises(ModelFileError, match="is not a model that `saccade train` wrote"):
        read_card(model)


def test_weights_of_another_network_are_refused(model: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(CARD, context_width=4)
    save_saliency_model(tmp_path / "other.safetensors", load_file(model), other)

    with pytest.raises(ModelFileError, match="do not fit its network"):
        load_saliency_model(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("change", "message"), [({"version": 2}, "upgrade Saccade"), ({"widths": 3}, "damaged")]
)
def test_newer_and_damaged_descriptions_are_refused(
    model: Path, change: dict[str, int], message: str
) -> None:
    header = {"format": "saccade-saliency", "version": 1, **dataclasses.asdict(CARD)} | change
    save_file(load_file(model), model, metadata={"saccade": json.dumps(header)})

    with pytest.raises(ModelFileError, match=message):
        read_saliency_card(model)
