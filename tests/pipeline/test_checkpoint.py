"""What a checkpoint holds comes back as it was."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from saccade.pipeline.checkpoint import RunState, load_checkpoint, save_checkpoint
from saccade.pipeline.tally import Tally
from saccade.pipeline.tasks.labels import Labels


def test_an_epoch_under_way_still_knows_what_is_unknown(tmp_path: Path) -> None:
    """Labels without an answer are NaN in the tally, and no metric may count them afterwards."""
    tally = Tally(
        steps=2,
        losses=[0.7, 0.6],
        norms=[1.0, 2.0],
        seen=[1, 2],
        outputs=[[2.0, -1.0], [-3.0, 9.0], [0.5, -0.25]],
        targets=[[1.0, 0.0], [0.0, math.nan], [math.nan, 0.0]],
        tiles=12,
        rate=1e-3,
    )
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    path = tmp_path / "checkpoint.pt"

    save_checkpoint(path, RunState(under_way=tally), model, optimizer, "inputs")
    found = load_checkpoint(path, model, optimizer, "inputs").under_way

    assert repr(found) == repr(tally)  # which tells NaN from no other number, unlike ==
    task = Labels(("tumour", "necrosis"))
    assert found.metrics(task) == tally.metrics(task)
    assert found.metrics(task)["accuracy"] == 1
