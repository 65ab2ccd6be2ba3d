"""What `saccade segment` can be told beside slide, model and folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from saccade.pipeline.errors import ConfigError
from saccade.pipeline.stages.segmentation import OVERLAP_PX
from saccade.tiling.hashing import file_hash


@dataclass(frozen=True, slots=True)
class SegmentOptions:
    """Where a slide is segmented, and what is made of it.

    Attributes:
        roi: GeoJSON of regions to judge; all tissue of the slide if None.
        places: GeoJSON of places to judge instead, such as the tiles of a prediction.
        min_tissue: share of a block of about 32 um that must be tissue; 0 to judge glass, too.
        tile_px: side of the tiles; one that suits the network if None.
        overlap_px: what tiles see around themselves where the network has no exact margin.
        min_area_um2: patches and holes that are smaller are left out of the outlines.
        min_object_um2: objects that are smaller are left out.
        simplify_px: how far outlines may stray from the cells, pixels of the model's scale.
        batch: tiles that go through the network together.
        device: cpu, cuda, cuda:1.
        workers: threads that read.
        force: do it again even if the folder holds this very result.

    Raises:
        ConfigError: if a number cannot be, or there are two places to look at.
    """

    roi: Path | None = None
    places: Path | None = None
    min_tissue: float = 0.1
    tile_px: int | None = None
    overlap_px: int = OVERLAP_PX
    min_area_um2: float = 100.0
    min_object_um2: float = 5.0
    simplify_px: float = 1.5
    batch: int = 1
    device: str = "cpu"
    workers: int = 2
    force: bool = False

    def __post_init__(self) -> None:
        if self.roi is not None and self.places is not None:
            raise ConfigError("both name what is judged: leave --roi or --places out.")
        if not 0 <= self.min_tissue <= 1:
            raise ConfigError(f"min-tissue is a share from 0 to 1, got {self.min_tissue}.")
        if self.batch < 1 or (self.tile_px is not None and self.tile_px < 1) or self.overlap_px < 0:
            raise ConfigError(f"tile, overlap and batch must be positive, got {self}.")
        lengths = self.min_area_um2, self.min_object_um2, self.simplify_px
        if not all(0 <= each < math.inf for each in lengths):
            raise ConfigError(
                f"min-area, min-object and simplify must not be negative, got {lengths}."
            )

    @property
    def region(self) -> Path | None:
        """The file that says where to look."""
        return self.roi or self.places

    @property
    def of_field(self) -> Mapping[str, Any]:
        """What the probabilities depend on."""
        return {
            "where": "tissue" if self.region is None else "roi" if self.roi else "places",
            "region": None if self.region is None else file_hash(self.region),
            "min_tissue": self.min_tissue,
            "tile_px": self.tile_px,
            "overlap_px": self.overlap_px,
            "batch": self.batch,
            "device": torch.device(self.device).type,
        }

    @property
    def of_outlines(self) -> Mapping[str, Any]:
        """What the outlines depend on besides."""
        return {
            "min_area_um2": self.min_area_um2,
            "min_object_um2": self.min_object_um2,
            "simplify_px": self.simplify_px,
        }
