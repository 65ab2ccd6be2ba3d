"""CutMix: images with a part of another pasted in, and labels in proportion.

Source: Yun, Han, Oh, Chun, Choe and Yoo, "CutMix: Regularization Strategy to Train Strong
Classifiers with Localizable Features", ICCV 2019, https://arxiv.org/abs/1905.04899. That of
torchvision does not say where it pasted, which a spatially attentive output layer has to know.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Bool, Float, Int64
from torch import Tensor


class CutMix(NamedTuple):
    """Images with a part of another pasted in.

    Attributes:
        images: the mixed images.
        mask: True where an image shows the other.
        kept: share of each image that is still its own, exactly: the weight of its own label.
        partner: number of the image that each one's part comes from.
        targets: share of each class in each image; a row sums to 1.
    """

    images: Float[Tensor, "images channels height width"]
    mask: Bool[Tensor, "images height width"]
    kept: Float[Tensor, " images"]
    partner: Int64[Tensor, " images"]
    targets: Float[Tensor, "images classes"]


def cutmix(
    images: Float[Tensor, "images channels height width"],
    labels: Int64[Tensor, " images"],
    *,
    classes: int | None = None,
    generator: torch.Generator | None = None,
) -> CutMix:
    """Paste a part of another image of the batch into each: the same rectangle of both.

    A share to keep is drawn evenly from [0, 1], as is the middle of the rectangle from the image;
    what reaches beyond the edge is cut, and the share counted anew. (CutMix draws one rectangle for
    a batch; here each image has its own.)

    Args:
        images: to mix.
        labels: class of each.
        classes: number of classes; as many as the labels name if None.
        generator: source of randomness, on the CPU; None for torch's own.
    """
    count, _, height, width = images.shape
    share = torch.rand(count, generator=generator)
    row = torch.randint(height, (count,), generator=generator)
    col = torch.randint(width, (count,), generator=generator)
    partner = torch.randperm(count, generator=generator).to(images.device)
    mask = rectangles(share, row, col, (height, width)).to(images.device)
    kept = 1 - mask.to(images.dtype).mean(dim=(1, 2))
    own = F.one_hot(labels, -1 if classes is None else classes).to(images.dtype)
    targets = kept[:, None] * own + (1 - kept[:, None]) * own[partner]
    mixed = torch.where(mask[:, None], images[partner], images)
    return CutMix(mixed, mask, kept, partner, targets)


def rectangles(
    share: Float[Tensor, " images"],
    row: Int64[Tensor, " images"],
    col: Int64[Tensor, " images"],
    size: tuple[int, int],
) -> Bool[Tensor, "images height width"]:
    """Rectangles with their middle at (row, col) that leave about `share` of an image uncovered.

    Its sides are those of the image times the root of 1 - share, and are cut at the edge.
    """
    inside = []
    for middle, length in zip((row, col), size, strict=True):
        half = ((1 - share).sqrt() * 0.5 * length).long()
        place = torch.arange(length, device=share.device)
        first, after = (middle - half)[:, None], (middle + half)[:, None]
        inside.append((place >= first) & (place < after))
    return inside[0][:, :, None] & inside[1][:, None, :]
