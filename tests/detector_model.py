"""A detector that has learned nothing, for tests of everything around it."""

from __future__ import annotations

from pathlib import Path

import torch

from saccade.pipeline.detection.model_file import DetectionCard, save_detection_model


def write_detector(path: Path) -> Path:
    """Tiles of 64 px at 0.5 um/px; it gives a few boxes of two classes, wherever."""
    torch.manual_seed(0)
    card = DetectionCard(
        mpp=0.5,
        classes=("nucleus", "mitosis"),
        network="faster_rcnn:test_resnet",
        options={"stride": 8, "sides_px": [8, 16], "hidden": 16, "most": 20},
        tile_px=64,
    )
    save_detection_model(path, card.build().state_dict(), card)
    return path
