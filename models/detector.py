"""What every detector does: find objects in tiles, and learn from tiles whose objects are known.

Boxes here are edges, (x1, y1, x2, y2) from the upper left corner of the tile: a box over its whole
first row of 8 pixels is (0, 0, 8, 1). Some detectors count otherwise inside.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from saccade.models.encoders import rest
from saccade.models.pixels import Tiles


class Found(NamedTuple):
    """Objects found in a tile."""

    boxes: Float[Tensor, "n 4"]
    """Edges (x1, y1, x2, y2) in pixels of the tile, within it."""
    scores: Float[Tensor, " n"]
    """Probability of the class."""
    classes: Int64[Tensor, " n"]
    """From 0 on."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """All objects that are in a tile; there may be none.

    Attributes:
        boxes: edges (x1, y1, x2, y2) in pixels of the tile, within it; shape (0, 4) for none.
        classes: what each is, from 0 on.

    Raises:
        ValueError: if there are not as many boxes as classes, a box is less than a pixel wide or
            high, or a class is negative.
    """

    boxes: Float[Tensor, "_ 4"]
    classes: Int64[Tensor, " _"]

    def __post_init__(self) -> None:
        if self.boxes.shape != (len(self.classes), 4):
            raise ValueError(
                f"{len(self.classes)} objects need boxes of shape ({len(self.classes)}, 4), "
                f"got {tuple(self.boxes.shape)}."
            )
        narrow = ~(self.boxes[:, 2:] - self.boxes[:, :2] >= 1).all(dim=1)
        if narrow.any():
            number = int(narrow.nonzero()[0])
            raise ValueError(
                f"box {number}, {self.boxes[number].tolist()}, is less than a pixel wide or high; "
                "leave such objects out."
            )
        if (self.classes < 0).any():
            raise ValueError(f"classes count from 0, got {int(self.classes.min())}.")

    def to(self, device: torch.device) -> "Known":
        """The same on a device."""
        return Known(self.boxes.to(device), self.classes.to(device))


class Detector(nn.Module, ABC):
    """Finds objects in tiles."""

    def __init__(self) -> None:
        super().__init__()
        self._frozen: frozenset[str] = frozenset()

    @property
    @abstractmethod
    def backbone(self) -> nn.Module:
        """The part that looks at pixels first, and may have learned elsewhere."""

    @abstractmethod
    def find(self, tiles: Tiles, *, min_score: float = 0.05) -> list[Found]:
        """Objects of each tile, in no promised order.

        Args:
            tiles: RGB in [0, 1] or bytes.
            min_score: probability that a class needs to be named.
        """

    @abstractmethod
    def loss(
        self, tiles: Tiles, known: Sequence[Known], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, ""]:
        """How wrong the detector is about tiles whose objects are known.

        Args:
            tiles: RGB in [0, 1] or bytes.
            known: objects of each tile.
            generator: source of randomness, on the CPU; None for torch's own.

        Raises:
            ValueError: if tiles and objects do not fit together.
        """

    def freeze(self, names: Iterable[str]) -> None:
        """Keep parameters of the backbone as they are, and what belongs to them at rest.

        Frozen layers are in evaluation mode from the next `train()` on: without dropout, and with
        batch norms that neither look at the batch nor change their statistics.
        """
        self._frozen = frozenset(names)
        for name in self._frozen:
            self.backbone.get_parameter(name).requires_grad_(False)

    def train(self, mode: bool = True) -> "Detector":
        """Set training mode, but for what is frozen."""
        super().train(mode)
        if self._frozen:
            rest(self.backbone, self._frozen)
        return self
