"""Which task it is: from the settings for a new model, from plain values for one that is there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saccade.pipeline.tasks.classes import Classes
from saccade.pipeline.tasks.config import TaskConfig
from saccade.pipeline.tasks.labels import Labels
from saccade.pipeline.tasks.regression import Regression
from saccade.pipeline.tasks.survival import Survival
from saccade.pipeline.tasks.task import Task
from saccade.pipeline.tasks.truth import Target

_TASKS: dict[str, Any] = {each.kind: each for each in (Classes, Labels, Regression, Survival)}


def new_task(config: TaskConfig, names: tuple[str, ...], train: Sequence[Target]) -> Task:
    """The task of a new model.

    Args:
        config: says which.
        names: of the outputs.
        train: targets of the training slides.
    """
    if config.kind == "regression":
        return Regression.fitted(names, config.units, np.array(train, np.float64))
    task: Task = _TASKS[config.kind](names)
    return task


def described(task: Any) -> dict[str, Any]:
    """The task as plain values, for a model file or a prediction."""
    return {"kind": task.kind, **dataclasses.asdict(task)}


def task_of(values: Mapping[str, Any]) -> Task:
    """The task that was `described`, in a model file or a prediction.

    Files of before there were tasks have no key `task`, and name their classes.

    Args:
        values: of the file.

    Raises:
        KeyError, TypeError, ValueError: if there is no such task.
    """
    if "task" not in values:
        names = values["classes"] if "classes" in values else values["probabilities"]
        return Classes(tuple(names))
    told = dict(values["task"])
    kind = told.pop("kind")
    task: Task = _TASKS[kind](**{key: tuple(each) for key, each in told.items()})
    return task
