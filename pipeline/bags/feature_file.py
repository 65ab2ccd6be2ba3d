"""Reading the features of a slide's tiles: HDF5 as CLAM, TRIDENT and Saccade lay it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.errors import FeaturesError
from saccade.tiling.regrid import GriddedTiles, regrid


@dataclass(frozen=True, slots=True, eq=False)
class TileFeatures:
    """The tiles of a slide.

    Attributes:
        features: float32 (tiles, features).
        corners_l0: int64 (tiles, 2), upper-left corners (x, y) in level-0 pixels.
        side_l0: level-0 pixels that a tile spans; None where the file does not say.
        step_l0: level-0 pixels from one tile to the next; likewise.
        encoder: what made the features: the network, and its weights where the file names them;
            empty where it names neither.
    """

    features: NDArray[np.float32]
    corners_l0: NDArray[np.int64]
    side_l0: float | None
    step_l0: float | None
    encoder: str

    def __len__(self) -> int:
        return len(self.features)

    def gridded(self, name: str) -> GriddedTiles:
        """The grid that the tiles lie on.

        Args:
            name: of the slide, for messages.

        Raises:
            FeaturesError: if they lie on none, or the file does not say how wide they are.
        """
        if self.step_l0 is None:
            raise FeaturesError(
                f"{name}: its features do not say how wide a tile is; wanted the attribute "
                "patch_size_level0 of `coords`, or patch_size with downsample, as CLAM writes them."
            )
        try:
            return regrid(self.corners_l0, self.step_l0)
        except ValueError as error:
            raise FeaturesError(
                f"{name}: its tiles do not lie on one grid: {error} Wanted tiles side by side over "
                "the whole slide, as `saccade embed` and TRIDENT lay them; CLAM begins anew with "
                "each piece of tissue, and `saccade predict` draws them here and there. "
                "model.head abmil takes any."
            ) from error


def find_features(folder: Path, slide: str) -> Path:
    """The file of a slide: `<slide>/embedding/features.h5`, `<slide>/features.h5` or `<slide>.h5`.

    In this order: beside a workflow's embedding lie the features that a prediction drew.

    Raises:
        FeaturesError: if there is none.
    """
    own = folder / slide
    wanted = (own / "embedding" / "features.h5", own / "features.h5", folder / f"{slide}.h5")
    for path in wanted:
        if path.is_file():
            return path
    raise FeaturesError(
        f"{slide}: has no features in {folder}; wanted {slide}/features.h5 or "
        f"{slide}/embedding/features.h5, as `saccade embed` writes them, or {slide}.h5."
    )


def read_features(path: Path) -> TileFeatures:
    """Read `features` (n, dims) and `coords` (n, 2).

    A first axis of length 1 before both, as TRIDENT's older files have it, is taken off.

    Raises:
        FeaturesError: if the file cannot be read, holds no tile, other shapes, or numbers that are
            none.
    """
    try:
        with h5py.File(path) as file:
            features = np.asarray(file["features"], np.float32)
            coords = np.asarray(file["coords"])
            said = {**file["coords"].attrs}
            made_by = {**file["features"].attrs}
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise FeaturesError(
            f"{path}: cannot be read as features ({error}); wanted HDF5 with `features` (n, dims) "
            "and `coords` (n, 2)."
        ) from error
    features, coords = (
        rows[0] if rows.ndim == 3 and len(rows) == 1 else rows for rows in (features, coords)
    )
    if features.ndim != 2 or coords.shape != (len(features), 2) or not features.size:
        raise FeaturesError(
            f"{path}: wanted `features` (n, dims) and `coords` (n, 2) of one tile or more, found "
            f"{features.shape} and {coords.shape}."
        )
    if not np.isfinite(features).all():
        raise FeaturesError(f"{path}: has features that are no numbers; make them anew.")
    side = _number(said, "patch_size_level0")
    if side is None and (px := _number(said, "patch_size")) and "downsample" in said:
        side = px * float(np.ravel(said["downsample"])[0])
    encoder = ", ".join(str(made_by[key]) for key in ("encoder", "weights") if key in made_by)
    return TileFeatures(features, coords.astype(np.int64), side, _step(said, side), encoder)


def _number(said: Mapping[str, Any], key: str) -> float | None:
    try:
        number = float(np.ravel(said[key])[0])
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    return number if 0 < number < np.inf else None


def _step(said: Mapping[str, Any], side: float | None) -> float | None:
    """Less than a tile where tiles overlap; TRIDENT says by how many pixels of a tile."""
    overlap, px = _number(said, "overlap"), _number(said, "patch_size")
    if side is None or overlap is None or px is None or overlap >= px:
        return side
    return side * (px - overlap) / px
