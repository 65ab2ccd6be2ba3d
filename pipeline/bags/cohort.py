"""The slides of a run over features; those whose features cannot be used are named and left out.

Each file is read once here, for its hash and for the scale of the features, and again at every
epoch: memory is that of one slide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.pipeline.bags.config import HeadConfig
from saccade.pipeline.bags.feature_file import TileFeatures, find_features, read_features
from saccade.pipeline.bags.model_file import BagCard
from saccade.pipeline.errors import FeaturesError, SheetError
from saccade.pipeline.sheet import SheetRow
from saccade.tiling.hashing import file_hash


@dataclass(frozen=True, slots=True)
class Bag:
    """A slide whose features lie in a file, with the index of its class.

    Attributes:
        name: of the slide.
        path: of its features.
        label: index of its class.
    """

    name: str
    path: Path
    label: int


@dataclass(frozen=True, slots=True)
class Bags:
    """What a run over features sees.

    Attributes:
        train: slides to fit.
        val: slides to choose the best epoch by; may be empty.
        test: slides that are held out; may be empty.
        hashes: content hash of the features of each, by name.
        failures: what was wrong with each slide that was left out, by name.
        card: what a model of them is.
        mean: float64 (features,), over all tiles of the training slides.
        std: likewise, of the deviation from it.
    """

    train: list[Bag]
    val: list[Bag]
    test: list[Bag]
    hashes: dict[str, str]
    failures: dict[str, str]
    card: BagCard
    mean: NDArray[np.float64]
    std: NDArray[np.float64]


def load_bags(
    rows: Sequence[SheetRow],
    classes: Sequence[str],
    folder: Path,
    model: HeadConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Bags:
    """Look through the features of every labelled slide that has a split.

    Args:
        rows: of the sheet; slides without a label or a split are passed over.
        classes: names in the order of their indices.
        folder: that holds the features.
        model: the head that they have to suit.
        progress: called with (done, all).

    Raises:
        SheetError: if fewer than two classes, or no training slide, can be used.
    """
    wanted = [row for row in rows if row.label and row.split]
    parts: dict[str, list[Bag]] = {"train": [], "val": [], "test": []}
    hashes, failures, scale = dict[str, str](), dict[str, str](), _Scale()
    card: BagCard | None = None
    for done, row in enumerate(wanted, start=1):
        try:
            path = find_features(folder, row.slide)
            tiles = read_features(path)
            card = card or BagCard(tuple(classes), tiles.features.shape[1], tiles.encoder, model)
            card.check(tiles, row.slide)
            cells_of(tiles, model, row.slide)
        except FeaturesError as error:
            failures[row.slide] = str(error)
        else:
            parts[row.split].append(Bag(row.slide, path, classes.index(row.label)))
            hashes[row.slide] = file_hash(path)
            if row.split == "train":
                scale.add(tiles.features)
        if progress:
            progress(done, len(wanted))
    _check(parts["train"], classes, failures)
    assert card is not None
    mean, std = scale.mean_and_std()
    return Bags(parts["train"], parts["val"], parts["test"], hashes, failures, card, mean, std)


def cells_of(tiles: TileFeatures, model: HeadConfig, name: str) -> NDArray[np.int64]:
    """Row and column of each tile; for a head that asks for no grid, all 0.

    Raises:
        FeaturesError: if the head asks for a grid, and the tiles lie on none.
    """
    if model.head == "abmil":
        return np.zeros((len(tiles), 2), np.int64)
    return tiles.gridded(name).cells


def tensors_of(bag: Bag, card: BagCard) -> tuple[Tensor, Tensor]:
    """Features and cells of a slide, as heads take them.

    Raises:
        FeaturesError: if the file is no longer as it was.
    """
    tiles = read_features(bag.path)
    card.check(tiles, bag.name)
    cells = cells_of(tiles, card.model, bag.name)
    return torch.from_numpy(tiles.features), torch.from_numpy(cells)


class _Scale:
    """Mean and deviation of features, one slide after the other."""

    def __init__(self) -> None:
        self._count: float = 0
        self._total: NDArray[np.float64] | float = 0.0
        self._squares: NDArray[np.float64] | float = 0.0

    def add(self, features: NDArray[np.float32]) -> None:
        wide = features.astype(np.float64)
        self._count += len(wide)
        self._total = self._total + wide.sum(axis=0)
        self._squares = self._squares + (wide * wide).sum(axis=0)

    def mean_and_std(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        mean = np.asarray(self._total / self._count)
        return mean, np.sqrt(np.maximum(self._squares / self._count - mean * mean, 0))


def _check(train: Sequence[Bag], classes: Sequence[str], failures: Mapping[str, str]) -> None:
    found = {bag.label for bag in train}
    missing = [name for i, name in enumerate(classes) if i not in found]
    if len(classes) < 2 or missing:
        reasons = "".join(f"\n  {slide}: {reason}" for slide, reason in failures.items())
        lacking = f"none of {', '.join(missing)}" if missing else f"only {len(classes)} class"
        raise SheetError(
            "training wants slides with split `train` of at least two classes; found features of "
            f"{len(train)}, {lacking}.{reasons}"
        )
