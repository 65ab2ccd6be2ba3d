"""Losses over a class for each pixel: cross entropy, and Dice's.

Cross entropy counts pixels, so a class of few pixels counts little. Dice's coefficient of soft
masks counts classes: Milletari, Navab and Ahmadi, "V-Net", 3DV 2016,
https://arxiv.org/abs/1606.04797, section 3; here with the sum of probabilities in the denominator
where that paper has the sum of their squares, and a mean over the classes.
"""

import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float, Int64
from torch import Tensor

from saccade.models.fcn import Scores

Classes = Int64[Tensor, "images rows cols"]


def cross_entropy(
    scores: Scores,
    truth: Classes,
    *,
    weights: Float[Tensor, " classes"] | None = None,
    ignored: int = 255,
) -> Float[Tensor, ""]:
    """Mean over the pixels whose class is known; 0 if there are none.

    Args:
        scores: logits.
        truth: class of each pixel.
        weights: of the classes; the mean is then the weighted one.
        ignored: the class of pixels that do not count.
    """
    if not (truth != ignored).any():
        return 0 * scores.sum()
    return F.cross_entropy(scores, truth, weight=weights, ignore_index=ignored)


def soft_dice_loss(scores: Scores, truth: Classes, *, ignored: int = 255) -> Float[Tensor, ""]:
    """One less Dice's coefficient of each class over all images, mean over the classes there are.

    2 * sum(p * t) / sum(p + t), for probabilities p and t that is 1 in the pixels of the class; 0
    if no pixel's class is known.

    Args:
        scores: logits.
        truth: class of each pixel.
        ignored: the class of pixels that do not count.
    """
    known = truth != ignored
    probabilities = scores.softmax(dim=1) * known[:, None]
    wanted = F.one_hot(truth.where(known, 0), scores.shape[1]).movedim(-1, 1) * known[:, None]
    true = wanted.sum(dim=(0, 2, 3))
    common = (probabilities * wanted).sum(dim=(0, 2, 3))
    loss = 1 - 2 * common / (probabilities.sum(dim=(0, 2, 3)) + true).clamp(min=1e-6)
    there = true > 0
    return (loss * there).sum() / there.sum().clamp(min=1)
