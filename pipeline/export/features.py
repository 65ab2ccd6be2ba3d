"""Features of tiles in HDF5, as CLAM and TRIDENT lay them out, so that their models can be trained.

Sources: github.com/mahmoodlab/CLAM (`wsi_core`, `dataset_h5.py`) and github.com/mahmoodlab/TRIDENT
(`trident/IO.py`); both read `features` and `coords` by name and the rest as attributes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.files import atomic_path
from saccade.tiling.places import Places
from saccade.tiling.slide import Slide

_ROWS_PER_CHUNK = 1024
_MPP_OF_1X = 10.0  # the field's convention: 1 um a pixel is called 10x, 0.5 is 20x, 0.25 is 40x


def write_features_h5(
    path: Path, features: NDArray[np.floating[Any]], places: Places, slide: Slide, *, encoder: str
) -> None:
    """Write `features` (n, dims) float32 and `coords` (n, 2) int64, level-0 corners (x, y).

    CLAM means by `patch_size` pixels of the level `patch_level`, TRIDENT pixels at the target
    magnification. They agree where the slide has a level of the tiles' mpp; only there are CLAM's
    `patch_level` and `downsample` written. Elsewhere CLAM can train on the features, and a try to
    read the tiles again stops at the missing attribute instead of reading others.

    Args:
        path: where to write.
        features: (n, dims), in the order of `places`.
        places: the tiles.
        slide: where the tiles come from.
        encoder: name of the network that made the features.

    Raises:
        ValueError: if there is not one finite row of features per place.
    """
    if features.ndim != 2 or len(features) != len(places):
        raise ValueError(
            f"features need one row per tile, shape ({len(places)}, dims), "
            f"but have shape {features.shape}."
        )
    if not np.isfinite(features).all():
        raise ValueError("features must be finite; a model would learn nothing from NaN.")
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        table = _dataset(file, "features", features.astype(np.float32))
        table.attrs.update(name=slide.name, encoder=encoder)
        coords = _dataset(file, "coords", places.corners_l0.astype(np.int64))
        coords.attrs.update(_coords_attributes(places, slide))


def _dataset(file: h5py.File, name: str, rows: NDArray[Any]) -> h5py.Dataset:
    chunks = (min(len(rows), _ROWS_PER_CHUNK), rows.shape[1])
    return file.create_dataset(name, data=rows, chunks=chunks if len(rows) else None)


def _coords_attributes(places: Places, slide: Slide) -> dict[str, Any]:
    width, height = slide.size_l0
    attributes: dict[str, Any] = {
        "name": Path(slide.name).stem,
        "patch_size": places.side_px,
        "patch_size_level0": round(places.side_l0[0]),
        "level0_magnification": slide.info.objective_power or _magnification(slide.mpp[0]),
        "target_magnification": _magnification(places.mpp),
        "overlap": 0,
        "savetodir": "",
        "save_path": "",
        "level0_width": width,
        "level0_height": height,
        "level_dim": (width, height),
    }
    level = slide.level_for(places.mpp / slide.mpp[0])
    downsample = slide.levels[level].downsample
    if np.isclose(downsample * slide.mpp[0], places.mpp, rtol=0.01):
        shape = slide.levels[level]
        attributes |= {
            "patch_level": level,
            "downsample": (downsample, downsample),
            "downsampled_level_dim": (shape.width, shape.height),
        }
    return attributes


def _magnification(mpp: float) -> float:
    magnification = round(_MPP_OF_1X / mpp, 2)
    return int(magnification) if magnification.is_integer() else magnification
