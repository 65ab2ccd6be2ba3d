"""How good predicted risks are, where some were followed to the event and others were not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def concordance(
    log_risk: NDArray[np.floating], time: NDArray[np.floating], event: NDArray[np.bool_]
) -> float | None:
    """Share of comparable pairs whose order the risks have right; equal risks count a half.

    A pair is comparable if it is known who had the event first: the one with the shorter time had
    it, or both have the same time and only one had it (Harrell, Califf, Pryor, Lee and Rosati,
    JAMA 247, 1982).

    Args:
        log_risk: (slides,), higher for an earlier event.
        time: (slides,), of the event or of the censoring.
        event: (slides,), False where censored.

    Returns:
        0 to 1, 0.5 by chance; None if there is no comparable pair.
    """
    # It brings autograd and formulaic along, which nobody should wait for who asks something else.
    from lifelines.utils import concordance_index

    later = (time > time[:, None]) | ((time == time[:, None]) & ~event)
    if not (later & event[:, None]).any():
        return None
    return float(concordance_index(time, -log_risk, event))
