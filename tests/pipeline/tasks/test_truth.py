"""What the sheet says of a slide; what cannot be meant is refused with a letter."""

import math
import re
from pathlib import Path

import pytest
from snakemake.utils import validate

from saccade.pipeline.config import RunConfig
from saccade.pipeline.errors import ConfigError, SheetError
from saccade.pipeline.sheet import SheetRow, read_sheet
from saccade.pipeline.tasks.config import TaskConfig
from saccade.pipeline.tasks.truth import FollowUp, Measured, Target, Truth, YesOrNo, truth_of
from saccade.pipeline.workflow import Cohort
from saccade.pipeline.yaml_config import parse_config

NAN = math.nan
SCHEMA = Path(__file__).parents[3] / "pipeline/schemas/config.schema.yaml"


def row(**targets: str) -> SheetRow:
    return SheetRow("s3", Path("s3.svs"), targets=targets)


@pytest.mark.parametrize(
    ("truth", "cells", "target"),
    [
        (YesOrNo(("a", "b")), {"a": "1", "b": "0.0"}, (1.0, 0.0)),
        (YesOrNo(("a", "b")), {"a": "", "b": "1.0"}, (NAN, 1.0)),
        (YesOrNo(("a", "b")), {"a": "", "b": ""}, None),
        (Measured(("x", "y")), {"x": "-1.5e3", "y": ""}, (-1500.0, NAN)),
        (Measured(("x",)), {"x": ""}, None),
        (FollowUp(), {"time": "12.5", "event": "0"}, (12.5, 0.0)),
        (FollowUp(), {"time": "", "event": ""}, None),
    ],
)
def test_a_slide_has_what_its_cells_say(
    truth: Truth, cells: dict[str, str], target: Target | None
) -> None:
    found = truth.target(row(**cells))
    assert (found is None) == (target is None)
    assert list(found or ()) == pytest.approx(list(target or ()), nan_ok=True)


@pytest.mark.parametrize(
    ("truth", "cells", "letter"),
    [
        (YesOrNo(("a",)), {"a": "yes"}, "slide s3: a is 'yes'; wanted 1 for yes or 0 for no, or"),
        (Measured(("x",)), {"x": "old"}, "slide s3: x is 'old'; wanted a number, such as 12.5, or"),
        (Measured(("x",)), {"x": "nan"}, "slide s3: x is 'nan'; wanted a number"),
        (Measured(("x",)), {"x": "inf"}, "slide s3: x is 'inf'; wanted a number"),
        (FollowUp(), {"time": "0", "event": "1"}, "time is '0'; wanted a positive number"),
        (FollowUp(), {"time": "3", "event": "dead"}, "event is 'dead'; wanted 1 for yes"),
        (FollowUp(), {"time": "3", "event": ""}, "has time '3' but no event; fill in both"),
        (FollowUp(), {"time": "", "event": "1"}, "has event '1' but no time; fill in both"),
    ],
)
def test_a_cell_that_says_something_else_is_named(
    truth: Truth, cells: dict[str, str], letter: str
) -> None:
    with pytest.raises(SheetError, match=re.escape(letter)):
        truth.target(row(**cells))


@pytest.mark.parametrize(
    ("truth", "train", "val", "letter"),
    [
        (YesOrNo(("a", "b")), [(1, 0), (0, 0), (NAN, NAN)], [], "of b there are 0 and 2"),
        (YesOrNo(("a", "b")), [(1, 0), (0, 1)], [], ""),
        (Measured(("x", "y")), [(1, 2), (2, NAN)], [], "column y; 2 usable slides have 1"),
        (Measured(("x",)), [(1,), (2,)], [], ""),
        (FollowUp(), [(1, 0), (2, 1)], [], "`train`.*2 usable slides, 1 events"),
        (FollowUp(), [(1, 1), (2, 0)], [(1, 0)], "`val`.*1 usable slides, 0 events"),
        (FollowUp(), [(1, 1), (2, 0)], [], ""),
    ],
)
def test_what_training_lacks_is_said(
    truth: Truth, train: list[Target], val: list[Target], letter: str
) -> None:
    found = truth.lacking(train, val)
    assert bool(found) == bool(letter)
    assert re.search(letter, found)


