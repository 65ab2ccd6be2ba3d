"""From a model's outputs to what people read: the one place that knows what outputs mean.

Classes exclude each other here: the outputs are logits, and a softmax makes probabilities of them.
An interval needs a scale that a sum of tiles is nearly normal on, and the way back from it: that is
the log odds of each class against all others. For two classes it is linear in the logits, for more
its slopes are those at the outcome (the delta method).
"""

from __future__ import annotations

import torch
from torch import Tensor


def read_out(outputs: Tensor) -> Tensor:
    """Probabilities (..., classes), 64-bit, from logits (..., classes)."""
    return outputs.double().softmax(dim=-1)


def scores(outputs: Tensor) -> Tensor:
    """Log odds (classes,) of each class against all others, from logits (classes,)."""
    return outputs - _of_the_others(outputs).logsumexp(dim=1)


def slopes(outputs: Tensor) -> Tensor:
    """How `scores` change with the outputs, (scores, outputs)."""
    others = _of_the_others(outputs).softmax(dim=1)
    return torch.eye(len(outputs), dtype=outputs.dtype, device=outputs.device) - others


def from_scores(values: Tensor) -> Tensor:
    """What people read, from `scores`: the probabilities of log odds."""
    return values.sigmoid()


def leads(outputs: Tensor) -> Tensor:
    """Rows (classes - 1, classes) that take each other class from the most probable one."""
    unit = torch.eye(len(outputs), dtype=outputs.dtype, device=outputs.device)
    first = int(outputs.argmax())
    return (unit[first] - unit)[[i for i in range(len(outputs)) if i != first]]


def _of_the_others(outputs: Tensor) -> Tensor:
    """Row c holds the logits of all classes but c, which is at -inf."""
    own = torch.eye(len(outputs), dtype=torch.bool, device=outputs.device)
    return outputs.expand(len(outputs), -1).masked_fill(own, -torch.inf)
