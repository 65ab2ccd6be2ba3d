"""Folds: every slide held out once, no patient on two sides, each class spread evenly."""

from __future__ import annotations

import csv
import random
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.pipeline.errors import ResultsError, SheetError
from saccade.pipeline.sheet import SheetRow, read_sheet
from saccade.pipeline.splits import deal, read_parts, rows_of_fold, write_folds
from saccade.pipeline.tasks.config import TaskConfig


def row(slide: str, label: str, patient: str, split: str = "") -> SheetRow:
    return SheetRow(slide, Path(f"/slides/{slide}.tiff"), label, patient, split)


@st.composite
def sheets(draw: st.DrawFn) -> tuple[list[SheetRow], int]:
    """Patients of one to four slides, each patient of one class; and a number of folds."""
    folds = draw(st.integers(3, 5))
    rows = []
    for label in "abc"[: draw(st.integers(1, 3))]:
        for patient in range(draw(st.integers(folds, 9))):
            for slide in range(draw(st.integers(1, 4))):
                rows.append(row(f"{label}{patient}_{slide}", label, f"{label}{patient}"))
    return rows, folds


@given(sheets(), st.integers(0, 1000))
def test_every_slide_is_held_out_once_and_no_patient_is_on_two_sides(
    sheet: tuple[list[SheetRow], int], seed: int
) -> None:
    rows, folds = sheet
    part = deal(rows, folds, seed=seed)
    held_out: Counter[str] = Counter()
    choosing: Counter[str] = Counter()
    for fold in range(folds):
        seen = rows_of_fold(rows, part, fold, folds)
        held_out.update(each.slide for each in seen if each.split == "test")
        choosing.update(each.slide for each in seen if each.split == "val")
        sides = defaultdict(set)
        for each in seen:
            sides[each.patient].add(each.split)
        assert all(len(found) == 1 for found in sides.values())
        assert {each.split for each in seen} == {"train", "val", "test"}
    assert held_out == choosing == Counter(each.slide for each in rows)


@given(
    st.integers(3, 5), st.lists(st.integers(5, 12), min_size=1, max_size=3), st.integers(1, 3),
    st.integers(0, 1000),
)  # fmt: skip
def test_each_class_is_spread_as_evenly_as_its_patients_allow(
    folds: int, patients: list[int], each: int, seed: int
) -> None:
    """Where all patients have as many slides, parts differ by one patient at most."""
    rows = [
        row(f"{label}{patient}_{slide}", label, f"{label}{patient}")
        for label, count in zip("abc", patients, strict=False)
        for patient in range(count)
        for slide in range(each)
    ]
    part = deal(rows, folds, seed=seed)
    for label in {r.label for r in rows}:
        counts = Counter(part[r.slide] for r in rows if r.label == label)
        sizes = [counts[fold] for fold in range(folds)]
        assert max(sizes) - min(sizes) <= each, sizes


