"""Weights of others for MSI-Net: a VGG16's for its encoder, and the published checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from saccade.models.saliency import PUBLISHED_MEANS, MSINet

# Where torchvision and timm, which agree, keep the convolutions of each block of a VGG16.
_VGG16_LAYERS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
# Mean and standard deviation of the pixels in [0, 1] that those were trained on.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def encoder_from_vgg16(vgg16: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of an MSI-Net's state dict that a VGG16 of torchvision or timm has.

    Load it with `strict=False`. It brings the scale of the pixels along, since these networks saw
    other pixels than the VGG16 that the paper began from; MSI-Net's own input stays 0 to 255.

    Args:
        vgg16: state dict; its classifier is left out.

    Raises:
        ValueError: if there is no VGG16 in it.
    """
    found = {
        "standardise.mean": 255 * torch.tensor(_IMAGENET_MEAN),
        "standardise.std": 255 * torch.tensor(_IMAGENET_STD),
    }
    for block, layers in enumerate(_VGG16_LAYERS):
        for place, layer in enumerate(layers):
            for kind in ("weight", "bias"):
                name = f"features.{layer}.{kind}"
                if name not in vgg16:
                    raise ValueError(
                        f"wanted the state dict of a VGG16 of torchvision or timm, without batch "
                        f"normalisation; it has no {name}."
                    )
                found[f"encoder.{block}.{place}.{kind}"] = vgg16[name]
    _require_shapes(found)
    return found


def from_tensorflow(variables: Mapping[str, Any]) -> dict[str, Tensor]:
    """State dict of an MSI-Net from the variables of a published checkpoint.

    Args:
        variables: arrays by name, such as `aspp/conv1_2/kernel`, as TensorFlow lists them: kernels
            are (rows, columns, channels in, channels out). `:0` after a name, and what else the
            file holds, such as the optimizer's averages, is passed over.

    Raises:
        ValueError: if a variable is missing or has another shape than the network's.
    """
    plain = {name.removesuffix(":0"): value for name, value in variables.items()}
    # It takes means off the pixels and divides by nothing, whatever the network is loaded into.
    found = {"standardise.mean": torch.tensor(PUBLISHED_MEANS), "standardise.std": torch.ones(3)}
    for ours, theirs in _tensorflow_names():
        for kind, name in (("weight", f"{theirs}/kernel"), ("bias", f"{theirs}/bias")):
            if name not in plain:
                raise ValueError(f"wanted the variables of an MSI-Net; there is no {name}.")
            value = torch.tensor(plain[name])
            turned = value.permute(3, 2, 0, 1).contiguous() if kind == "weight" else value
            found[f"{ours}.{kind}"] = turned
    _require_shapes(found)
    return found


def _tensorflow_names() -> Iterator[tuple[str, str]]:
    """Name of each convolution, ours and that of the published code."""
    for block, layers in enumerate(_VGG16_LAYERS):
        for place in range(len(layers)):
            yield f"encoder.{block}.{place}", f"conv{block + 1}/conv{block + 1}_{place + 1}"
    for branch in range(5):
        yield f"context.{branch}", f"aspp/conv1_{branch + 1}"
    yield "merge", "aspp/conv2"
    for step in range(3):
        yield f"decoder.{step}", f"decoder/conv{step + 1}"
    yield "score", "decoder/conv4"


def _require_shapes(found: Mapping[str, Tensor]) -> None:
    with torch.device("meta"):
        wanted = {name: value.shape for name, value in MSINet().state_dict().items()}
    for name, value in found.items():
        if value.shape != wanted[name]:
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}, MSI-Net's has {tuple(wanted[name])}."
            )
