"""How good predicted numbers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error


def regression_metrics(
    found: NDArray[np.floating],
    wanted: NDArray[np.floating],
    names: Sequence[str],
    deviations: Sequence[float],
) -> dict[str, Any]:
    """Errors in the numbers' own units, and how well they follow the truth.

    Args:
        found: (slides, numbers).
        wanted: (slides, numbers), NaN where unknown; what is unknown does not count.
        names: of the numbers.
        deviations: that the loss counts in.

    Returns:
        `loss`, the mean squared error in deviations, of all that is known. `r2` and `spearman`,
        means over the numbers that have them: those that differ between slides. `mae` and `rmse`
        where there is one number only, since a mean of different units says nothing. `by_name`, all
        four for each number of which anything is known.
    """
    known = ~np.isnan(wanted)
    by_name = {
        name: _of_a_number(found[known[:, i], i], wanted[known[:, i], i])
        for i, name in enumerate(names)
        if known[:, i].any()
    }
    shared = ("mae", "rmse", "r2", "spearman") if len(names) == 1 else ("r2", "spearman")
    means = {
        name: float(np.mean([of[name] for of in by_name.values() if name in of]))
        for name in shared
        if any(name in of for of in by_name.values())
    }
    errors = ((found - wanted) / np.array(deviations))[known]
    return {"loss": float((errors**2).mean()), **means, "by_name": by_name}


def _of_a_number(found: NDArray[np.floating], wanted: NDArray[np.floating]) -> dict[str, float]:
    metrics = {
        "mae": float(mean_absolute_error(wanted, found)),
        "rmse": float(root_mean_squared_error(wanted, found)),
    }
    if np.ptp(wanted) > 0:
        metrics["r2"] = float(r2_score(wanted, found))
        if np.ptp(found) > 0:
            metrics["spearman"] = float(spearmanr(wanted, found).statistic)
    return metrics
