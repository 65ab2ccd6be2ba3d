"""One file that holds everything needed to predict: weights, and what they are weights of.

The file is safetensors: a JSON header and plain numbers, so that loading executes nothing. The
header's metadata carries the networks' names, the task, and the scales of view and tiles.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import saccade
from saccade.models.attention_sampling import AttentionSampling
from saccade.models.build import build_model
from saccade.pipeline.calibration import UNCALIBRATED, Calibration
from saccade.pipeline.config import ModelConfig, RunConfig, TilesConfig, ViewConfig
from saccade.pipeline.errors import ConfigError, ModelFileError
from saccade.pipeline.tasks.choose import described, task_of
from saccade.pipeline.tasks.task import Task
from saccade.pipeline.weights_file import load_network, read_header, read_weights, write_weights

_FORMAT = "saccade-attention-sampling"
_FORMAT_VERSION = 2  # 1 had classes and no other task; it is still read


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a model is, apart from its weights.

    Attributes:
        task: what the outputs mean.
        view: scale of the glance.
        tiles: number, size and scale of the tiles.
        model: the networks.
        finest_mpp: of the thumbnails the view is made from.
        code: version of Saccade that wrote it.
        training: what is worth knowing of the training: epoch, validation metrics, data.
        temperature: that the model's outputs are divided by before they are read as
            probabilities.
        calibration: where the temperature comes from, in words.
    """

    task: Task
    view: ViewConfig
    tiles: TilesConfig
    model: ModelConfig
    finest_mpp: float
    code: str = saccade.__version__
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    temperature: float = 1.0
    calibration: str = UNCALIBRATED.reason

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be positive and finite, got {self.temperature}.")

    @classmethod
    def of(
        cls,
        config: RunConfig,
        task: Task,
        training: Mapping[str, Any] | None = None,
        calibration: Calibration = UNCALIBRATED,
    ) -> ModelCard:
        """Card of a model trained with `config`."""
        # Where the encoder's first weights came from no longer matters: the file holds its own.
        model = dataclasses.replace(config.model, pretrained=False, weights=None)
        return cls(
            task=task,
            view=config.view,
            tiles=config.tiles,
            model=model,
            finest_mpp=config.pyramid.finest_mpp,
            training=training or {},
            temperature=calibration.temperature,
            calibration=calibration.reason,
        )

    def build(self) -> AttentionSampling:
        """The networks, with fresh weights."""
        return build_model(
            attention=self.model.attention,
            density_gain=self.model.density_gain,
            encoder=self.model.encoder,
            attention_module=self.model.attention_module,
            spatial_transformer=self.model.spatial_transformer,
            transformer_px=self.model.transformer_px,
            classes=len(self.task.names),
            smooth=self.model.smooth,
            unit_features=self.model.unit_features,
        )


def save_model(path: Path, weights: Mapping[str, Tensor], card: ModelCard) -> None:
    """Write the model file, `weights` being a state_dict; it appears whole or not at all."""
    header = {"format": _FORMAT, "version": _FORMAT_VERSION, **dataclasses.asdict(card)}
    header["task"] = described(card.task)
    write_weights(path, weights, header)


def load_model(path: Path, device: str = "cpu") -> tuple[AttentionSampling, ModelCard]:
    """Read a model file; the model is in evaluation mode.

    Raises:
        ModelFileError: if the file is missing, is no model of Saccade's, or is of a newer format.
    """
    card = read_card(path)
    model = load_network(path, card.build, name="networks")
    # Tiles come with their channels last: so laid out, weights need no copy of them.
    return model.to(device).to(memory_format=torch.channels_last).eval(), card


def read_card(path: Path) -> ModelCard:
    """Read what a model file says of itself.

    Raises:
        ModelFileError: if the file is missing, is no model of Saccade's, or is of a newer format.
    """
    wanted = "a model that `saccade train` wrote, its model.safetensors"
    header = read_header(path, kind=_FORMAT, newest=_FORMAT_VERSION, wanted=wanted)
    return _card(path.name, header)


def weights_hash(path: Path) -> str:
    """`sha256:...` of the model file's bytes.

    Raises:
        ModelFileError: if the file is missing.
    """
    if not path.is_file():
        raise ModelFileError(
            f"{path}: there is no such file; wanted a model that `saccade train` wrote."
        )
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def load_encoder_weights(path: Path) -> dict[str, Tensor]:
    """Read encoder weights: .safetensors, or a .pt/.bin file of plain tensors.

    Raises:
        ModelFileError: if the file is missing, or holds anything but named tensors; such a file
            is refused unexecuted.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: there is no such file; wanted local encoder weights.")
    try:
        if path.suffix == ".safetensors":
            return read_weights(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises pickle, zip and runtime errors alike for bad files
        reason = str(error).splitlines()[0]
        raise ModelFileError(f"{path.name}: cannot be read as weights ({reason}).") from error
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise ModelFileError(f"{path.name}: holds no plain dictionary of tensors (a state_dict).")
    return weights


def _card(name: str, header: dict[str, Any]) -> ModelCard:
    try:
        return ModelCard(
            task=task_of(header),
            view=ViewConfig(**header["view"]),
            tiles=TilesConfig(**header["tiles"]),
            model=ModelConfig(**header["model"]),
            finest_mpp=float(header["finest_mpp"]),
            code=str(header["code"]),
            training=dict(header["training"]),
            # Files of before there was any calibration.
            temperature=float(header.get("temperature", 1.0)),
            calibration=str(header.get("calibration", UNCALIBRATED.reason)),
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise ModelFileError(
            f"{name}: its description is incomplete or damaged ({error})."
        ) from error
