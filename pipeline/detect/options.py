"""What `saccade detect` can be told beside slide, model and folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from saccade.pipeline.errors import ConfigError
from saccade.tiling.hashing import file_hash

HPF_MM2 = 0.237
"""A high-power field of 40x with field number 22: a circle 0.55 mm across."""


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """Where objects are looked for, and what is made of them.

    Attributes:
        roi: GeoJSON of regions to judge; all tissue of the slide if None.
        places: GeoJSON of places to judge instead, such as the tiles of a prediction: a tile is
            read around each.
        min_tissue: share of what a tile answers for that must be tissue; 0 to judge glass, too.
        min_score: probability from which an object counts.
        tile_px: side of a tile, margins included; one that suits the model if None.
        overlap_px: of neighbouring tiles: at least twice the longest object; by the model if None.
        nms_iou: what two tiles found is one object if their boxes overlap by more than this.
        hpf_mm2: area of a high-power field, for counts by it.
        gzip: compress the GeoJSON.
        most: objects of a GeoJSON file; further ones go to further files. All in one if None.
        crop: take the corner of the slide's bounds, where it has any (MRXS), off the GeoJSON.
        batch: tiles that go through the network together.
        device: cpu, cuda, cuda:1.
        workers: threads that read.
        force: do it again even if the folder holds this very result.

    Raises:
        ConfigError: if a number cannot be, or there are two places to look at.
    """

    roi: Path | None = None
    places: Path | None = None
    min_tissue: float = 0.01
    min_score: float = 0.5
    tile_px: int | None = None
    overlap_px: int | None = None
    nms_iou: float = 0.3
    hpf_mm2: float = HPF_MM2
    gzip: bool = False
    most: int | None = None
    crop: bool = False
    batch: int = 4
    device: str = "cpu"
    workers: int = 2
    force: bool = False

    def __post_init__(self) -> None:
        if self.roi is not None and self.places is not None:
            raise ConfigError("both name what is judged: leave --roi or --places out.")
        for name in ("min_tissue", "min_score", "nms_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"{name.replace('_', '-')} lies between 0 and 1, got {getattr(self, name)}."
                )
        if not 0 < self.hpf_mm2 < math.inf:
            raise ConfigError(f"hpf-mm2 must be a positive area, got {self.hpf_mm2}.")
        for name, least in (("tile_px", 1), ("overlap_px", 0), ("most", 1), ("batch", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name.removesuffix('_px')}: at least {least}, got {value}.")

    @property
    def region(self) -> Path | None:
        """The file that says where to look."""
        return self.roi or self.places

    @property
    def of_search(self) -> Mapping[str, Any]:
        """What the objects that tiles find depend on."""
        return {
            "where": "tissue" if self.region is None else "roi" if self.roi else "places",
            "region": None if self.region is None else file_hash(self.region),
            "min_tissue": self.min_tissue,
            "min_score": self.min_score,
            "batch": self.batch,
            "device": torch.device(self.device).type,
        }

    @property
    def of_files(self) -> Mapping[str, Any]:
        """What the files depend on besides."""
        names = "nms_iou", "hpf_mm2", "gzip", "most", "crop"
        return {name: getattr(self, name) for name in names}
