"""Stages small enough to run in a test, each with something that tiles can get wrong."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saccade.pipeline.stages.scene import ArrayScene
from saccade.pipeline.stages.stage import Stage, StageSpec
from saccade.pipeline.stages.statistics import Extremes, Mean


def spec(**changes: object) -> StageSpec:
    """Tiles of 32 px of a network without stride, at 8 um/px."""
    settings: dict[str, object] = {
        "name": "test",
        "mpp": 8.0,
        "tile_px": 32,
        "stride": 1,
        "margin_px": 4,
        "kind": "evidence",
        "channels": ("a",),
    }
    return StageSpec(**(settings | changes))  # type: ignore[arg-type]


def scene(rows: int, cols: int, *, mpp: float = 8.0, seed: int = 0) -> ArrayScene:
    """Noise, which hides no mistake in a place."""
    pixels = np.random.default_rng(seed).integers(0, 256, (rows, cols, 3), np.uint8)
    return ArrayScene(pixels, content=f"noise {seed}", slide_mpp=(mpp, mpp))


class Plain(Stage):
    """Three convolutions of 3 x 3, two outputs: 3 px around each pixel count."""

    def __init__(self, of: StageSpec | None = None) -> None:
        self.spec = of or spec(channels=("a", "b"))
        torch.manual_seed(0)
        layers = [nn.Conv2d(i, o, 3, padding=1) for i, o in ((3, 8), (8, 8), (8, 2))]
        self.network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).eval()

    def decode(self, features: Tensor, survey: None) -> Tensor:
        return self.network(features.float() / 255)  # type: ignore[no-any-return]


class Strided(Stage):
    """Two convolutions of stride 2 and one more; what comes out has the stride, 4, as its cell."""

    def __init__(self, of: StageSpec | None = None) -> None:
        self.spec = of or spec(stride=4, margin_px=8, cell_px=4)
        torch.manual_seed(1)
        self.network = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 1, 3, padding=1),
        ).eval()

    def decode(self, features: Tensor, survey: None) -> Tensor:
        return self.network(features.float() / 255)  # type: ignore[no-any-return]


class Enlarged(Strided):
    """As `Strided`, each output repeated for all pixels of its cell."""

    def __init__(self, of: StageSpec | None = None) -> None:
        super().__init__(of or spec(stride=4, margin_px=8))

    def decode(self, features: Tensor, survey: None) -> Tensor:
        output = super().decode(features, survey)
        return output.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)


class Contextual(Strided):
    """As `Strided`, but each feature meets the mean of all, and the result is put into [0, 1]."""

    survey = Mean
    closing = Extremes

    def encode(self, tiles: Tensor) -> Tensor:
        return self.network[:3](tiles.float() / 255)  # type: ignore[no-any-return]

    def decode(self, features: Tensor, survey: Mean) -> Tensor:  # type: ignore[override]
        mean = torch.from_numpy(survey.value).float()[None, :, None, None]
        return self.network[4](torch.relu(features * mean))  # type: ignore[no-any-return]

    def finalise(self, values: Tensor, closing: Extremes) -> Tensor:
        low, high = float(closing.low[0]), float(closing.high[0])
        return (values - low) / (high - low)


def values_of(array: object) -> NDArray[np.float32]:
    return np.asarray(array[:])  # type: ignore[index]
