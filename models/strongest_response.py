"""The strongest response of each channel, with a backward pass that follows only the winners.

Of a feature map that is reduced to its maximum over all places, one place a channel has a gradient.
What reaches the layers below are the windows around these places, a small part of what a dense
backward pass goes through. The gradient is the same up to rounding.

Where places tie, the first has all the gradient. Valid convolutions see ties of even ground alike,
so the weights' gradient does not depend on which.

No paper: our own. It pays on processors, where time follows arithmetic; elsewhere the dense pass
of torch runs.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float, Int64
from torch import Tensor, nn

# Images that go through together. The maps of few fit into a processor's caches: a third less time
# than 160 at once take.
_AT_ONCE = 16


class StrongestResponse(nn.Sequential):
    """Valid convolutions with a ReLU after each, then the maximum of each channel over all places.

    Args:
        convolutions: of stride 1, without padding, dilation or groups.

    Raises:
        ValueError: for any other convolution.
    """

    def __init__(self, convolutions: Sequence[nn.Conv2d]) -> None:
        for conv in convolutions:
            plain = conv.stride == conv.dilation == (1, 1) and conv.groups == 1
            if not plain or conv.padding != (0, 0) or conv.bias is None:
                raise ValueError(f"need plain valid convolutions with a bias, got {conv}.")
        super().__init__(
            *(layer for conv in convolutions for layer in (conv, nn.ReLU(inplace=True)))
        )

    def forward(self, x: Float[Tensor, "n channels rows cols"]) -> Float[Tensor, "n features"]:
        """Return the maxima; no gradient reaches `x`, nor layers below the first that learns."""
        if not x.is_cpu:
            return self._dense(x)
        learns = any(conv.weight.requires_grad for conv in list(self)[::2])
        sparse = learns and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
        run = self._sparse if sparse else self._dense
        return torch.cat([run(some) for some in torch.split(x, _AT_ONCE)])

    def _dense(self, x: Tensor) -> Tensor:
        maps: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return maps.amax(dim=(2, 3))

    def _sparse(self, x: Tensor) -> Tensor:
        convolutions = list(self)[::2]
        first = next(i for i, conv in enumerate(convolutions) if conv.weight.requires_grad)
        with torch.no_grad():
            for layer in list(self)[: 2 * first]:
                x = layer(x)
        parameters = [each for conv in convolutions[first:] for each in (conv.weight, conv.bias)]
        strongest: Tensor = _Winners.apply(x, *parameters)
        return strongest


class _Winners(torch.autograd.Function):
    """Forward as ever; backward from the winners, layer by layer, at the places that they saw."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        maps = [x.contiguous(memory_format=torch.channels_last)]
        for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
            maps.append(F.conv2d(maps[-1], weight, bias).relu_())
        strongest, winners = _pixels(maps[-1]).view(len(x), -1, maps[-1].shape[1]).max(dim=1)
        ctx.save_for_backward(winners, *maps, *parameters[::2])
        return strongest

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        winners, *saved = ctx.saved_tensors
        layers = len(saved) // 2
        maps, weights = saved[: layers + 1], saved[layers + 1 :]
        cells, towards = _at_winners(winners, gradient, maps[-1])
        found: list[Tensor | None] = []
        for layer in reversed(range(layers)):
            below, above, weight = maps[layer], maps[layer + 1], weights[layer]
            towards = towards * (_pixels(above)[cells] > 0)
            alive = towards.any(dim=1)
            cells, towards = cells[alive], towards[alive]
            seen = _windows(cells, above, below, weight.shape[2:])
            inputs = _pixels(below)[seen].flatten(1)
            flat = weight.permute(0, 2, 3, 1).flatten(1)
            for_weight = (towards.T @ inputs).view_as(weight.permute(0, 2, 3, 1))
            found[:0] = [for_weight.permute(0, 3, 1, 2), towards.sum(dim=0)]
            if layer:
                cells, towards = _gathered(
                    seen, (towards @ flat).view(*seen.shape, below.shape[1]), below
                )
        return None, *found


def _pixels(image: Float[Tensor, "n channels rows cols"]) -> Float[Tensor, "pixels channels"]:
    """All pixels of all images, without a copy where channels lie last."""
    return image.permute(0, 2, 3, 1).reshape(-1, image.shape[1])


def _at_winners(
    winners: Int64[Tensor, "n channels"],
    gradient: Float[Tensor, "n channels"],
    image: Float[Tensor, "n channels rows cols"],
) -> tuple[Int64[Tensor, " cells"], Float[Tensor, "cells channels"]]:
    """Pixels that won in any channel, each once, and the gradient of every channel there."""
    n, channels = gradient.shape
    first = torch.arange(n)[:, None] * (image.shape[2] * image.shape[3])
    cells, which = (first + winners).unique(return_inverse=True)  # type: ignore[no-untyped-call]
    towards = gradient.new_zeros(len(cells), channels)
    towards[which.flatten(), torch.arange(channels).repeat(n)] = gradient.flatten()
    return cells, towards


def _windows(
    cells: Int64[Tensor, " cells"],
    above: Float[Tensor, "n out_channels out_rows out_cols"],
    below: Float[Tensor, "n channels rows cols"],
    side: Sequence[int],
) -> Int64[Tensor, "cells window"]:
    """Pixels of the map below that each pixel of the map above was computed from."""
    out_cols, cols = above.shape[3], below.shape[3]
    number, within = cells // above[0, 0].numel(), cells % above[0, 0].numel()
    corner = number * below[0, 0].numel() + within // out_cols * cols + within % out_cols
    offsets = torch.arange(side[0])[:, None] * cols + torch.arange(side[1])
    return corner[:, None] + offsets.flatten()


def _gathered(
    seen: Int64[Tensor, "cells window"],
    towards: Float[Tensor, "cells window channels"],
    image: Float[Tensor, "n channels rows cols"],
) -> tuple[Int64[Tensor, " pixels"], Float[Tensor, "pixels channels"]]:
    """Sum what reaches a pixel from all windows it is in; pixels that are in none are left out."""
    number = torch.zeros(len(image) * image[0, 0].numel(), dtype=torch.int64)
    number[seen.flatten()] = 1
    pixels = number.nonzero().flatten()
    number[pixels] = torch.arange(len(pixels))
    total = towards.new_zeros(len(pixels), towards.shape[2])
    total.index_add_(0, number[seen.flatten()], towards.flatten(0, 1))
    return pixels, total
