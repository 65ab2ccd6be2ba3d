"""What a value and a log risk share: one output, linear in the tiles, that names nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.pipeline.tasks.task import Numbers


class OneNumber:
    """A single output."""

    __slots__ = ()

    def scores(self, outputs: Tensor) -> Tensor:
        """The output is a sum of tiles already."""
        return outputs

    def slopes(self, outputs: Tensor) -> Tensor:
        """The score is the output."""
        return torch.eye(len(outputs), dtype=outputs.dtype, device=outputs.device)

    def leads(self, outputs: Tensor) -> Tensor:
        """None, (0, 1): nothing is named that other tiles could name otherwise."""
        return outputs.new_zeros(0, len(outputs))

    def leading(self, read: Numbers) -> int:
        """There is but one; the tiles that raise it come first."""
        return 0
