"""Cox's partial likelihood: of those still followed, who has the event next?

Each event is a choice among all who were at risk at that time, with chances in proportion to
`exp(log risk)`; the loss is the mean of its negative log likelihoods. Nothing is assumed of how the
risk changes with time, and only differences of log risks count.

Source: Cox, "Regression Models and Life-Tables", JRSS B 34, 1972, equation 12. Events at the same
time as Efron has it (JASA 72, 1977, section 3): of d events at a time, the l-th (from 0) is chosen
among all at risk, where each of the d counts 1 - l/d. Somebody censored at the time of an event was
at risk.

Deviation: those at risk are the slides of the batch, not all of the training set, whose log risks
cannot be had at once. It is the likelihood of a study of these slides alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class PartialLikelihood:
    """The negative log partial likelihood of a batch, as a sum over its events."""

    def total(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Of log risks (slides, 1), and times and events (slides, 2)."""
        return cox_loss(outputs[:, 0], targets[:, 0], targets[:, 1] > 0)

    def weight(self, targets: Tensor) -> Tensor:
        """How many events there are."""
        return (targets[:, 1] > 0).sum().double()


def cox_loss(log_risk: Tensor, time: Tensor, event: Tensor) -> Tensor:
    """Negative log partial likelihood, the sum over events; 0, with gradient 0, if there is none.

    Takes memory for (events, slides) numbers.

    Args:
        log_risk: (slides,).
        time: (slides,), of the event or of the censoring.
        event: (slides,) bool, False where censored.
    """
    log_risk = log_risk.double()  # in half precision differences would be lost
    happened = event.nonzero().flatten()
    if not len(happened):
        return (log_risk * 0).sum()
    at_risk = time >= time[happened, None]
    tied = event & (time == time[happened, None])
    earlier = tied & (torch.arange(len(time), device=time.device) < happened[:, None])
    gone = earlier.sum(dim=1) / tied.sum(dim=1).double()
    counts = at_risk.double() - tied * gone[:, None]
    log_sums = (log_risk + counts.log()).logsumexp(dim=1)  # log 0 = -inf leaves a slide out
    return (log_sums - log_risk[happened]).sum()
