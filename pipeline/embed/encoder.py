"""The network that makes features, and the tiles that it wants."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.models.encoders import Encoder, build_encoder
from saccade.pipeline.config import TilesConfig
from saccade.pipeline.errors import ConfigError, DivergedError, ModelFileError
from saccade.pipeline.model_file import (
    ModelCard,
    load_encoder_weights,
    load_model,
    read_card,
    weights_hash,
)
from saccade.tiling.hashing import file_hash

_HUB = ("hf-hub:", "hf_hub:")
_OWN = ("compact", "paper", "residual_attention")


def parsed_options(texts: Sequence[str]) -> dict[str, Any]:
    """Options of an encoder from KEY=VALUE, values as Python writes them; anything else is text.

    Raises:
        ConfigError: if a text is no such pair.

    >>> parsed_options(["init_values=1e-5", "dynamic_img_size=True", "global_pool=avg"])
    {'init_values': 1e-05, 'dynamic_img_size': True, 'global_pool': 'avg'}
    """
    pairs = [text.partition("=") for text in texts]
    for key, equals, value in pairs:
        if not (key and equals and value):
            raise ConfigError(
                f"an option of an encoder is KEY=VALUE, got {key + equals + value!r}."
            )
    return {key: _literal(value) for key, _, value in pairs}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)  # numbers, texts and lists of these; executes nothing
    except (ValueError, SyntaxError):
        return text


@dataclass(frozen=True, slots=True)
class TileEncoder:
    """A network, ready to run.

    Attributes:
        network: maps tiles uint8 (n, 3, side, side) on `device` to features (n, dims).
        device: that the network is on.
        about: what to know of the features: encoder, hash of its weights, mean and std of pixels.
        dims: length of a row of features.
    """

    network: Callable[[Tensor], Tensor]
    device: str
    about: Mapping[str, Any]
    dims: int = 0

    @torch.inference_mode()
    def encode(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (n, dims) of tiles (n, side, side, 3).

        Raises:
            DivergedError: if a feature is not a finite number.
        """
        batch = torch.from_numpy(tiles).permute(0, 3, 1, 2).to(self.device)
        features: NDArray[np.float32] = self.network(batch).float().cpu().numpy()
        if not np.isfinite(features).all():
            raise DivergedError(
                f"{self.about['encoder']}: the encoder makes features that are not numbers; look "
                "at where its weights come from."
            )
        return features


@dataclass(frozen=True)
class EncoderChoice:
    """Which network, and which tiles: those of a trained model, or by name.

    Attributes:
        model: that `saccade train` wrote; its encoder, and tiles as it was trained on.
        name: of an encoder instead: any of timm, or one of `_OWN`.
        weights: of the encoder by name, a local file; untrained if None, but for `hf-hub:` names,
            whose weights timm fetches.
        options: of the encoder by name, as `timm.create_model` takes them.
        tile_px: side of a tile for the encoder by name.
        tile_mpp: micrometres per pixel of these tiles.

    Raises:
        ConfigError: if it is not one or the other, or not all of it is said.
    """

    model: Path | None = None
    name: str | None = None
    weights: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    tile_px: int | None = None
    tile_mpp: float | None = None

    def __post_init__(self) -> None:
        if (self.model is None) == (self.name is None):
            raise ConfigError("say which network makes the features: either --model or --encoder.")
        if self.name is not None and (self.tile_px is None or self.tile_mpp is None):
            raise ConfigError(
                f"the encoder {self.name} comes without tiles: say how large they are, and at "
                "which scale, such as --tile-px 224 --tile-mpp 0.5."
            )
        given = self.weights, self.options, self.tile_px, self.tile_mpp
        if self.model is not None and any(given):
            raise ConfigError(
                "a trained model knows its weights and its tiles: leave --weights, "
                "--encoder-option, --tile-px and --tile-mpp out, or name an --encoder instead."
            )

    @property
    def untrained(self) -> bool:
        """Whether the network has seen nothing yet."""
        if self.name is None or self.weights is not None:
            return False
        return not self.name.removeprefix("timm:").startswith(_HUB)

    @cached_property
    def card(self) -> ModelCard | None:
        """Of the trained model, if it is one."""
        return None if self.model is None else read_card(self.model)

    @cached_property
    def tiles(self) -> TilesConfig:
        """Size, scale and fit of the tiles that the network wants."""
        if self.card is not None:
            return self.card.tiles
        assert self.tile_px is not None
        assert self.tile_mpp is not None
        return TilesConfig(size_px=self.tile_px, mpp=self.tile_mpp)

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """What features depend on."""
        size = {"tile_px": self.tiles.size_px, "tile_mpp": self.tiles.mpp}
        if self.model is not None:
            return {"encoder": "model", "weights": weights_hash(self.model), **size}
        return {
            "encoder": self._full_name,
            "options": dict(self.options),
            "weights": self._weights_hash,
            **size,
        }

    @property
    def _weights_hash(self) -> str:
        if self.weights is None:
            return "untrained" if self.untrained else "of the hub"
        if not self.weights.is_file():
            raise ModelFileError(
                f"{self.weights}: there is no such file; wanted weights of {self.name}, "
                ".safetensors."
            )
        return file_hash(self.weights)

    @property
    def _full_name(self) -> str:
        assert self.name is not None
        known = self.name in _OWN or self.name.startswith("timm:")
        return self.name if known else f"timm:{self.name}"

    def load(self, device: str) -> TileEncoder:
        """The network, in evaluation mode.

        Raises:
            ModelFileError: if a file cannot be read.
            ConfigError: if there is no encoder of that name, its weights are of another, or it
                does not take tiles of that size.
            DivergedError: if it makes features that are not numbers.
        """
        if self.model is not None:
            model, card = load_model(self.model, device)
            return self._ready(
                lambda tiles: model.encode(tiles[None])[0],
                model.encoder,
                {
                    "encoder": card.model.encoder,
                    "unit_length": card.model.unit_features,
                    "spatial_transformer": card.model.spatial_transformer,
                },
                device,
            )
        encoder = self._build().to(device).to(memory_format=torch.channels_last).eval()
        return self._ready(encoder, encoder, {"encoder": self._full_name}, device)

    def _build(self) -> Encoder:
        weights = None if self.weights is None else load_encoder_weights(self.weights)
        fetched = weights is None and not self.untrained
        try:
            # An untrained network, too, has to be the same one for each slide of a cohort.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return build_encoder(
                    self._full_name, pretrained=fetched, state_dict=weights, **self.options
                )
        except (ValueError, TypeError) as error:  # unknown names, weights of another, odd options
            raise ConfigError(str(error)) from error

    def _ready(
        self,
        network: Callable[[Tensor], Tensor],
        encoder: Encoder,
        about: Mapping[str, Any],
        device: str,
    ) -> TileEncoder:
        """Try the network on one black tile, and say what it is."""
        side, (mean, std) = self.tiles.size_px, (encoder.mean, encoder.std)
        facts = {
            **about,
            "weights": self.inputs["weights"],
            "pixel_mean": _plain(mean),
            "pixel_std": _plain(std),
            "mpp": self.tiles.mpp,
        }
        made = TileEncoder(network, device, facts)
        try:
            dims = made.encode(np.zeros((1, side, side, 3), np.uint8)).shape[1]
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"{about['encoder']}: does not take tiles of {side} px ({reason})."
            ) from error
        return replace(made, dims=dims)


def _plain(numbers: Tensor) -> list[float]:
    """Numbers as they were written before they became float32."""
    return [round(number, 6) for number in numbers.tolist()]
