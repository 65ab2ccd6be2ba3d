"""The state of a training run between two steps, on disk. Loading executes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from saccade.pipeline.errors import ResultsError
from saccade.pipeline.files import atomic_path
from saccade.pipeline.tally import Tally

CHECKPOINT = "checkpoint.pt"


class Length(Protocol):
    """What settings have to say about how long a run is."""

    @property
    def epochs(self) -> int: ...  # noqa: D102
    @property
    def early_stopping(self) -> int: ...  # noqa: D102


@dataclass
class RunState:
    """How far a run is.

    Attributes:
        epoch: finished epochs.
        under_way: what the epoch after them came to so far.
        best_loss: lowest validation loss so far; None without validation slides.
        best_epoch: the epoch that had it.
        best_weights: of the model then, on the CPU.
        history: metrics of each finished epoch.
        failures: slides that turned out unreadable, by name.
    """

    epoch: int = 0
    under_way: Tally = field(default_factory=Tally)
    best_loss: float | None = None
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def is_finished(self, settings: Length) -> bool:
        """Whether all epochs were run, or the last ones brought no better validation loss."""
        patience = settings.early_stopping
        if patience and self.best_loss is not None and self.epoch - self.best_epoch >= patience:
            return True
        return self.epoch >= settings.epochs

    def end_epoch(self, line: Mapping[str, Any], model: nn.Module) -> None:
        """Note the metrics of an epoch, and the weights after it if they are the best so far."""
        self.epoch += 1
        self.under_way = Tally()
        self.history.append(dict(line))
        loss = line["val"].get("loss")
        if loss is None or self.best_loss is None or loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, self.epoch
            self.best_weights = weights_of(model)

    def write_history(self, out: Path) -> None:
        """Write `metrics.jsonl`, a line an epoch."""
        with atomic_path(out / "metrics.jsonl") as partial:
            partial.write_text("".join(json.dumps(line) + "\n" for line in self.history))


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's state_dict, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def save_checkpoint(
    path: Path,
    state: RunState,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: str,
) -> None:
    """Write everything needed to go on; `inputs` says what the run depends on."""
    content = {
        # Plain numbers and tensors: loading makes no other objects.
        "state": vars(state) | {"under_way": vars(state.under_way)},
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "inputs": inputs,
    }
    with atomic_path(path) as partial:
        torch.save(content, partial)


def load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: str,
    *,
    replace: bool = False,
) -> RunState:
    """Put model and optimizer where they were; a fresh state if there is no checkpoint.

    Raises:
        ResultsError: if the checkpoint cannot be read, or is of a run with other settings, slides
            or code that is not to be replaced.
    """
    if not path.exists():
        return RunState()
    content = _read(path)
    if content["inputs"] != inputs:
        if replace:
            return RunState()
        raise ResultsError(
            f"{path.parent}: holds a training run with other settings, slides or code. "
            "Choose another --out, or pass --replace to start anew here."
        )
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    kept = content["state"]
    return RunState(**kept | {"under_way": Tally(**kept["under_way"])})


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return {key: content[key] for key in ("state", "model", "optimizer", "inputs")}
    except Exception as error:  # torch raises pickle, zip and runtime errors alike for bad files
        raise ResultsError(
            f"{path}: is no checkpoint of a training run. Choose another --out, or delete this "
            "file to start anew."
        ) from error
