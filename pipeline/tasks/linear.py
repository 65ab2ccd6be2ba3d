"""What tasks share whose outputs people could read as they are: each is a sum over tiles."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from saccade.pipeline.tasks.task import Numbers


class Linear:
    """Outputs that stand for themselves, one by one."""

    __slots__ = ()

    def evidence(self, outputs: Tensor) -> Tensor:
        """What the tile alone gives. Weighted and summed, plus the bias, it is the output."""
        return outputs

    def calibration(self, outputs: Numbers, targets: Numbers) -> dict[str, Any]:
        """Nothing: a temperature is defined for classes that exclude each other."""
        return {}

    def scores(self, outputs: Tensor) -> Tensor:
        """The outputs are sums of tiles already."""
        return outputs

    def slopes(self, outputs: Tensor) -> Tensor:
        """Each score is an output."""
        return torch.eye(len(outputs), dtype=outputs.dtype, device=outputs.device)

    def leads(self, outputs: Tensor) -> Tensor:
        """None, (0, outputs): nothing is named that other tiles could name otherwise."""
        return outputs.new_zeros(0, len(outputs))

    def leading(self, read: Numbers) -> int:
        """The first; the tiles that raise it come first."""
        return 0
