"""What `saccade mask` can be told beside slide, model and folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from saccade.pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """Which tiles get masks, and what with.

    Attributes:
        tiles: of the draw; as many as in training if None.
        seed: of the draw, which is the one that a prediction with this seed makes.
        all_tissue: all tiles with tissue, side by side, instead of a draw.
        min_tissue: share of a tile that must be tissue then.
        batch: tiles that go through the network together.
        device: cpu, cuda, cuda:1.
        workers: threads that read.
        force: do it again even if the folder holds this very result.

    Raises:
        ConfigError: if a number cannot be, or there is nothing that it would be about.
    """

    tiles: int | None = None
    seed: int = 0
    all_tissue: bool = False
    min_tissue: float = 0.1
    batch: int = 32
    device: str = "cpu"
    workers: int = 2
    force: bool = False

    def __post_init__(self) -> None:
        if self.tiles is not None and self.tiles < 1:
            raise ConfigError(f"tiles must be at least 1, got {self.tiles}.")
        if self.tiles is not None and self.all_tissue:
            raise ConfigError(
                "tiles are counted where they are drawn: leave --tiles or --all-tissue out."
            )
        if not 0 <= self.min_tissue <= 1:
            raise ConfigError(f"min-tissue is a share from 0 to 1, got {self.min_tissue}.")
        if self.batch < 1:
            raise ConfigError(f"batch must be at least 1 tile, got {self.batch}.")

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What the result depends on, beyond the rounding of floating-point numbers."""
        device = {"device": torch.device(self.device).type}
        if self.all_tissue:
            return {"tiles": "all tissue", "min_tissue": self.min_tissue, **device}
        return {"tiles": self.tiles, "seed": self.seed, **device}