def test_strata_are_the_rarest_label_fifths_and_events() -> None:
    assert YesOrNo(("a", "b")).strata([(1, 0), (1, 1), (1, NAN), (0, 0)]) == ["a", "b", "a", ""]
    assert Measured(("x", "y")).strata([(NAN, 3.0), (NAN, 4.0)]) == ["", ""]
    assert FollowUp().strata([(1, 1), (2, 0)]) == ["event", "censored"]


SHEET = "slide,path,age,label\na,a.svs, 61 ,x\nb,b.svs,,\n"


def test_the_columns_that_the_task_names_are_read_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text(SHEET)
    assert [each.cell("age") for each in read_sheet(tmp_path / "slides.csv", ("age",))] == [
        "61",
        "",
    ]
    assert [each.cell("age") for each in read_sheet(tmp_path / "slides.csv", None)] == ["61", ""]
    with pytest.raises(SheetError, match="unknown column age; known columns: slide, path"):
        read_sheet(tmp_path / "slides.csv")
    with pytest.raises(SheetError, match=r"no column size; known columns: .*age, size"):
        read_sheet(tmp_path / "slides.csv", ("age", "size"))


@pytest.mark.parametrize(
    ("ages", "letter"),
    [
        (("61", "48"), ""),
        (("61", "61"), "two different numbers in column age"),
        (("61", "x"), "s1"),
    ],
)
def test_a_workflow_holds_the_sheet_to_the_task_before_its_first_job(
    tmp_path: Path, ages: tuple[str, str], letter: str
) -> None:
    lines = [f"s{i},s{i}.svs,{age},train" for i, age in enumerate(ages)]
    (tmp_path / "slides.csv").write_text("\n".join(["slide,path,age,split", *lines]))
    (tmp_path / "run.yaml").write_text("task: {kind: regression, columns: [age]}")
    for i in range(2):
        (tmp_path / f"s{i}.svs").touch()
    settings = {
        "slides": str(tmp_path / "slides.csv"),
        "run": str(tmp_path / "run.yaml"),
    }
    validate(settings, SCHEMA)  # fills in what is not said, as the Snakefile has it
    if letter:
        with pytest.raises(SheetError, match=letter):
            Cohort.load(settings)
    else:
        assert (training := Cohort.load(settings).training) is not None
        assert training.slides() == ["s0", "s1"]


def test_classes_are_the_default_and_the_others_name_their_columns() -> None:
    assert truth_of(RunConfig().task, [SheetRow("s", Path("s"), "b")]).names == ("b",)
    run = parse_config("task: {kind: labels, columns: [tumour, necrosis]}")
    assert run.task == TaskConfig("labels", ("tumour", "necrosis"))
    assert truth_of(run.task, []).columns == ("tumour", "necrosis")
    assert TaskConfig("survival").targets == ("time", "event")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("{kind: labels}", "wants task.columns.*such as .tumour, necrosis.; found none"),
        ("{kind: regression}", "such as .age.; found none"),
        ("{kind: survival, columns: [time]}", "learns from time and event of the sheet"),
        ("{columns: [tumour]}", "learns from label of the sheet, found task.columns tumour"),
        ("{kind: labels, columns: tumour}", "task.columns must be a list of texts"),
        ("{kind: labels, columns: [a, a]}", "wants different columns"),
        ("{kind: labels, columns: [patient]}", "none of them with another meaning"),
        ("{kind: labels, columns: [a], units: [mm]}", "task.units are of numbers"),
        ("{kind: regression, columns: [a, b], units: [mm]}", "a unit for each of 2 columns"),
        ("{kind: regresion}", "task.kind must be one of classes, labels, regression, survival"),
    ],
)
def test_settings_that_cannot_be_are_refused(text: str, letter: str) -> None:
    with pytest.raises(ConfigError, match=letter):
        parse_config(f"task: {text}")


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ("{batch: 1}", r"training\.batch must be at least 2"),
        ("{batch: 8, accumulate: 2}", r"accumulate must be 1, got 2\. Take training\.batch 16"),
    ],
)
def test_survival_wants_slides_to_compare_in_one_batch(training: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(f"task: {{kind: survival}}\ntraining: {training}")
    parse_config(f"training: {training}")
