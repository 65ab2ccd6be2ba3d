"""Features whose classes are known: a slide of class b has one tile that says so."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.sheet import SheetRow

SIDE_L0 = 256
SPLITS = ("train",) * 8 + ("val",) * 4 + ("test",) * 4


def write_features(
    path: Path,
    features: NDArray[np.float32],
    corners_l0: NDArray[np.int64],
    *,
    side_l0: int | None = SIDE_L0,
    encoder: str = "known",
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"], file["coords"] = features, corners_l0
        file["features"].attrs["encoder"] = encoder
        if side_l0:
            file["coords"].attrs["patch_size_level0"] = side_l0
    return path


def tissue(seed: int, *, rows: int = 5, cols: int = 6) -> NDArray[np.int64]:
    """Corners of most tiles of a grid, row by row."""
    dice = np.random.default_rng(seed)
    row, col = np.divmod(np.flatnonzero(dice.random(rows * cols) < 0.8), cols)
    return np.stack([col, row], axis=1) * SIDE_L0


def known_features(seed: int, *, positive: bool, count: int) -> NDArray[np.float32]:
    """Noise of four features; on a positive slide the first one is high at one tile."""
    dice = np.random.default_rng(1000 + seed)
    features = dice.normal(size=(count, 4)).astype(np.float32)
    features[:, 0] *= 0.1
    if positive:
        features[count // 2, 0] = 5
    return features


def known_cohort(folder: Path) -> list[SheetRow]:
    """Sixteen slides, a and b in turns, and their features in `folder`; no slide is there."""
    rows = []
    for seed, split in enumerate(SPLITS):
        corners, positive = tissue(seed), bool(seed % 2)
        features = known_features(seed, positive=positive, count=len(corners))
        write_features(folder / f"s{seed}.h5", features, corners)
        rows.append(SheetRow(f"s{seed}", folder / "none.svs", "ab"[positive], f"p{seed}", split))
    return rows
