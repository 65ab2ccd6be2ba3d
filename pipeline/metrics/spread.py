"""Mean and spread of metrics over the folds of a cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def spread(folds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation of each metric over the folds that have it.

    Each fold counts equally. What is no float is passed over.

    >>> spread([{"fold": 0, "auc": 0.75}, {"fold": 1, "auc": 1.0}, {"fold": 2}])
    {'auc': {'mean': 0.875, 'sd': 0.1767766952966369, 'folds': 2}}
    """
    names = sorted({name for fold in folds for name, v in fold.items() if isinstance(v, float)})
    values = {name: [fold[name] for fold in folds if name in fold] for name in names}
    return {
        name: {
            "mean": float(np.mean(each)),
            "sd": float(np.std(each, ddof=1)) if len(each) > 1 else None,
            "folds": len(each),
        }
        for name, each in values.items()
    }
