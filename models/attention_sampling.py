"""Attention sampling: judge a gigapixel image by a few tiles of it.

A small network looks at a coarse view and spreads attention over its places. A few places are drawn
from that attention, a larger network looks at them in full detail, and their features are averaged
so that the result is, in expectation, the attention-weighted mean over all places.

Source: Katharopoulos and Fleuret, "Processing Megapixel Images with Deep Attention-Sampling
Models", ICML 2019, https://arxiv.org/abs/1905.03711. `sampling_weights` is the ordered estimator of
Des Raj (JASA 51, 1956) for draws without replacement, as the paper's equation 11 has it.

Deviations: the gradient towards the attention is unbiased without replacement too (that of the
published implementation is not); places may be drawn from another distribution than the attention;
a place at minus infinity takes no part at all.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from saccade.models.attention_networks import AttentionNetwork, pool_valid
from saccade.models.encoders import Encoder
from saccade.models.pixels import Views
from saccade.models.precision import in_dtype

TileBags = (
    Float[Tensor, "images k channels height width"]
    | UInt8[Tensor, "images k channels height width"]
)


def draw_places(
    log_proposal: Float[Tensor, "images places"],
    k: int,
    *,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
) -> Int64[Tensor, "images k"]:
    """Draw `k` different places per image; likely places come more often and earlier.

    Adds Gumbel noise and takes the `k` highest, which equals drawing one place after the other
    without replacement (Kool et al., ICML 2019, https://arxiv.org/abs/1903.06059).

    A place at -inf is never drawn and uses up no randomness. With one generator per image a draw
    depends on nothing but that image: not on its neighbours in the batch, nor on its padding.

    Args:
        log_proposal: log of the distribution to draw from, usually the attention.
        k: number of places to draw from each image.
        generator: source of randomness, or one for each image; None for torch's own of the CPU.
            The noise is made on its device, so a CPU generator draws alike for every device.

    Returns:
        Indices of the places in the order of the draw. `sampling_weights` needs that order.

    Raises:
        ValueError: if an image offers fewer than `k` places above -inf, if `log_proposal` holds
            NaN, or if there is not one generator for each image.
    """
    images = len(log_proposal)
    if log_proposal.isnan().any():
        raise ValueError("log_proposal holds NaN; look for a loss or an input that is not finite.")
    fewest = int((log_proposal > -torch.inf).sum(dim=1).min())
    if not 1 <= k <= fewest:
        raise ValueError(f"cannot draw k={k} different places; an image offers {fewest}.")
    generators = generator if isinstance(generator, Sequence) else [generator] * images
    if len(generators) != images:
        raise ValueError(f"need one generator for each of {images} images, got {len(generators)}.")
    rows = [
        _gumbel_top_k(row, k, one)
        for row, one in zip(log_proposal.detach(), generators, strict=True)
    ]
    return torch.stack(rows).to(log_proposal.device)


def _gumbel_top_k(
    log_proposal: Float[Tensor, " places"], k: int, generator: torch.Generator | None
) -> Int64[Tensor, " k"]:
    device = torch.device("cpu") if generator is None else generator.device
    log_proposal = log_proposal.to(device)
    offered = torch.nonzero(log_proposal > -torch.inf).flatten()
    # Double: among 1e6 places single precision would cut the long tail of the noise off.
    noise = torch.empty(len(offered), dtype=torch.float64, device=device)
    noise.exponential_(generator=generator).clamp_(min=1e-300).log_().neg_()
    return offered[(log_proposal[offered] + noise).topk(k).indices]


def draw_places_with_replacement(
    log_proposal: Float[Tensor, "images places"],
    k: int,
    *,
    generator: torch.Generator | None = None,
) -> Int64[Tensor, "images k"]:
    """Draw `k` places per image independently, so a place may come again. For comparisons."""
    probs = log_proposal.detach().softmax(dim=1)
    return torch.multinomial(probs, k, replacement=True, generator=generator)


def sampling_weights(
    log_probs: Float[Tensor, "images k"],
    log_proposal: Float[Tensor, "images k"] | None = None,
) -> Float[Tensor, "images k"]:
    """Weigh places drawn without replacement so that a sum over them stands for all places.

    For any features f, the sum over the draw of `weight * f` has the attention-weighted mean of f
    over all places as its expectation, and the gradient of that mean as the expectation of its
    gradient, towards the features and towards the attention. Weights are never negative. Places
    drawn from the attention itself weigh one in all; others do so in expectation.

    With attention a, proposal q and n draws, draw k weighs
    `a_k / n * (undrawn_k / q_k + draws after k)`, where `undrawn_k` is what q holds before draw k.

    Args:
        log_probs: log attention of the drawn places, in the order of the draw. All gradient flows
            through it.
        log_proposal: log of the distribution that they were drawn from, normalised over all
            places; taken as fixed. None: drawn from the attention.
    """
    draws = log_probs.shape[1]
    log_q = (log_probs if log_proposal is None else log_proposal).detach()
    q = log_q.exp()
    later = torch.arange(draws - 1, -1, -1, device=q.device)
    return (log_probs - log_q).exp() * (undrawn_before(q) + later * q) / draws


def undrawn_before(q: Float[Tensor, "images k"]) -> Float[Tensor, "images k"]:
    """Return what a distribution holds before each draw; `q` is what it gives the drawn places."""
    this_and_later = q.flip(1).cumsum(dim=1).flip(1)
    # No less than what is about to be drawn: 1 - 0.9999... loses its digits, that sum does not.
    return torch.maximum(1 - (q.cumsum(dim=1) - q), this_and_later)


def sampling_weights_with_replacement(
    log_probs: Float[Tensor, "images k"],
    log_proposal: Float[Tensor, "images k"] | None = None,
) -> Float[Tensor, "images k"]:
    """Weigh places drawn with replacement: `a_k / q_k / n`, unbiased as `sampling_weights` is."""
    log_q = (log_probs if log_proposal is None else log_proposal).detach()
    return (log_probs - log_q).exp() / log_probs.shape[1]


def mix_with_uniform(
    log_probs: Float[Tensor, "images *grid"], share: float
) -> Float[Tensor, "images *grid"]:
    """Give `share` of the probability evenly to all places above -inf; the others stay there.

    Args:
        log_probs: log of a distribution over the grid of each image.
        share: at least 0 and less than 1.

    Raises:
        ValueError: if `share` is outside its range.
    """
    offered = log_probs > -torch.inf
    count = offered.flatten(1).sum(dim=1).view(-1, *[1] * (log_probs.ndim - 1))
    even = -count.to(log_probs.dtype).log().expand_as(log_probs)
    return mix(log_probs, even.masked_fill(~offered, -torch.inf), share)


def mix(
    log_probs: Float[Tensor, "images *grid"],
    log_other: Float[Tensor, "images *grid"],
    share: float,
) -> Float[Tensor, "images *grid"]:
    """Give `share` of the probability to another distribution over the same places.

    As a proposal such a mixture is defensive: no place is drawn too rarely for its attention, so
    `sampling_weights` stay bounded by about `1 / (1 - share)`, whatever the other distribution.

    Args:
        log_probs: log of a distribution over the grid of each image.
        log_other: of the other one.
        share: at least 0 and less than 1.

    Raises:
        ValueError: if `share` is outside its range.
    """
    if not 0 <= share < 1:
        raise ValueError(f"the share of the other distribution must be in [0, 1), got {share}.")
    if share == 0:
        return log_probs
    kept, given = log_probs + math.log1p(-share), log_other + math.log(share)
    nowhere = (log_probs == -torch.inf) & (log_other == -torch.inf)
    # Two infinities have no gradient: it would be NaN.
    mixed = torch.logaddexp(kept, given.masked_fill(nowhere, 0.0))
    return mixed.masked_fill(nowhere, -torch.inf)


def log_smoothed_softmax(
    logits: Float[Tensor, "images *grid"], smooth: float
) -> Float[Tensor, "images *grid"]:
    """Log of `smoothed_softmax`, exact where that would round to zero."""
    log_probs = logits.flatten(1).log_softmax(dim=1).view_as(logits)
    return mix_with_uniform(log_probs, smooth)


def smoothed_softmax(
    logits: Float[Tensor, "images *grid"], smooth: float
) -> Float[Tensor, "images *grid"]:
    """Softmax over the whole grid of each image, mixed with a little of the uniform.

    Args:
        logits: one number a place; -inf leaves a place out, of the softmax and of the mixing.
        smooth: share of the uniform distribution, at least 0 and less than 1.
    """
    return log_smoothed_softmax(logits, smooth).exp()


def entropy_penalty(
    attention: Float[Tensor, "images *grid"], strength: float, eps: float = 1e-6
) -> Float[Tensor, ""]:
    """Negative entropy of the attention, mean over images; less of it is attention more spread.

    Args:
        attention: a distribution over the grid of each image. Probabilities, not their logs.
        strength: factor on the penalty.
        eps: added within the logarithm.
    """
    return strength * (attention * (attention + eps).log()).sum() / len(attention)


def l2_normalize(x: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows features"]:
    """Scale each row to length one; rows shorter than 1e-6 stay shorter, zero stays zero."""
    return F.normalize(x, dim=-1, eps=1e-6)


class Reading(NamedTuple):
    """What the images were judged to be, and what each drawn tile had to do with it."""

    logits: Float[Tensor, "images classes"]
    weights: Float[Tensor, "images k"]
    features: Float[Tensor, "images k features"]


class AttentionSampling(nn.Module):
    """The networks around `draw_places`: where to look, what is there, what it means.

    Reading tiles is the caller's part, between `attend` and `classify`.

    Args:
        attention: maps views and their valid places to logits.
        encoder: maps tiles to features.
        classes: number of classes (of outputs, for another task).
        smooth: share of the attention that is spread evenly over the valid places.
        unit_features: scale each tile's features to length one, as the paper does.

    Attributes:
        compute_dtype: what attention network and encoder compute in, by autocast; None for that of
            their weights. Softmax, weights and head stay as they are.
    """

    def __init__(
        self,
        *,
        attention: AttentionNetwork,
        encoder: Encoder,
        classes: int,
        smooth: float = 1e-5,
        unit_features: bool = True,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.encoder = encoder
        self.head = nn.Linear(encoder.features, classes)
        self.smooth = smooth
        self.unit_features = unit_features
        self.compute_dtype: torch.dtype | None = None

    def attend(
        self,
        views: Views,
        valid: Bool[Tensor, "images rows cols"] | None = None,
    ) -> Float[Tensor, "images places"]:
        """Return log attention over the places of each view, row-major.

        Places form the grid `self.attention.grid_shape(rows, cols)`. One that holds no valid pixel
        is at exactly -inf. Pixels that are not valid have no influence on any other place, so an
        image gets the same attention alone and padded to the size of a batch.

        Args:
            views: RGB in [0, 1], or bytes.
            valid: True for tissue, False for background and for padding. None: all is valid.

        Raises:
            ValueError: if an image has no valid pixel.
        """
        if valid is None:
            valid = views.new_ones((), dtype=torch.bool).expand(len(views), *views.shape[2:])
        if not valid.flatten(1).any(dim=1).all():
            raise ValueError("an image has no valid pixel, so there is nowhere to look.")
        offered = pool_valid(valid, self.attention.stride)
        logits = in_dtype(self.compute_dtype, self.attention, views, valid)
        logits = logits.masked_fill(~offered, -torch.inf)
        return log_smoothed_softmax(logits.flatten(1), self.smooth)

    def encode(
        self,
        tiles: TileBags,
    ) -> Float[Tensor, "images k features"]:
        """Return the features of each tile."""
        flat = in_dtype(self.compute_dtype, self.encoder, tiles.flatten(0, 1))
        features = flat.view(*tiles.shape[:2], -1)
        return l2_normalize(features) if self.unit_features else features

    def weigh(
        self,
        features: Float[Tensor, "images k features"],
        log_probs: Float[Tensor, "images k"],
        log_proposal: Float[Tensor, "images k"] | None = None,
    ) -> Reading:
        """Judge images by the features of their drawn tiles; arguments as `sampling_weights`."""
        weights = sampling_weights(log_probs, log_proposal)
        pooled = torch.einsum("ik,ikf->if", weights, features.to(weights.dtype))
        return Reading(self.head(pooled), weights, features)

    def classify(
        self,
        tiles: TileBags,
        log_probs: Float[Tensor, "images k"],
        log_proposal: Float[Tensor, "images k"] | None = None,
    ) -> Float[Tensor, "images classes"]:
        """Return class logits from drawn tiles; `weigh` after `encode` also says why."""
        return self.weigh(self.encode(tiles), log_probs, log_proposal).logits

    def evidence(
        self, features: Float[Tensor, "images k features"]
    ) -> Float[Tensor, "images k classes"]:
        """Return the outputs that each tile alone would give.

        Without the head's bias, and whatever attention the tile got. Weighted and summed over the
        tiles, plus the bias, they are the outputs of the image.
        """
        return features @ self.head.weight.T.to(features.dtype)
