"""What a prediction can be told beside slide, model and folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from saccade.pipeline.errors import ConfigError
from saccade.pipeline.prior import Prior

EXPLORED = 0.2
"""Share of the proposal that follows a prior, if nothing else is said: weights stay below 1.25."""


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """How to draw tiles, and what to do it with.

    Attributes:
        tiles: of a draw; as many as in training if None. With `until_sure` at most so many.
        seed: of the draws. The same slide, model and options give the same prediction.
        device: cpu, cuda, cuda:1.
        workers: threads that read.
        force: predict again even if the folder holds this very prediction.
        repeats: independent draws, whose mean is the outcome.
        top: read the most attended tiles instead of drawing; no chance, but a bias.
        until_sure: read on until the predicted class leads each other one by this much beyond
            one half, and another draw would not change that; None to read what `tiles` says.
        prior: says where on the slide tiles are drawn as well, whatever the attention.
        explore: share of the proposal that follows the prior, evenly over the tissue without one;
            `EXPLORED` if None and there is a prior. What tiles weigh makes up for it.
    """

    tiles: int | None = None
    seed: int = 0
    device: str = "cpu"
    workers: int = 2
    force: bool = False
    repeats: int = 1
    top: bool = False
    until_sure: float | None = None
    prior: Prior | None = None
    explore: float | None = None

    def __post_init__(self) -> None:
        if self.tiles is not None and self.tiles < 1:
            raise ConfigError(f"tiles must be at least 1, got {self.tiles}.")
        if self.repeats < 1:
            raise ConfigError(f"repeats must be at least 1, got {self.repeats}.")
        if self.until_sure is not None and not 0 <= self.until_sure < 0.5:
            raise ConfigError(
                f"until-sure wants a margin of at least 0 and below 0.5, got {self.until_sure:g}: "
                "0 to name a class, 0.2 for one that has 70 % against each other class."
            )
        if self.explore is not None and not 0 <= self.explore < 1:
            raise ConfigError(
                f"explore is a share of at least 0 and below 1, got {self.explore:g}."
            )
        if self.prior is not None and self.explore == 0:
            raise ConfigError(
                "explore 0 draws nothing from the prior: leave explore out for "
                f"{EXPLORED:g}, or leave the prior out."
            )
        self._check_modes()

    def _check_modes(self) -> None:
        if self.top and self.repeats > 1:
            raise ConfigError("the most attended tiles are always the same: leave repeats out.")
        if self.top and self.share_explored:
            raise ConfigError(
                "the most attended tiles are chosen by attention alone: leave prior and explore "
                "out, or top."
            )
        if self.top and self.until_sure is not None:
            raise ConfigError(
                "top and until-sure exclude each other: how sure a prediction is, only draws tell. "
                "Leave top out."
            )
        if self.repeats > 1 and self.until_sure is not None:
            raise ConfigError(
                "repeats and until-sure exclude each other: until-sure makes one draw longer and "
                "longer, which tells more than draws beside it. Leave repeats out."
            )

    @property
    def share_explored(self) -> float:
        """Share of the proposal that does not follow the attention."""
        if self.explore is None:
            return 0.0 if self.prior is None else EXPLORED
        return self.explore

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What the result depends on."""
        return {
            "tiles": self.tiles,
            "seed": self.seed,
            "repeats": self.repeats,
            "top": self.top,
            "until_sure": self.until_sure,
            "prior": None if self.prior is None else self.prior.hash,
            "explore": self.share_explored,
            "device": torch.device(self.device).type,
        }
