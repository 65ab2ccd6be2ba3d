"""Bottom-up attention: dense places first, before anything was learned.

An eye that knows nothing of its task is drawn to what is dense and dark. With a few dozen slides
and one label each, attention that starts even over the tissue meets a small lesion too seldom to
learn from it; attention that starts where the stain is dense meets it often. The gain is a
parameter like any other, so training may strengthen it, drop it or turn it round.

No paper: our own.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.models.attention_networks import AttentionNetwork
from saccade.models.pixels import Views

_DARKEST = 1 / 255


class DensityFirst(AttentionNetwork):
    """Add a learnable multiple of how dense each place is to what a network says of it.

    Args:
        network: that learns where to look.
        gain: logits per standard deviation of optical density, to begin with.
    """

    def __init__(self, network: AttentionNetwork, *, gain: float) -> None:
        super().__init__()
        self.network = network
        self.stride = network.stride
        self.gain = nn.Parameter(torch.tensor(float(gain)))

    def forward(
        self, views: Views, valid: Bool[Tensor, "images rows cols"]
    ) -> Float[Tensor, "images grid_rows grid_cols"]:
        """Return a logit for each place; those outside `valid` mean nothing."""
        learned: Tensor = self.network(views, valid)
        return learned + self.gain * relative_density(views, valid, self.stride)


def relative_density(
    views: Views, valid: Bool[Tensor, "images rows cols"], stride: int = 1
) -> Float[Tensor, "images grid_rows grid_cols"]:
    """Optical density of each place, in standard deviations from the mean of its image.

    Mean and deviation are over valid pixels, so that neither stain nor padding matters; a place
    has the mean of its valid pixels, and 0 if it has none. An even image is 0 all over.

    Args:
        views: pixels in [0, 1], or bytes; the density is that of the mean channel.
        valid: True for tissue.
        stride: edge length of a place, in pixels.
    """
    pixels = views if views.is_floating_point() else views.float() / 255
    density = -pixels.mean(dim=1).clamp(min=_DARKEST).log()
    inside = valid.to(density.dtype)
    count = inside.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    centred = (density - (density * inside).sum(dim=(1, 2), keepdim=True) / count) * inside
    deviation = (centred.square().sum(dim=(1, 2), keepdim=True) / count).sqrt()
    relative = centred / deviation.clamp(min=1e-3)
    if stride == 1:
        return relative
    share = F.avg_pool2d(inside, stride, ceil_mode=True, count_include_pad=False)
    mean = F.avg_pool2d(relative, stride, ceil_mode=True, count_include_pad=False)
    return mean / share.clamp(min=1e-6)
