"""The network of a segmentation run: its first weights, and what its file says of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.pipeline.errors import ConfigError
from saccade.pipeline.model_file import load_encoder_weights
from saccade.pipeline.seeds import seed_for
from saccade.pipeline.segmentation.config import RIM, SegmentationConfig
from saccade.pipeline.segmentation.model_file import SegmentationCard
from saccade.pipeline.segmentation.network import as_segmenter

# Where the trunk lies in models that Saccade writes.
_OF_A_MODEL = ("", "trunk.", "network.encoder.", "network.encoder.model.", "encoder.trunk.")


def card_of(
    config: SegmentationConfig, training: Mapping[str, Any] | None = None
) -> SegmentationCard:
    """What the file of a run's model says."""
    return SegmentationCard(
        mpp=config.tiles.mpp,
        classes=config.classes,
        network=config.network.name,
        options=config.network.options,
        tile_px=config.tiles.size_px,
        instances=config.instances,
        rim=RIM if config.objects.rim_um else None,
        training=training or {},
    )


def fresh_network(config: SegmentationConfig) -> nn.Module:
    """The network with the weights that training begins from.

    Raises:
        ConfigError: if there is no such network, or the file holds weights of another one.
        ModelFileError: if the file of weights cannot be read.
    """
    torch.manual_seed(seed_for("initialisation", config.training.seed))
    try:
        network = card_of(config).build()
    except (ImportError, ValueError) as error:
        raise ConfigError(f"network.name: {error}") from error
    if config.network.weights:
        path = Path(config.network.weights)
        _give(network, load_encoder_weights(path), f"network.weights: {path}")
    return network


def _give(network: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Give a network all of its weights, or its trunk those of a trunk."""
    if _fits(network, weights):
        network.load_state_dict(dict(weights))
        return
    trunk = as_segmenter(network).trunk
    # timm names the stages of a trunk `stages_0` where the model's are `stages.0`.
    own = {name.replace(".", "_"): name for name in trunk.state_dict()}
    for prefix in _OF_A_MODEL:
        found = {
            own[flat]: value
            for name, value in weights.items()
            if name.startswith(prefix)
            and (flat := name.removeprefix(prefix).replace(".", "_")) in own
        }
        if _fits(trunk, found):
            trunk.load_state_dict(found)
            return
    missing = [
        name for flat, name in own.items() if flat not in {n.replace(".", "_") for n in weights}
    ]
    lacking = f", such as {missing[0]!r}" if missing else " in their shapes"
    raise ConfigError(
        f"{what} holds neither this network nor its trunk: {len(missing)} of {len(own)} weights "
        f"are missing{lacking}."
    )


def _fits(module: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Whether weights are all that a module has, and of these shapes."""
    own = {name: value.shape for name, value in module.state_dict().items()}
    return own == {name: value.shape for name, value in weights.items()}
