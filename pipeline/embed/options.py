"""What embedding can be told beside slide, network and folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from saccade.pipeline.errors import ConfigError
from saccade.pipeline.model_file import weights_hash


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """Which tiles are embedded, and what with.

    Attributes:
        min_tissue: share of a tile that must be tissue; 0 for all tiles.
        sampler: a trained model; only tiles that it draws are embedded, wherever they lie on its
            attention map, instead of all with tissue.
        tiles: that are drawn; as many as the sampler was trained with if None.
        seed: of the draw; the tiles are those of a prediction with the same seed.
        pyramid: of the slide; one in the folder of results if None, built where it is missing.
        batch: tiles that go through the network together.
        device: cpu, cuda, cuda:1.
        workers: threads that read.
        force: do it again even if the folder holds this very result.

    Raises:
        ConfigError: if a number cannot be, or there is nothing that it would be about.
    """

    min_tissue: float = 0.1
    sampler: Path | None = None
    tiles: int | None = None
    seed: int = 0
    pyramid: Path | None = None
    batch: int = 32
    device: str = "cpu"
    workers: int = 2
    force: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.min_tissue <= 1:
            raise ConfigError(f"min-tissue is a share from 0 to 1, got {self.min_tissue}.")
        if self.batch < 1:
            raise ConfigError(f"batch must be at least 1 tile, got {self.batch}.")
        if self.tiles is not None and self.sampler is None:
            raise ConfigError("tiles are counted where they are drawn: give a --sampler, too.")
        if self.tiles is not None and self.tiles < 1:
            raise ConfigError(f"tiles must be at least 1, got {self.tiles}.")

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What the result depends on, beyond the rounding of floating-point numbers."""
        kind = {"device": torch.device(self.device).type}
        if self.sampler is None:
            return {"min_tissue": self.min_tissue, **kind}
        drawn = {"sampler": weights_hash(self.sampler), "tiles": self.tiles, "seed": self.seed}
        return {**drawn, **kind}
