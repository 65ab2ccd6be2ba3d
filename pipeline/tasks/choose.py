"""Which task it is: from the settings for a new model, from plain values for one that is there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saccade.pipeline.config import TaskConfig
from saccade.pipeline.tasks.multiclass import Multiclass
from saccade.pipeline.tasks.multilabel import Multilabel
from saccade.pipeline.tasks.regression import Regression
from saccade.pipeline.tasks.survival import Survival
from saccade.pipeline.tasks.task import Task
from saccade.pipeline.tasks.truth import Target


def new_task(config: TaskConfig, names: tuple[str, ...], train: Sequence[Target]) -> Task:
    """The task of a new model.

    Args:
        config: says which.
        names: of the outputs.
        train: targets of the training slides.
    """
    if config.kind == "multilabel":
        return Multilabel(names)
    if config.kind == "regression":
        return Regression(float(np.mean(train)), float(np.std(train)), config.unit)
    if config.kind == "survival":
        return Survival()
    return Multiclass(names)


def described(task: Any) -> dict[str, Any]:
    """The task as plain values, for a model file or a prediction."""
    return {"kind": task.kind, **dataclasses.asdict(task)}


def task_of(described: Mapping[str, Any]) -> Task:
    """The task that was described.

    Raises:
        KeyError, TypeError, ValueError: if it was not `described` that made the values.
    """
    values = dict(described)
    kind = values.pop("kind")
    if "outputs" in values:
        values["outputs"] = tuple(map(str, values["outputs"]))
    tasks: dict[str, Any] = {
        each.kind: each for each in (Multiclass, Multilabel, Regression, Survival)
    }
    task: Task = tasks[kind](**values)
    return task
