"""How a spatially attentive output layer is taught: with its labels, its own maps, and a rival.

    loss = L_SL + L_SS + L_SD

`L_SL` is the loss of the output. `L_SS` asks the maps about an image into which a part of another
was pasted: where the part is (`L_SS1`), and to say of it what they say in the image it comes from
(`L_SS2`). `L_SD` hands what the layer knows to a plain classifier over the mean of all places.

Source: Kim, Baek and Kim, "Spatially Attentive Output Layer for Image Classification", CVPR 2020,
https://arxiv.org/abs/2004.07570; the parts are pasted in by CutMix (`models.cutmix`). Which of the
two readings teaches the other in `L_SS2`, and whether it learns itself, are options here; by
default the source of the part teaches, and does not learn.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.models.cutmix import CutMix
from saccade.models.spatial_output import Level, Norm, PlaceScores, SpatialReading

BETA = 0.5
"""Weight of the labels in what the plain classifier learns from (the paper's)."""


class TrainingBranches(nn.Module):
    """What the layer is trained with and need not be kept: a sense for the part that was pasted in.

    And the plain classifier over the mean of all places, which learns from the layer. It may be
    dropped, too, or kept alone: the network is then what it was before there was such a layer.

    Args:
        channels: of the last level.
        classes: number of classes.
        mid: as `SpatialOutput` has it.
        side: likewise.
        norm: likewise.
    """

    def __init__(
        self, channels: int, classes: int, *, mid: int = 128, side: int = 3, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        self.mask = PlaceScores(channels, mid=mid, side=side, norm=norm)
        self.pooled = nn.Linear(channels, classes)

    def mask_logits(self, level: Level) -> Float[Tensor, "images rows cols"]:
        """Whether each place was pasted in, as logits."""
        logits: Tensor = self.mask(level)
        return logits

    def class_logits(self, level: Level) -> Float[Tensor, "images classes"]:
        """What the plain classifier says of images."""
        logits: Tensor = self.pooled(level.mean(dim=(2, 3)))
        return logits


class SpatialLoss(NamedTuple):
    """The parts of the loss; the paper's is their sum, `total`."""

    labels: Float[Tensor, ""]
    mask: Float[Tensor, ""]
    maps: Float[Tensor, ""]
    distilled: Float[Tensor, ""]

    @property
    def total(self) -> Float[Tensor, ""]:
        """L_SL + L_SS1 + L_SS2 + L_SD."""
        return self.labels + self.mask + self.maps + self.distilled


def spatial_loss(
    mixed: SpatialReading,
    plain: SpatialReading,
    mask_logits: Float[Tensor, "images rows cols"],
    class_logits: Float[Tensor, "images classes"],
    cut: CutMix,
) -> SpatialLoss:
    """The whole loss of a batch.

    Args:
        mixed: reading of the mixed images.
        plain: reading of the images before they were mixed.
        mask_logits: of `TrainingBranches`, of the mixed images.
        class_logits: likewise.
        cut: the mixed images, with what they were mixed from.
    """
    where = pasted_share(cut.mask, mask_logits)
    return SpatialLoss(
        labels=label_loss(mixed.log_probs, cut.targets),
        mask=F.binary_cross_entropy_with_logits(mask_logits, where),
        maps=map_loss(mixed.log_classes, plain.log_classes[cut.partner], where),
        distilled=distillation_loss(mixed.log_probs, class_logits, cut.targets),
    )


def pasted_share(
    mask: Bool[Tensor, "images height width"], like: Float[Tensor, "images rows cols"]
) -> Float[Tensor, "images rows cols"]:
    """How much of each place was pasted in."""
    return F.adaptive_avg_pool2d(mask.to(like.dtype), (like.shape[1], like.shape[2]))


def label_loss(
    log_probs: Float[Tensor, "images classes"], targets: Float[Tensor, "images classes"]
) -> Float[Tensor, ""]:
    """Cross entropy of what is a distribution already (L_SL); a softmax would flatten it."""
    return -(targets * log_probs).sum(dim=1).mean()


def map_loss(
    mixed: Float[Tensor, "images classes rows cols"],
    source: Float[Tensor, "images classes rows cols"],
    where: Float[Tensor, "images rows cols"],
    *,
    teacher: Literal["source", "mixed"] = "source",
    detach: bool = True,
) -> Float[Tensor, ""]:
    """How far class maps of mixed images are from those of the sources of their parts (L_SS2).

    Kullback-Leibler divergence of the pupil from the teacher at each place, and its mean over the
    places that were pasted in, weighed by how much of them was. 0 if none was.

    Args:
        mixed: log classes of the mixed images.
        source: log classes of the images their parts come from.
        where: how much of each place was pasted in.
        teacher: which of the two the other learns from.
        detach: whether the teacher stays as it is.
    """
    known, pupil = (source, mixed) if teacher == "source" else (mixed, source)
    known = known.detach() if detach else known
    apart = F.kl_div(pupil, known, reduction="none", log_target=True).sum(dim=1)
    return (where * apart).sum() / where.sum().clamp(min=torch.finfo(where.dtype).tiny)


def distillation_loss(
    log_probs: Float[Tensor, "images classes"],
    class_logits: Float[Tensor, "images classes"],
    targets: Float[Tensor, "images classes"],
    *,
    beta: float = BETA,
    detach: bool = True,
) -> Float[Tensor, ""]:
    """What the plain classifier learns from: the layer's output, and the labels (L_SD).

    Args:
        log_probs: output of the layer.
        class_logits: those of the plain classifier.
        targets: share of each class in each image.
        beta: weight of the labels.
        detach: whether the layer stays as it is.
    """
    known = log_probs.detach() if detach else log_probs
    said = class_logits.log_softmax(dim=1)
    apart = F.kl_div(said, known, reduction="batchmean", log_target=True)
    return apart + beta * label_loss(said, targets)
