"""Bias and variance of the gradient towards the attention: three estimators, every draw counted.

    python benchmarks/estimators.py
    python benchmarks/estimators.py --map attention.ome.tif

Of K places n are drawn. Each estimator turns a draw into an estimate of the attention-weighted mean
and of its gradient towards the logits of the attention. For small K all ordered draws are summed,
with their probabilities: nothing is left to chance. Compared are

* without replacement, as Saccade weighs them (`saccade.models.attention_sampling`),
* with replacement,
* the published implementation: without replacement, its gradient towards the attention biased.

Features and the gradient that arrives from above are random; so are the logits, whose spread says
how peaked the attention is. A real attention map, as `saccade predict` writes it, is too large for
all draws: there the same is estimated from many.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import NamedTuple

import measure
import torch
from jaxtyping import Float
from torch import Tensor

from saccade.models.attention_sampling import (
    draw_places,
    draw_places_with_replacement,
    sampling_weights,
    sampling_weights_with_replacement,
)

PLACES, SPREADS, CASES = 6, (0.5, 1.0, 2.0, 4.0), 40
_DRAWS_OF_A_MAP = 4000

Gradient = Callable[[Tensor, Tensor], Tensor]
"""(log attention of the draws (m, n), score of the draws (m, n)) to the gradient (m, n)."""


class Estimator(NamedTuple):
    """Weights of a draw, and the gradient towards the log attention of what was drawn."""

    again: bool
    weigh: Callable[[Tensor], Tensor]
    gradient: Gradient


class Found(NamedTuple):
    """Relative to the true gradient, or to the spread of the features for the value."""

    cosine: float
    bias: float
    variance: float
    of_value: float


def _ours(log_a: Tensor, score: Tensor) -> Tensor:
    return sampling_weights(log_a) * score


def _again(log_a: Tensor, score: Tensor) -> Tensor:
    return sampling_weights_with_replacement(log_a) * score


def published_weights(
    log_probs: Float[Tensor, "images k"], log_proposal: Float[Tensor, "images k"] | None = None
) -> Float[Tensor, "images k"]:
    """The weights that Saccade uses, with the published gradient towards the attention.

    That gradient is linear in the features, so it is one of the weights: weight j has
    `mine[j, k]` as its derivative by the attention of draw k.
    """
    if log_proposal is not None:
        raise ValueError("the published estimator draws from the attention itself.")
    a = log_probs.exp()
    n = a.shape[1]
    undrawn = 1 - (a.cumsum(1) - a)
    earlier = torch.ones(n, n, dtype=a.dtype).triu(1)  # [j, k]: j was drawn before k
    seen = a[:, :, None] * earlier + torch.diag_embed(undrawn)
    count = torch.diag(torch.arange(n, dtype=a.dtype))
    mine = (seen * (undrawn / a)[:, None] + earlier - count).detach() / n
    return sampling_weights(log_probs.detach()) + torch.einsum("ijk,ik->ij", mine, a - a.detach())


def _published(log_a: Tensor, score: Tensor) -> Tensor:
    log_a = log_a.detach().requires_grad_()
    return torch.autograd.grad((published_weights(log_a) * score).sum(), log_a)[0]


ESTIMATORS = {
    "Saccade": Estimator(False, sampling_weights, _ours),
    "with replacement": Estimator(True, sampling_weights_with_replacement, _again),
    "published": Estimator(False, sampling_weights, _published),
}


def every_draw(log_a: Tensor, n: int, *, again: bool) -> tuple[Tensor, Tensor]:
    """All ordered draws (m, n), and their probabilities (m,)."""
    places = range(len(log_a))
    draws = torch.tensor(list(product(places, repeat=n) if again else permutations(places, n)))
    a = log_a.exp()[draws]
    left = torch.ones_like(a) if again else 1 - (a.cumsum(1) - a)
    return draws, (a / left).prod(1)


def estimates(
    log_a: Tensor, score: Tensor, draws: Tensor, estimator: Estimator
) -> tuple[Tensor, Tensor]:
    """Value (m,) and gradient towards the logits (m, K) that every draw gives."""
    drawn, scores = log_a[draws], score[draws]
    values = (estimator.weigh(drawn) * scores).sum(1)
    towards_log = torch.zeros(len(draws), len(log_a), dtype=log_a.dtype)
    towards_log.scatter_add_(1, draws, estimator.gradient(drawn, scores))
    return values, towards_log - log_a.exp() * towards_log.sum(1, keepdim=True)


def compare(
    log_a: Tensor, score: Tensor, draws: Tensor, share: Tensor, estimator: Estimator
) -> Found:
    """Hold an estimator against the truth over draws of given probability."""
    a = log_a.exp()
    mean = (a * score).sum()
    truth = a * (score - mean)
    values, gradients = estimates(log_a, score, draws, estimator)
    expected = share @ gradients
    length = truth.square().sum()
    spread = (a * (score - mean).square()).sum()
    return Found(
        cosine=float(torch.cosine_similarity(expected, truth, dim=0)),
        bias=float((expected - truth).norm() / length.sqrt()),
        variance=float(share @ (gradients - expected).square().sum(1) / length),
        of_value=float(share @ (values - mean).square() / spread),
    )


def enumerated(spread: float, n: int) -> dict[str, tuple[Found, float]]:
    """Means over random cases, and the least cosine; all estimators meet the same cases."""
    found: dict[str, list[Found]] = {name: [] for name in ESTIMATORS}
    for case in range(CASES):
        generator = torch.Generator().manual_seed(case)
        logits = torch.randn(PLACES, generator=generator, dtype=torch.float64) * spread
        score = torch.randn(PLACES, generator=generator, dtype=torch.float64)
        log_a = logits.log_softmax(0)
        for name, estimator in ESTIMATORS.items():
            draws, share = every_draw(log_a, n, again=estimator.again)
            found[name].append(compare(log_a, score, draws, share, estimator))
    return {
        name: (Found(*torch.tensor(each).mean(0).tolist()), min(one.cosine for one in each))
        for name, each in found.items()
    }


def sampled(log_a: Tensor, n: int) -> dict[str, Found]:
    """The same from many random draws; what is left of a bias is partly chance."""
    generator = torch.Generator().manual_seed(0)
    score = torch.randn(len(log_a), generator=generator, dtype=torch.float64)
    many = log_a.expand(_DRAWS_OF_A_MAP, -1)
    share = torch.full((_DRAWS_OF_A_MAP,), 1 / _DRAWS_OF_A_MAP, dtype=torch.float64)
    found = {}
    for name, estimator in ESTIMATORS.items():
        draw = draw_places_with_replacement if estimator.again else draw_places
        draws = torch.cat([draw(part, n, generator=generator) for part in many.split(500)])
        found[name] = _in_pieces(log_a, score, draws, share, estimator)
    return found


def _in_pieces(
    log_a: Tensor, score: Tensor, draws: Tensor, share: Tensor, estimator: Estimator
) -> Found:
    """`compare`, on the places that were drawn at all: the others have the same gradient each."""
    seen, inverse = draws.unique(return_inverse=True)
    rest = torch.ones(len(log_a), dtype=torch.bool).index_fill_(0, seen, False)
    mass = log_a[rest].exp().sum()
    if mass > 0:  # one place stands for all that were never drawn
        mean_score = (log_a[rest].exp() * score[rest]).sum() / mass
        log_a = torch.cat([log_a[seen], mass.log()[None]])
        score = torch.cat([score[seen], mean_score[None]])
    else:
        log_a, score = log_a[seen], score[seen]
    return compare(log_a, score, inverse, share, estimator)


def log_attention_of(path: Path) -> Tensor:
    """(K,): the log attention of a heatmap, without the places that take no part."""
    import tifffile

    values = torch.tensor(tifffile.imread(path, series=0, level=0), dtype=torch.float64)
    values = values.reshape(-1, *values.shape[-2:])[0].flatten()
    return (values[values > 0] / values.sum()).log()


def _row(name: str, found: Found, least: float | None = None) -> list[str]:
    cosine = f"{found.cosine:.3f}" + ("" if least is None else f" ({least:.2f})")
    return [name, cosine, f"{found.bias:.3f}", f"{found.variance:.2f}", f"{found.of_value:.3f}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--map", type=Path, nargs="*", default=[], help="attention.ome.tif")
    parser.add_argument("--draws", type=int, nargs="*", default=[2, 3, 4], help="n")
    options = parser.parse_args()
    measure.heading(["saccade", "torch"])
    columns = ["estimator", "cosine", "bias", "variance", "variance of the value"]
    for spread in SPREADS:
        for n in options.draws:
            rows = [_row(name, *found) for name, found in enumerated(spread, n).items()]
            title = f"{n} of {PLACES}, logits with a spread of {spread:g}; {CASES} cases, all draws"
            columns[1] = "cosine, mean (least)"
            measure.table(title, columns, rows)
    columns[1] = "cosine"
    for path in options.map:
        log_a = log_attention_of(path)
        top = float(log_a.exp().sort(descending=True).values[:10].sum())
        for n in (10, 32):
            rows = [_row(name, found) for name, found in sampled(log_a, n).items()]
            title = f"{n} of {len(log_a)} ({path.parent.name}; the first ten hold {top:.0%})"
            measure.table(title, columns, rows)


if __name__ == "__main__":
    main()
