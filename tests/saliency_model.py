"""A saliency model small enough to run in a test."""

from __future__ import annotations

from pathlib import Path

import torch

from saccade.pipeline.saliency_model import SaliencyCard, save_saliency_model

NARROW = SaliencyCard(
    mpp=8.0,
    widths=(4, 4, 6, 6, 6),
    context_width=4,
    decoder_widths=(4, 4, 4),
)


def write_narrow_model(path: Path, card: SaliencyCard = NARROW) -> Path:
    """All layers of MSI-Net with few channels, and the same numbers each time."""
    torch.manual_seed(0)
    save_saliency_model(path, card.build().state_dict(), card)
    return path
