"""The contract of a dense stage: what it says of itself, and the three things it does.

    tile --encode--> features --decode--> output --finalise--> the field
              |  survey                |  closing
              +-> statistic of all     +-> statistic of all

Whatever a stage needs to know of the whole view it names as a `survey` of its features or a
`closing` of its output. The runner makes a pass over all tiles for each, so that no tile ever
stands for the whole: a tile's own mean, minimum or softmax would show as seams. Only `finalise`
normalises, pixel by pixel, with numbers of the whole.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from saccade.pipeline.stages.field import FieldKind
from saccade.pipeline.stages.statistics import Statistic
from saccade.pipeline.stages.tile_plan import Shape, TilePlan

_CHUNK_PX = 256  # what is written of a view that goes through whole is cut into such chunks


@dataclass(frozen=True, slots=True)
class StageSpec:
    """What a stage says of itself.

    Attributes:
        name: of the stage, and of its field's files.
        mpp: micrometres per pixel that it looks at.
        tile_px: side of the tiles' cores, pixels.
        stride: pixels per feature; tiles begin at multiples of it.
        margin_px: at least half the width that an output pixel depends on, a multiple of `stride`.
        kind: of the numbers it puts out.
        channels: what they are called.
        cell_px: pixels per output pixel, along each axis; `stride` is a multiple of it.
        whole_px: a view of at most so many pixels goes through in one piece.
        survey_margin_px: the margin that features alone need, if that is less than `margin_px`.
        dtype: what the output is kept in; half as large where its numbers are few.

    Raises:
        ValueError: if tile, margin, stride and cell do not fit each other.
    """

    name: str
    mpp: float
    tile_px: int
    stride: int
    margin_px: int
    kind: FieldKind
    channels: tuple[str, ...]
    cell_px: int = 1
    whole_px: int = 0
    survey_margin_px: int | None = None
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        self.plan((1, 1))
        self.plan((1, 1), survey=True)
        if self.cell_px < 1 or self.stride % self.cell_px or not self.mpp > 0 or not self.channels:
            raise ValueError(f"mpp and cell must be positive and divide the stride, got {self}.")

    def plan(self, shape: Shape, *, survey: bool = False) -> TilePlan:
        """Tiles over a view of (rows, cols), for the survey or to decode; one if it is small."""
        tile_px = self.tile_px
        if shape[0] * shape[1] <= self.whole_px:
            step = math.lcm(self.stride, _CHUNK_PX)
            tile_px = -(-max(shape) // step) * step
        margin_px = self.margin_px
        if survey and self.survey_margin_px is not None:
            margin_px = self.survey_margin_px
        return TilePlan(shape, tile_px, margin_px, self.stride)


class Stage(ABC):
    """A network over a view. Subclasses say `spec`, and `decode`; the rest where they need it.

    Attributes:
        spec: what the stage says of itself.
        survey: what it needs to know of the features of the whole view before it can decode.
        closing: what it needs to know of the output of the whole view before it can finalise.
    """

    spec: StageSpec
    survey: ClassVar[type[Statistic] | None] = None
    closing: ClassVar[type[Statistic] | None] = None

    def encode(self, tiles: Tensor) -> Tensor:
        """Features of tiles, before anything is known of the whole.

        Args:
            tiles: (tiles, channels, rows, cols) as the scene holds them. Rows and columns are
                multiples of the stride but where the view ends.

        Returns:
            (tiles, features, rows / stride, cols / stride), rounded up; the tiles themselves, for
            a stage without a survey, in whatever form `decode` takes.
        """
        return tiles

    @abstractmethod
    def decode(self, features: Tensor, survey: Any) -> Tensor:
        """Output of tiles.

        Args:
            features: what `encode` gave.
            survey: the statistic of the whole view; None if none was asked for.

        Returns:
            (tiles, channels, rows / cell, cols / cell), rounded up; what is there beyond that, at
            the right and the bottom, is cut off.
        """

    def finalise(self, values: Tensor, closing: Any) -> Tensor:
        """Normalise the output (channels, rows, cols), each pixel by itself."""
        return values

    @property
    def weights_hash(self) -> str:
        """`sha256:...` of all networks the stage holds, so that no run goes on with others."""
        digest = hashlib.sha256()
        for name, part in sorted(vars(self).items()):
            if isinstance(part, nn.Module):
                for key, value in part.state_dict().items():
                    digest.update(f"{name}.{key} {value.dtype} {tuple(value.shape)}".encode())
                    digest.update(
                        value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
                    )
        return f"sha256:{digest.hexdigest()}"
