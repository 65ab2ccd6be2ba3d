"""Segmentation models for tests: a small random one in a file, and one that knows what it sees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from saccade.pipeline.segment import run
from saccade.pipeline.segmentation.model_file import (
    SegmentationCard,
    load_segmentation_model,
    save_segmentation_model,
)

SMALL = SegmentationCard(
    mpp=1.0,
    classes=("background", "gland", "nucleus"),
    network="fcn:test_resnet",
    options={"finest": 4},
    instances="nucleus",
    tile_px=64,
)


def write_small_model(path: Path, card: SegmentationCard = SMALL) -> Path:
    """A narrow FCN on a trunk of timm; scores differ from place to place."""
    torch.manual_seed(0)
    network = card.build()
    for name, weights in network.named_parameters():
        if name.startswith("scores"):
            nn.init.normal_(weights, std=3.0)
    save_segmentation_model(path, network.state_dict(), card)
    return path


class Seer(nn.Module):
    """Sees what was painted: nuclei in blue, glands in red, by the mean of 3 x 3 pixels.

    Args:
        exact: whether it has a margin.
    """

    stride = 4

    def __init__(self, exact: bool = True) -> None:
        super().__init__()
        self._exact = exact

    @property
    def margin(self) -> int:
        if not self._exact:
            raise ValueError("it looks at all of the view.")
        return 4

    def forward(self, pixels: Tensor) -> Tensor:
        red, _, blue = F.avg_pool2d(pixels.float(), 3, 1, 1, count_include_pad=False).unbind(1)
        none = torch.zeros_like(red)
        return torch.stack([none, (127.5 - blue) / 8, (127.5 - red) / 8], dim=1)


def use_seer(patch: pytest.MonkeyPatch, *, exact: bool = True) -> None:
    """Let `saccade segment` have a `Seer` for whatever model it loads."""

    def load(path: Path, device: str) -> tuple[nn.Module, SegmentationCard]:
        return Seer(exact), load_segmentation_model(path, device)[1]

    patch.setattr(run, "load_segmentation_model", load)
