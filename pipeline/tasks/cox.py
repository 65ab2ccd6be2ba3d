"""Cox's partial likelihood: of those still followed, who has the event next?

Each event is a choice among all who were at risk at that time, with chances in proportion to
`exp(log risk)`; the loss is the mean of its negative log likelihoods. Nothing is assumed of how the
risk changes with time, and only differences of log risks count.

Source: Cox, "Regression Models and Life-Tables", JRSS B 34, 1972, equation 12. Events at the same
time as Efron has it (JASA 72, 1977, section 3): of d events at a time, the l-th (from 0) is chosen
among all at risk, where each of the d counts 1 - l/d. Somebody censored at the time of an event was
at risk.

Concordance is that of Harrell, Califf, Pryor, Lee and Rosati (JAMA 247, 1982).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def cox_loss(log_risk: Tensor, time: Tensor, event: Tensor) -> Tensor:
    """Mean negative log partial likelihood of the events; 0, with gradient 0, if there is none.

    Takes memory for (events, slides) numbers.

    Args:
        log_risk: (slides,).
        time: (slides,), of the event or of the censoring.
        event: (slides,) bool, False where censored.
    """
    log_risk = log_risk.double()  # a batch in half precision would lose the differences
    happened = event.nonzero().flatten()
    if not len(happened):
        return (log_risk * 0).sum()
    at_risk = time >= time[happened, None]
    tied = event & (time == time[happened, None])
    earlier = tied & (torch.arange(len(time), device=time.device) < happened[:, None])
    gone = earlier.sum(dim=1) / tied.sum(dim=1).double()
    counts = at_risk.double() - tied * gone[:, None]
    log_sums = (log_risk + counts.log()).logsumexp(dim=1)  # log 0 = -inf leaves a slide out
    return (log_sums - log_risk[happened]).mean()


def concordance(
    log_risk: NDArray[np.floating], time: NDArray[np.floating], event: NDArray[np.bool_]
) -> float | None:
    """Share of comparable pairs whose order the risks have right; equal risks count a half.

    A pair is comparable if it is known who had the event first: the one with the shorter time had
    it, or both have the same time and only one had it. None if there is no such pair.
    """
    later = (time > time[:, None]) | ((time == time[:, None]) & ~event)
    pairs = later & event[:, None]
    if not pairs.any():
        return None
    mine, theirs = log_risk[:, None], log_risk[None]
    right = (mine > theirs) + 0.5 * (mine == theirs)
    return float(right[pairs].mean())
