"""One picture for a person: whether probabilities are what they say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from saccade.pipeline.export.page import DPI, INK, QUIET
from saccade.pipeline.files import atomic_path
from saccade.pipeline.reliability import Bin, calibration_error

_BAR = "#9db4d6"
_Z = 1.96  # of a 95 % interval


def draw_reliability(path: Path, table: Sequence[Bin]) -> None:
    """Draw accuracy over confidence as a PNG: a bar and an interval for each bin, slides above.

    A bar on the diagonal is right as often as it says; below it the model is too sure.

    Args:
        path: where to write.
        table: of at least one bin.
    """
    figure = Figure(figsize=(5.6, 5.4), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=QUIET, lw=1, ls="--", zorder=1)
    for each in table:
        width = each.up_to - each.above
        middle = each.above + width / 2
        axes.bar(middle, each.accuracy, width * 0.92, color=_BAR, zorder=0)
        low, high = _wilson(each.accuracy, each.slides)
        axes.plot([each.confidence] * 2, [low, high], color=INK, lw=1.2, zorder=2)
        axes.plot(each.confidence, each.accuracy, "o", color=INK, ms=4, zorder=3)
        axes.text(middle, 1.02, f"{each.slides}", ha="center", color=QUIET, fontsize=9)
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1.08),
        xlabel="probability of the predicted class",
        ylabel="share of these slides that are right",
    )
    slides = sum(each.slides for each in table)
    axes.set_title(
        f"{slides} slides, expected calibration error {calibration_error(list(table)):.3f}\n"
        "above: slides; lines: 95 % intervals of the share; dashed: as it should be",
        fontsize=9,
        loc="left",
        color=INK,
    )
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": "Saccade"})


def _wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a share of n (Wilson, JASA 22, 1927); it holds for few slides, too."""
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)
