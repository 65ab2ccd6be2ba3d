"""A detector is judged class by class, and by centres at its best score."""

import pytest
import torch

from saccade.models.detector import Found, Known
from saccade.pipeline.detection.judge import judge


def found(*objects: tuple[list[float], float, int]) -> Found:
    boxes, scores, classes = zip(*objects, strict=True) if objects else ((), (), ())
    return Found(
        torch.tensor(boxes).reshape(-1, 4).float(),
        torch.tensor(scores).float(),
        torch.tensor(classes, dtype=torch.int64),
    )


def known(*objects: tuple[list[float], int]) -> Known:
    boxes, classes = zip(*objects, strict=True) if objects else ((), ())
    return Known(
        torch.tensor(boxes).reshape(-1, 4).float(), torch.tensor(classes, dtype=torch.int64)
    )


A, B, FAR = [0.0, 0, 10, 10], [20.0, 20, 30, 30], [60.0, 60, 70, 70]


def test_all_found_and_nothing_else_is_perfect() -> None:
    tiles = [known((A, 0), (B, 1)), known()]

    judged = judge([found((A, 0.9, 0), (B, 0.8, 1)), found()], tiles, classes=3, near_px=2)

    assert judged["ap50"] == judged["f1"] == judged["precision"] == judged["recall"] == 1


def test_an_object_of_another_class_is_none() -> None:
    judged = judge([found((A, 0.9, 1))], [known((A, 0))], classes=2, near_px=2)

    assert judged["ap50"] == judged["f1"] == 0


def test_the_score_is_chosen_that_leaves_out_what_is_wrong() -> None:
    objects = [(A, 0.9, 0), (B, 0.6, 0), (FAR, 0.32, 0)]

    judged = judge([found(*objects)], [known((A, 0), (B, 0))], classes=1, near_px=2)

    assert judged["f1"] == 1
    assert 0.32 < judged["score"] <= 0.6


def test_centres_may_be_off_by_what_is_near() -> None:
    moved = [0.0, 0, 10, 16]  # centre 3 px off, IoU 10/16
    for near_px, f1 in ((3, 1), (2.9, 0)):
        judged = judge([found((moved, 0.9, 0))], [known((A, 0))], classes=1, near_px=near_px)
        assert judged["f1"] == f1
        assert judged["ap50"] == pytest.approx(1)


def test_without_any_object_nothing_can_be_said() -> None:
    assert judge([found((A, 0.9, 0))], [known()], classes=1, near_px=2) == {}
