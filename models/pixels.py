"""Pixels as networks like them: around zero, about one unit wide."""

from typing import cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

Tiles = Float[Tensor, "n channels rows cols"] | UInt8[Tensor, "n channels rows cols"]
Views = Float[Tensor, "images channels rows cols"] | UInt8[Tensor, "images channels rows cols"]
Numbers = tuple[float, ...]


def typical_pixels(channels: int) -> tuple[Numbers, Numbers]:
    """Return a round mean and std of each channel: those of H&E tissue for RGB."""
    if channels == 3:
        return (0.7, 0.55, 0.7), (0.2, 0.25, 0.2)
    return (0.5,) * channels, (0.25,) * channels


class Standardise(nn.Module):
    """Take the mean off each channel and divide by its standard deviation.

    Both are buffers, so a saved network carries them, and nobody has to remember them.

    Args:
        mean: one number per channel, for pixels in [0, 1].
        std: likewise, positive.

    Raises:
        ValueError: if `mean` and `std` differ in length, or a `std` is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Numbers, std: Numbers) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"need a mean and a positive std per channel, got {mean} and {std}.")
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, pixels: Tiles) -> Float[Tensor, "n channels rows cols"]:
        """Standardise floating-point pixels in [0, 1], or bytes.

        Raises:
            ValueError: if there are more or fewer channels than means.
        """
        if not pixels.is_floating_point():
            pixels = pixels.to(self.mean.dtype) / 255
        if pixels.shape[1] != len(self.mean):
            raise ValueError(f"need {len(self.mean)} channels, got {pixels.shape[1]}.")
        return (pixels - self.mean[:, None, None]) / self.std[:, None, None]


class InUnitRange(nn.Module):
    """A network that counts light from 0 to 255, for pixels in [0, 1]; bytes stay what they are.

    Args:
        network: with `encoder`, `stride` and `margin`, such as an `FCN`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def trunk(self) -> nn.Module:
        """The part that sees pixels, and may have learnt from other images."""
        return cast("nn.Module", self.network.encoder)

    @property
    def stride(self) -> int:
        """That of the network."""
        return cast("int", self.network.stride)

    @property
    def margin(self) -> int:
        """That of the network."""
        return cast("int", self.network.margin)

    def forward(self, pixels: Tiles) -> Float[Tensor, "n classes rows cols"]:
        """What the network makes of pixels in [0, 1], or bytes."""
        scores: Tensor = self.network(pixels * 255 if pixels.is_floating_point() else pixels)
        return scores