@given(sheets(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    sheet: tuple[list[SheetRow], int], dice: random.Random
) -> None:
    rows, folds = sheet
    shuffled = list(rows)
    dice.shuffle(shuffled)

    assert deal(shuffled, folds, seed=3) == deal(rows, folds, seed=3)


def cohort() -> list[SheetRow]:
    return [row(f"s{i:02}", "ab"[i % 2], f"p{i}") for i in range(20)]


def test_another_seed_is_another_deal() -> None:
    assert deal(cohort(), 5, seed=0) == deal(cohort(), 5, seed=0) != deal(cohort(), 5, seed=1)


def test_slides_of_split_test_stay_out_with_all_slides_of_their_patients() -> None:
    rows = cohort()
    rows[0] = replace(rows[0], split="test")
    rows[1] = replace(rows[1], split="val")  # train and val of the sheet are dealt anew
    rows += [row("sibling", "a", "p0"), row("unknown", "", "p4")]
    part = deal(rows, 3)

    assert set(part) == {f"s{i:02}" for i in range(1, 20)}
    for fold in range(3):
        seen = {each.slide: each.split for each in rows_of_fold(rows, part, fold, 3)}
        assert seen["s00"] == seen["sibling"] == seen["unknown"] == ""


def told(number: int, **targets: str) -> SheetRow:
    return replace(row(f"s{number:02}", "", f"p{number}"), targets=targets)


def test_numbers_are_spread_over_their_range() -> None:
    rows = [told(i, age=f"{i / 7:.3f}") for i in range(30)]
    part = deal(rows, 3, task=TaskConfig("regression", ("age",)))

    for low in range(0, 30, 6):
        assert sorted(part[f"s{i:02}"] for i in range(low, low + 6)) == [0, 0, 1, 1, 2, 2]


def test_events_are_spread_evenly_and_have_to_suffice() -> None:
    rows = [told(i, time=str(i + 1), event="01"[i % 3 == 0]) for i in range(18)]
    part = deal(rows, 3, task=TaskConfig("survival"))

    assert sorted(part[f"s{i:02}"] for i in range(0, 18, 3)) == [0, 0, 1, 1, 2, 2]
    with pytest.raises(SheetError, match="label 'event' has 2"):
        deal(rows[:6], 3, task=TaskConfig("survival"))


def test_the_rarest_label_is_spread_and_a_rare_one_is_no_mistake() -> None:
    rows = [told(i, common="1", rare="01"[i % 5 == 0]) for i in range(15)]
    task = TaskConfig("labels", ("common", "rare"))
    part = deal(rows, 3, task=task)

    assert sorted(part[f"s{i:02}"] for i in range(0, 15, 5)) == [0, 1, 2]
    assert set(deal(rows[:6], 3, task=task).values()) == {0, 1, 2}  # two slides have it
    with pytest.raises(SheetError, match="3 folds want slides of at least 3 patients; there are 2"):
        deal(rows[:2], 3, task=task)


@pytest.mark.parametrize(
    "task",
    [
        TaskConfig("labels", ("common", "rare")),
        TaskConfig("regression", ("age",)),
        TaskConfig("survival"),
    ],
)
def test_no_patient_is_on_two_sides_whatever_slides_are_judged_by(task: TaskConfig) -> None:
    """Slides of a patient differ in everything that is to be spread."""
    numbered = [
        told(i, common="01"[i % 2], rare="01"[i % 5 == 0], age=str(i), time="1", event="01"[i % 2])
        for i in range(36)
    ]
    rows = [replace(each, patient=f"p{i // 3}") for i, each in enumerate(numbered)]
    part = deal(rows, 3, task=task)

    assert part.keys() == {each.slide for each in rows}
    found = {(each.patient, part[each.slide]) for each in rows}
    assert len(found) == 12
    assert {number for _, number in found} == {0, 1, 2}


def test_what_slides_are_labelled_for_travels_with_the_folds(tmp_path: Path) -> None:
    rows = [told(i, age=str(i), size="") for i in range(6)]
    task = TaskConfig("regression", ("age", "size"))
    (first, *_) = write_folds(rows, tmp_path, 3, task=task)

    assert read_sheet(tmp_path / "fold_0" / "slides.csv", task.targets) == first
    assert (tmp_path / "folds.csv").read_text().splitlines()[0] == "slide,patient,age,size,fold"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [*cohort(), row("x", "rare", "x"), row("y", "rare", "x"), row("z", "rare", "z")],
            "3 folds want slides of at least 3 patients of each class; label 'rare' has 2",
        ),
        ([row("s", "", "p")], "3 folds want slides with a label"),
    ],
)
def test_too_few_patients_are_refused(rows: list[SheetRow], message: str) -> None:
    with pytest.raises(SheetError, match=message):
        deal(rows, 3)


def test_what_is_written_can_be_read_back(tmp_path: Path) -> None:
    rows = [replace(cohort()[0], mpp=0.25, patient="p, q"), *cohort()[1:]]
    sheets = write_folds(rows, tmp_path, 4)

    for fold, sheet in enumerate(sheets):
        assert read_sheet(tmp_path / f"fold_{fold}" / "slides.csv") == sheet
    with (tmp_path / "folds.csv").open(newline="") as file:
        overview = list(csv.DictReader(file))
    assert [line["slide"] for line in overview] == [each.slide for each in rows]
    for line in overview:
        (held_out,) = (
            str(fold)
            for fold, sheet in enumerate(sheets)
            if any(each.slide == line["slide"] and each.split == "test" for each in sheet)
        )
        assert line["fold"] == held_out


def test_other_folds_are_not_overwritten_unasked(tmp_path: Path) -> None:
    write_folds(cohort(), tmp_path, 4)
    write_folds(list(reversed(cohort())), tmp_path, 4)
    before = (tmp_path / "folds.csv").read_text()

    with pytest.raises(ResultsError, match="another number or seed"):
        write_folds(cohort(), tmp_path, 4, seed=1)
    assert (tmp_path / "folds.csv").read_text() == before
    write_folds(cohort(), tmp_path, 4, seed=1, replace=True)
    assert (tmp_path / "folds.csv").read_text() != before


def test_the_overview_says_who_holds_out_whom(tmp_path: Path) -> None:
    rows = [row(f"{label}{i}", label, f"{label}{i}") for label in "ab" for i in range(3)]
    rows.append(row("t", "a", "t", "test"))  # in no fold
    write_folds(rows, tmp_path, 3)
    assert read_parts(tmp_path / "folds.csv") == deal(rows, 3)


@pytest.mark.parametrize("text", [None, "slide,patient\ns,p\n", "slide,fold\ns,first\n"])
def test_what_is_no_overview_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "folds.csv").write_text(text)
    with pytest.raises(SheetError, match=r"cannot be read as folds\.csv"):
        read_parts(tmp_path / "folds.csv")
