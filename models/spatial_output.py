"""SAOL: an output layer that says where it looked and what it saw there, apart.

Two maps over the places of a feature map: attention, which places count, and for each place the
classes, what it looks like. The output is the mean of the class maps weighed by attention, so each
place's share in each class is known after one forward pass, without gradients.

Source: Kim, Baek and Kim, "Spatially Attentive Output Layer for Image Classification", CVPR 2020,
https://arxiv.org/abs/2004.07570. Attention is two convolutions and a softmax over all places; the
classes come from a convolution of each level, brought to the size of the last one, and one more,
with a softmax over the classes at each place. Three things are added. Everything is kept in
logarithms, so that what has hardly any attention has a gradient. Places may be absent, as glass is
on a slide: they have no attention, count as zeros for their neighbours, and take no part in
normalisation. And it may be normalised within each place (`norm="layer"`) instead of over the
batch: then nothing looks at all places at once but the softmax, and a grid larger than memory is
computed in pieces, with `margin` places around each, and merged by log-sum-exp.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.models.cutmix import CutMix, cutmix

__all__ = ["CutMix", "PlaceScores", "SpatialOutput", "SpatialReading", "cutmix"]

Level = Float[Tensor, "images _ _ _"]
"""Features of one depth of a network: (images, channels, rows, cols)."""

Norm = Literal["batch", "layer"]
_NORMS: dict[str, type[nn.BatchNorm1d] | type[nn.LayerNorm]] = {
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
}


@dataclass(frozen=True, slots=True, eq=False)
class SpatialReading:
    """What the layer says of images, place by place.

    It unpacks into what people ask for first: probabilities (images, classes), attention (images,
    rows, cols) and class maps (images, classes, rows, cols).

    Attributes:
        attention_logits: attention before its softmax; minus infinity for absent places. Those of
            pieces of an image are those of the whole.
        log_classes: logarithm of how like each class a place is; over the classes of a place the
            probabilities sum to 1.
    """

    attention_logits: Float[Tensor, "images rows cols"]
    log_classes: Float[Tensor, "images classes rows cols"]

    def __iter__(self) -> Iterator[Tensor]:
        """Probabilities, attention, class maps."""
        yield from (each.exp() for each in (self.log_probs, self.log_attention, self.log_classes))

    @property
    def log_attention(self) -> Float[Tensor, "images rows cols"]:
        """Logarithm of the attention, whose sum over all places is 1."""
        logits = self.attention_logits
        return logits.flatten(1).log_softmax(dim=1).view_as(logits)

    @property
    def log_evidence(self) -> Float[Tensor, "images classes rows cols"]:
        """Logarithm of attention times class: what each place brings to each class."""
        return self.log_attention[:, None] + self.log_classes

    @property
    def log_probs(self) -> Float[Tensor, "images classes"]:
        """Logarithm of the output: of the sum of the evidence. Its loss is `nll_loss`."""
        return self.log_evidence.flatten(2).logsumexp(dim=2)


class SpatialOutput(nn.Module):
    """The layer. 9,946,240 parameters over the last three levels of a ResNet-50 and 1000 classes.

    Args:
        channels: of each level, the last one being the coarsest; of the one level if a number.
        classes: number of classes.
        mid: channels of each convolution between.
        side: of the convolutions, odd; 1 judges each place by itself.
        norm: `batch`, as the paper's networks have it, or `layer`, which looks at one place only.

    Attributes:
        margin: places that a piece of an image has to be given beyond its own on each side.

    Raises:
        ValueError: if a number is not positive, or `side` is even.
    """

    def __init__(
        self,
        channels: int | Sequence[int],
        classes: int,
        *,
        mid: int = 128,
        side: int = 3,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        widths = (channels,) if isinstance(channels, int) else tuple(channels)
        if not widths or min(*widths, classes, mid, side) < 1 or side % 2 == 0:
            raise ValueError(
                "channels, classes and mid must be positive and side odd, got "
                f"{channels}, {classes}, {mid} and {side}."
            )
        self.margin = 2 * (side // 2)
        self.attention = PlaceScores(widths[-1], mid=mid, side=side, norm=norm)
        self.levels = nn.ModuleList(_convolution(width, mid, side) for width in widths)
        self.norm = _NORMS[norm](mid * len(widths))
        self.classes = _convolution(mid * len(widths), classes, side)

    def forward(
        self,
        levels: Level | Sequence[Level],
        present: Bool[Tensor, "images rows cols"] | None = None,
    ) -> SpatialReading:
        """Judge images by their features.

        Args:
            levels: as many as there were `channels`, the last one of the size of the result: those
                of timm's `features_only`, for one.
            present: False where there is no place; all are there if None.

        Raises:
            ValueError: if there are more or fewer levels, or an image without any place.
        """
        given = [levels] if isinstance(levels, Tensor) else list(levels)
        if len(given) != len(self.levels):
            raise ValueError(f"need {len(self.levels)} levels, got {len(given)}.")
        present = _all_of(given[-1]) if present is None else present
        if not bool(present.flatten(1).any(dim=1).all()):
            raise ValueError("every image needs at least one place that is present.")
        at_size = [_to_size(level, present) for level in given]
        seen = [layer(level) for layer, level in zip(self.levels, at_size, strict=True)]
        merged = _normalised(self.norm, torch.cat(seen, dim=1), present)
        logits = self.attention(at_size[-1], present).masked_fill(~present, -torch.inf)
        return SpatialReading(logits, self.classes(merged).log_softmax(dim=1))


class PlaceScores(nn.Module):
    """A number for each place of a level: two convolutions.

    Args:
        channels: of the level.
        mid: channels between.
        side: of the convolutions, odd.
        norm: as `SpatialOutput` has it.
    """

    def __init__(self, channels: int, *, mid: int = 128, side: int = 3, norm: Norm = "batch"):
        super().__init__()
        self.inner = _convolution(channels, mid, side)
        self.norm = _NORMS[norm](mid)
        self.outer = _convolution(mid, 1, side)

    def forward(
        self, level: Level, present: Bool[Tensor, "images rows cols"] | None = None
    ) -> Float[Tensor, "images rows cols"]:
        """Score each place."""
        present = _all_of(level) if present is None else present
        scores: Tensor = self.outer(_normalised(self.norm, self.inner(level), present))
        return scores[:, 0]


def _convolution(inputs: int, outputs: int, side: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=False)


def _all_of(level: Level) -> Bool[Tensor, "images rows cols"]:
    return torch.ones_like(level[:, 0], dtype=torch.bool)


def _to_size(level: Level, present: Bool[Tensor, "images rows cols"]) -> Level:
    """A level at the size of the last one: means of the finer places, 0 where there is none."""
    size = cast("tuple[int, int]", tuple(present.shape[1:]))
    pooled = level if level.shape[2:] == size else F.adaptive_avg_pool2d(level, size)
    return torch.where(present[:, None], pooled, 0)


def _normalised(norm: nn.Module, level: Level, present: Bool[Tensor, "images rows cols"]) -> Level:
    """Normalise the places that are present, and cut at 0; the others are 0."""
    places = level.movedim(1, -1)
    result = torch.zeros_like(places)
    result[present] = norm(places[present]).relu()
    return result.movedim(-1, 1)
