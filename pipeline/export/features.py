"""Features of tiles in HDF5, as CLAM and TRIDENT lay them out, so that their models can be trained.

Sources: github.com/mahmoodlab/CLAM (`wsi_core`, `dataset_h5.py`) and github.com/mahmoodlab/TRIDENT
(`trident/IO.py`); both read `features` and `coords` by name and the rest as attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.files import atomic_path
from saccade.tiling.slide import Slide

_ROWS_PER_CHUNK = 1024
_MPP_OF_1X = 10.0  # the field's convention: 1 um a pixel is called 10x, 0.5 is 20x, 0.25 is 40x


class SquareTiles(Protocol):
    """Square tiles of a slide, such as `Places` and `TissueTiles`."""

    @property
    def corners_l0(self) -> NDArray[np.int64]:
        """Upper-left corners (x, y), level-0 pixels, (n, 2)."""

    @property
    def side_px(self) -> int:
        """Edge length, pixels at `mpp`."""

    @property
    def mpp(self) -> float:
        """Micrometres per pixel at which they are read."""

    @property
    def side_l0(self) -> tuple[float, float]:
        """Level-0 pixels (x, y) that one spans."""


def write_features_h5(
    path: Path,
    features: NDArray[np.floating[Any]],
    tiles: SquareTiles,
    slide: Slide,
    *,
    encoder: str,
) -> None:
    """Write `features` (n, dims) float32 and `coords` (n, 2) int64, level-0 corners (x, y).

    CLAM means by `patch_size` pixels of the level `patch_level`, TRIDENT pixels at the target
    magnification. They agree where the slide has a level of the tiles' mpp; only there are CLAM's
    `patch_level` and `downsample` written. Elsewhere CLAM can train on the features, and a try to
    read the tiles again stops at the missing attribute instead of reading others.

    Args:
        path: where to write.
        features: (n, dims), in the order of `tiles`.
        tiles: where they are.
        slide: where the tiles come from.
        encoder: name of the network that made the features.

    Raises:
        ValueError: if there is not one finite row of features per tile.
    """
    if features.ndim != 2 or len(features) != len(tiles.corners_l0):
        raise ValueError(
            f"features need one row per tile, shape ({len(tiles.corners_l0)}, dims), "
            f"but have shape {features.shape}."
        )
    if not np.isfinite(features).all():
        raise ValueError("features must be finite; a model would learn nothing from NaN.")
    dims = features.shape[1]
    write_feature_blocks(path, [features], dims, tiles, slide, about={"encoder": encoder})


def write_feature_blocks(
    path: Path,
    blocks: Iterable[NDArray[np.floating[Any]]],
    dims: int,
    tiles: SquareTiles,
    slide: Slide,
    *,
    about: Mapping[str, Any],
) -> None:
    """Write what `write_features_h5` does, from blocks of rows, one in memory at a time.

    Args:
        path: where to write.
        blocks: (any, dims) each; together a row for each tile, in the order of `tiles`.
        dims: length of a row.
        tiles: where they are.
        slide: where the tiles come from.
        about: attributes of `features`.
    """
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        table = _dataset(file, "features", (len(tiles.corners_l0), dims), np.float32)
        done = 0
        for block in blocks:
            table[done : done + len(block)] = block
            done += len(block)
        assert done == len(table), f"{done} rows of {len(table)}"
        table.attrs.update(name=slide.name, **about)
        coords = _dataset(file, "coords", tiles.corners_l0.shape, np.int64)
        coords[:] = tiles.corners_l0
        coords.attrs.update(_coords_attributes(tiles, slide))


def _dataset(file: h5py.File, name: str, shape: tuple[int, ...], kind: type) -> h5py.Dataset:
    chunks = (min(shape[0], _ROWS_PER_CHUNK), shape[1])
    return file.create_dataset(name, shape, kind, chunks=chunks if shape[0] else None)


def _coords_attributes(tiles: SquareTiles, slide: Slide) -> dict[str, Any]:
    width, height = slide.size_l0
    attributes: dict[str, Any] = {
        "name": Path(slide.name).stem,
        "patch_size": tiles.side_px,
        "patch_size_level0": round(tiles.side_l0[0]),
        "level0_magnification": slide.info.objective_power or _magnification(slide.mpp[0]),
        "target_magnification": _magnification(tiles.mpp),
        "overlap": 0,
        "savetodir": "",
        "save_path": "",
        "level0_width": width,
        "level0_height": height,
        "level_dim": (width, height),
    }
    level = slide.level_for(tiles.mpp / slide.mpp[0])
    downsample = slide.levels[level].downsample
    if np.isclose(downsample * slide.mpp[0], tiles.mpp, rtol=0.01):
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
