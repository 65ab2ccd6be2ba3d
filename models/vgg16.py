"""The shape of VGG16, which several networks begin with: five blocks of 3 x 3 convolutions.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", ICLR 2015, https://arxiv.org/abs/1409.1556, configuration D without its classifier.
What comes after a convolution and after a block is the business of the network that has them.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float
from torch import Tensor, nn

VGG16_DEPTHS = (2, 2, 3, 3, 3)
VGG16_WIDTHS = (64, 128, 256, 512, 512)


def vgg16_blocks(
    widths: Sequence[int] = VGG16_WIDTHS,
    depths: Sequence[int] = VGG16_DEPTHS,
    *,
    dilations: Sequence[int] = (1, 1, 1, 1, 1),
) -> nn.ModuleList:
    """The convolutions of VGG16, block by block: 14,714,688 parameters.

    Args:
        widths: channels of each block.
        depths: convolutions of each block.
        dilations: of the convolutions of each block.

    Returns:
        A list of convolutions for each block; each keeps rows and columns.

    Raises:
        ValueError: if there are not five blocks of at least one channel and one convolution.
    """
    if {len(widths), len(depths), len(dilations)} != {5}:
        raise ValueError(
            f"VGG16 has five blocks, got widths {widths}, depths {depths}, dilations {dilations}."
        )
    if min(*widths, *depths, *dilations) < 1:
        raise ValueError("every block needs at least one channel and one convolution.")
    blocks = nn.ModuleList()
    inputs = 3
    for width, depth, dilation in zip(widths, depths, dilations, strict=True):
        sizes = (inputs, *[width] * depth)
        blocks.append(
            nn.ModuleList(convolution(a, b, dilation=dilation) for a, b in pairwise(sizes))
        )
        inputs = width
    return blocks


def convolution(inputs: int, outputs: int, side: int = 3, dilation: int = 1) -> nn.Conv2d:
    """A convolution that keeps rows and columns."""
    return nn.Conv2d(inputs, outputs, side, padding=dilation * (side // 2), dilation=dilation)


def halve(
    x: Float[Tensor, "images channels rows cols"],
) -> Float[Tensor, "images channels half_rows half_cols"]:
    """Maximum of each 2 x 2 cells; those at the right and the bottom may reach beyond the edge."""
    return F.max_pool2d(x, 2, ceil_mode=True)
