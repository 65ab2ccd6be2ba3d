"""Models whose encoders have masks, untrained, and the same numbers each time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from saccade.pipeline.config import ModelConfig
from saccade.pipeline.model_file import ModelCard, save_model
from saccade.pipeline.tasks.classes import Classes
from tests.cohort import TINY

OWN = ModelConfig(encoder="residual_attention")
BEHIND = ModelConfig(encoder="compact", attention_module="spatial")


def write_mask_model(path: Path, model: ModelConfig = OWN) -> Path:
    """A model for tiles of 32 px: with masks of its own, those of a module, or none."""
    torch.manual_seed(0)
    card = ModelCard.of(dataclasses.replace(TINY, model=model), Classes(("a", "b")))
    save_model(path, card.build().state_dict(), card)
    return path
