"""The network of a saliency run: its first weights, and what its file says of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from saccade.models.saliency import MSINet
from saccade.models.saliency_weights import encoder_from_vgg16
from saccade.models.vgg16 import VGG16_DEPTHS
from saccade.pipeline.errors import ConfigError
from saccade.pipeline.model_file import load_encoder_weights
from saccade.pipeline.saliency.config import NetworkConfig
from saccade.pipeline.saliency_model import SaliencyCard, load_saliency_model
from saccade.pipeline.seeds import seed_for

_WIDER = (1, 2, 4, 8, 8)  # each block of a VGG16, in widths of the first


def card_of(
    network: NetworkConfig, *, mpp: float | None, training: Mapping[str, Any] | None = None
) -> SaliencyCard:
    """What the file of such a network says.

    Args:
        network: its settings; 64 channels and 3 convolutions are the paper's.
        mpp: micrometres per pixel of its views; None for pictures without a scale.
        training: what is worth knowing of the training.
    """
    width, most = network.width, network.convolutions
    return SaliencyCard(
        mpp=mpp,
        widths=tuple(width * wider for wider in _WIDER),
        depths=tuple(min(depth, most) for depth in VGG16_DEPTHS),
        context_width=4 * width,
        decoder_widths=(2 * width, width, width // 2),
        training=training or {},
    )


def fresh_network(network: NetworkConfig, *, seed: int) -> MSINet:
    """The network with the weights that training begins from.

    Raises:
        ModelFileError: if the file of weights cannot be read.
        ConfigError: if it holds weights of another network.
    """
    torch.manual_seed(seed_for("initialisation", seed))
    card = card_of(network, mpp=None)
    if network.weights:
        model, found = load_saliency_model(Path(network.weights))
        if (found.widths, found.depths) != (card.widths, card.depths):
            raise ConfigError(
                f"network.weights: {network.weights} has blocks of {found.widths} channels and "
                f"{found.depths} convolutions; the settings ask for {card.widths} and "
                f"{card.depths}."
            )
        return model
    model = card.build()
    if network.vgg16:
        try:
            weights = encoder_from_vgg16(load_encoder_weights(Path(network.vgg16)))
        except ValueError as error:
            raise ConfigError(f"network.vgg16: {network.vgg16}: {error}") from error
        model.load_state_dict(weights, strict=False)
    return model
