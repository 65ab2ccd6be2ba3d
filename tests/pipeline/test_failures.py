import csv
from pathlib import Path

import pytest

from saccade.pipeline.errors import ResultsError
from saccade.pipeline.evaluate import evaluate
from saccade.pipeline.failures import Failure, find_failures, write_failures
from saccade.pipeline.sheet import SheetRow

STAGES = ("train", "pyramid", "predict", "export", "saliency")


def done(results: Path, *files: str) -> None:
    for file in files:
        (results / file).parent.mkdir(parents=True, exist_ok=True)
        (results / file).touch()


def log(results: Path, name: str, text: str) -> str:
    path = results / "logs" / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Results with a model and nothing else."""
    done(tmp_path, "model/record.json")
    return tmp_path


def test_a_complete_slide_is_no_failure(trained: Path) -> None:
    files = ("pyramid.zarr", "record.json", "qupath/open_in_qupath.groovy", "saliency.record.json")
    done(trained, *(f"s0/{file}" for file in files))
    assert find_failures(trained, ["s0"], STAGES) == []


def test_the_stage_that_failed_is_named_and_not_those_that_could_not_begin(trained: Path) -> None:
    path = log(trained, "pyramid/s0", "warming up\n\x1b[31merror: s0.svs: is cut off.\x1b[0m\n")
    assert find_failures(trained, ["s0"], STAGES) == [
        Failure("s0", "pyramid", "s0.svs: is cut off.", path)
    ]


def test_each_stage_that_could_begin_and_has_no_result_is_a_row(trained: Path) -> None:
    done(trained, "s0/pyramid.zarr")
    log(trained, "predict/s0", "error: wanted a GPU;\nfound none.\n")
    log(trained, "saliency/s0", "one\ntwo\nthree\nfour\n")
    found = find_failures(trained, ["s0"], STAGES)
    assert [(f.stage, f.reason) for f in found] == [
        ("predict", "wanted a GPU; found none."),
        ("saliency", "two three four"),
    ]


def test_a_job_that_was_killed_or_never_began_is_told_apart(trained: Path) -> None:
    log(trained, "pyramid/s0", " \n")
    first, second = find_failures(trained, ["s0", "s1"], STAGES)
    assert "ended without a word" in first.reason
    assert (second.slide, second.log) == ("s1", "")
    assert "never began" in second.reason


def test_a_failed_training_is_one_row_and_not_one_a_slide(tmp_path: Path) -> None:
    done(tmp_path, "s0/pyramid.zarr", "s1/pyramid.zarr")
    log(tmp_path, "train", "error: the loss is no longer finite.\n")
    (found,) = find_failures(tmp_path, ["s0", "s1"], ("train", "pyramid", "predict"))
    assert (found.slide, found.stage) == ("", "train")


def test_a_training_that_never_began_is_named_only_if_nothing_kept_it_from_it(
    tmp_path: Path,
) -> None:
    done(tmp_path, "s1/pyramid.zarr")
    log(tmp_path, "pyramid/s0", "error: s0.svs: is cut off.\n")
    stages = ("train", "pyramid", "predict")
    assert [f.stage for f in find_failures(tmp_path, ["s0", "s1"], stages)] == ["pyramid"]
    assert [f.stage for f in find_failures(tmp_path, ["s1"], stages)] == ["train"]


def test_the_model_of_a_fold_is_named(tmp_path: Path) -> None:
    done(tmp_path, "s0/pyramid.zarr", "model/fold_0/record.json")
    log(tmp_path, "train/fold_1", "error: the loss is no longer finite.\n")
    stages = ("train/fold_0", "train/fold_1", "pyramid")
    assert [f.stage for f in find_failures(tmp_path, ["s0"], stages)] == ["train/fold_1"]


def test_of_slides_that_are_only_trained_on_what_was_tried_counts(trained: Path) -> None:
    done(trained, "s1/pyramid.zarr")
    log(trained, "pyramid/s0", "error: s0.svs: is cut off.\n")
    found = find_failures(trained, [], STAGES, others=["s0", "s1", "s2"])
    assert [(f.slide, f.stage) for f in found] == [("s0", "pyramid")]


def test_the_table_says_the_same(tmp_path: Path) -> None:
    failures = [Failure("s0", "predict", 'wanted "x", found\ty', "logs/predict/s0.log")]
    write_failures(tmp_path / "failures.csv", failures)
    with (tmp_path / "failures.csv").open(newline="") as file:
        assert [Failure(**row) for row in csv.DictReader(file)] == failures


def test_the_table_is_written_also_where_nothing_can_be_evaluated(tmp_path: Path) -> None:
    log(tmp_path, "predict/s0", "error: no.\n")
    with pytest.raises(ResultsError):
        evaluate(tmp_path, [SheetRow("s0", Path("s0.svs"))], tmp_path)
    assert "s0,predict,no.," in (tmp_path / "failures.csv").read_text()
