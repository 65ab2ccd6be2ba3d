"""The workflow run over a tiny cohort, as its user would: `snakemake --configfile ...`."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
import yaml

from saccade.pipeline.config import ModelConfig
from saccade.pipeline.errors import ConfigError
from saccade.pipeline.model_file import weights_hash
from saccade.pipeline.workflow import Cohort
from tests.cohort import TinyCohort, write_sheet
from tests.detector_model import write_detector
from tests.mask_model import write_mask_model
from tests.saliency_model import write_narrow_model
from tests.segment_model import write_small_model

ROOT = Path(__file__).parents[2]
TRAINED, TESTED = ("s0", "s1"), ("s6",)
SLIDES = TRAINED + TESTED
# So that a job's process does not spin on threads that a test machine does not have.
ENVIRONMENT = {
    **os.environ,
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    "OMP_NUM_THREADS": "1",
}
JOB = re.compile(r"^(?:local)?rule (\w+):.*?(?=^\S|\Z)", re.M | re.S)


def cut_off() -> list[str]:
    """What starts a command without any network, not even this machine's own; [] if not allowed."""
    for command in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if (
            shutil.which("unshare")
            and not subprocess.run([*command, "true"], stderr=subprocess.DEVNULL).returncode
        ):
            return command
    return []


def snakemake(
    folder: Path, *arguments: str, within: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    command = [*within, sys.executable, "-m", "snakemake"]
    command += ["--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", str(folder / "config.yaml")]
    command += ["--cores", "2", *arguments]
    return subprocess.run(
        command,
        env={**ENVIRONMENT, "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def write_config(folder: Path, **changes: object) -> None:
    config = {"slides": "slides.csv", "run": "run.yaml", "device": "cpu", **changes}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, cohort: TinyCohort) -> Path:
    """A folder with slides, sheet and settings, and nothing done yet."""
    folder = tmp_path_factory.mktemp("desk")
    chosen = [row for row in cohort.rows if row.slide in SLIDES]
    for row in chosen:
        shutil.copy(row.path, folder)
    write_sheet(folder / "slides.csv", [replace(row, path=Path(row.path.name)) for row in chosen])
    shutil.copy(cohort.run, folder / "run.yaml")
    write_config(folder)
    return folder


@pytest.fixture(scope="module")
def finished(desk: Path) -> Path:
    """The same folder after the whole workflow, which had no network where that can be cut off."""
    ended = snakemake(desk, within=cut_off())
    assert ended.returncode == 0, ended.stdout
    return desk


def planned(folder: Path, *arguments: str) -> Counter[str]:
    """What a dry run would do: `rule slide` or `rule fold` with its number of jobs."""
    ended = snakemake(folder, "--dry-run", *arguments)
    assert ended.returncode == 0, ended.stdout
    jobs: Counter[str] = Counter()
    for found in JOB.finditer(ended.stdout):
        of = re.search(r"wildcards: (?:slide|fold)=(\S+)", found[0])
        jobs[f"{found[1]} {of[1]}" if of else found[1]] += 1
    if not jobs:
        assert "Nothing to be done" in ended.stdout, ended.stdout
    return jobs


def per_slide(*slides: str) -> set[str]:
    return {f"{rule} {slide}" for rule in ("pyramid", "predict", "export") for slide in slides}


ONCE_AT_THE_END = {"evaluate", "cohort"}


def test_plans_a_job_a_slide_and_one_training(desk: Path) -> None:
    if (desk / "results").exists():
        pytest.skip("the workflow has run here already: tests were picked or shuffled")
    assert set(planned(desk)) == per_slide(*SLIDES) | {"train"} | ONCE_AT_THE_END


def test_leaves_results_logs_and_benchmarks(finished: Path) -> None:
    results = finished / "results"
    summary = (results / "summary.csv").read_text().splitlines()
    assert (results / "failures.csv").read_text() == "slide,stage,reason,log\n"

    assert [line.split(",")[0] for line in summary] == ["slide", *SLIDES]
    for slide in SLIDES:
        assert (results / slide / "qupath" / "attention.geojson").is_file()
    for kind in ("pyramid", "predict", "export"):
        for slide in SLIDES:
            assert (results / "logs" / kind / f"{slide}.log").is_file()
            assert (results / "benchmarks" / kind / f"{slide}.tsv").stat().st_size
    assert "epoch   2/2" in (results / "logs" / "train.log").read_text()


def test_no_job_needs_a_network(finished: Path) -> None:
    if not cut_off():
        pytest.skip("this machine does not let a process give up its network (unshare --net)")
    assert (finished / "results" / "summary.csv").is_file()


def test_the_report_opens_without_anything_else(finished: Path) -> None:
    ended = snakemake(finished, "--report", "report.zip")
    assert ended.returncode == 0, ended.stdout
    with zipfile.ZipFile(finished / "report.zip") as file:
        names = [Path(name).name for name in file.namelist()]
        page = file.read("report/report.html").decode()
    assert names.count("attention.png") == len(SLIDES)
    assert {"summary.csv", "failures.csv", "metrics.json"} < set(names)
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=[\"']https?:", page)


def test_nothing_to_do_afterwards(finished: Path) -> None:
    assert not planned(finished)


@pytest.mark.parametrize("slide", ["s6", "s0"], ids=["tested", "trained on"])
def test_deleted_results_of_one_slide_cost_that_slides_jobs(finished: Path, slide: str) -> None:
    """The model is not trained again: the pyramid that is rebuilt is the same one."""
    kept = finished / "results" / slide
    away = finished / "away"
    kept.rename(away)
    try:
        assert set(planned(finished)) == per_slide(slide) | ONCE_AT_THE_END
    finally:
        away.rename(kept)


def test_a_deleted_slide_comes_back_and_then_nothing_is_left_to_do(finished: Path) -> None:
    model = finished / "results" / "model" / "model.safetensors"
    before = model.stat().st_mtime_ns
    shutil.rmtree(finished / "results" / "s0")
    ended = snakemake(finished)

    assert ended.returncode == 0, ended.stdout
    assert (finished / "results" / "s0" / "prediction.json").is_file()
    assert model.stat().st_mtime_ns == before
    assert not planned(finished)


@pytest.mark.parametrize(
    ("edit", "trains"),
    [
        ({"s6.tiff,a": "s6.tiff,b"}, False),
        ({"p0,train": "p0x,train"}, False),
        ({"s0.tiff,a": "s0.tiff,b", "s1.tiff,b": "s1.tiff,a"}, True),
    ],
    ids=["label of a tested slide", "patient", "labels of slides trained on"],
)
def test_an_edited_sheet_trains_again_only_if_training_sees_it(
    finished: Path, edit: dict[str, str], trains: bool
) -> None:
    sheet = finished / "slides.csv"
    before = sheet.read_text()
    after = before
    for old, new in edit.items():
        assert old in after
        after = after.replace(old, new)
    try:
        sheet.write_text(after + "\n")
        jobs = planned(finished)
    finally:
        sheet.write_text(before)
    assert ("train" in jobs) is trains
    assert "evaluate" in jobs


@pytest.fixture
def copy(desk: Path, tmp_path: Path) -> Path:
    for file in desk.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    return tmp_path


def refused(folder: Path) -> str:
    ended = snakemake(folder)
    assert ended.returncode == 1
    assert not (folder / "results").exists()
    assert "rule " not in ended.stdout
    return ended.stdout


def test_an_unknown_key_stops_before_the_first_job(copy: Path) -> None:
    write_config(copy, predictt="all")
    assert "predictt" in refused(copy)


def test_a_wrong_setting_of_the_run_stops_before_the_first_job(copy: Path) -> None:
    (copy / "run.yaml").write_text("view:\n  mppp: 8\n")
    assert "run.yaml, line 2: unknown key view.mppp; known here: view.min_tissue" in refused(copy)


def test_a_lost_slide_stops_before_the_first_job(copy: Path) -> None:
    (copy / "s6.tiff").unlink()
    assert "1 of 3 slides are not where the sheet says" in refused(copy)


def test_a_model_that_is_there_is_not_trained(copy: Path, trained: Path) -> None:
    write_config(copy, model=str(trained / "model.safetensors"), predict="test")
    assert set(planned(copy)) == per_slide(*TESTED) | ONCE_AT_THE_END


FOLDS = ("fold_0", "fold_1", "fold_2")


@pytest.fixture
def folds(cohort: TinyCohort, tmp_path: Path) -> Path:
    """A folder with the settings of three folds over six slides, which lie elsewhere."""
    settings = yaml.safe_load(cohort.run.read_text())
    settings["training"]["epochs"] = 1
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**settings, "splits": {"folds": 3}}))
    write_sheet(tmp_path / "slides.csv", cohort.rows)
    write_config(tmp_path)
    return tmp_path


def test_folds_are_a_training_each_and_predict_what_they_hold_out(folds: Path) -> None:
    """Slides of split `test` are in no fold, so nothing is done with them."""
    trained = {f"train {fold}" for fold in FOLDS}
    wanted = per_slide("s0", "s1", "s2", "s3", "s4", "s5") | trained | {"split"} | ONCE_AT_THE_END
    assert set(planned(folds)) == wanted


@pytest.mark.slow
def test_folds_from_the_deal_to_the_table(folds: Path) -> None:
    """Each slide by the model of its fold, as `saccade train` deals; then nothing is left to do."""
    ended = snakemake(folds)
    assert ended.returncode == 0, ended.stdout
    results = folds / "results"
    with (results / "model" / "folds.csv").open(newline="") as file:
        fold_of = {row["slide"]: row["fold"] for row in csv.DictReader(file)}
    with (results / "summary.csv").open(newline="") as file:
        table = {row["slide"]: row for row in csv.DictReader(file)}
    for slide, row in table.items():
        assert row["fold"] == fold_of[slide] != ""
        record = json.loads((results / slide / "record.json").read_text())
        model = results / "model" / f"fold_{row['fold']}" / "model.safetensors"
        assert record["inputs"]["model"] == weights_hash(model)
        seen = json.loads((model.parent / "record.json").read_text())["inputs"]
        assert slide not in {*seen["train"], *seen["val"]}
    metrics = json.loads((results / "metrics.json").read_text())
    assert [fold["slides"] for fold in metrics["folds"]] == [2, 2, 2]
    assert not planned(folds)


def test_each_further_stage_adds_a_job_a_slide(copy: Path) -> None:
    """Features of each slide of the sheet; all else of each that is predicted."""
    write_narrow_model(copy / "saliency.safetensors")
    write_detector(copy / "detector.safetensors")
    model = str(write_mask_model(copy / "model.safetensors"))
    write_config(
        copy,
        model=model,
        predict="test",
        saliency="saliency.safetensors",
        embed={"model": model, "min_tissue": 0.5},
        mask="all tissue",
        detect="detector.safetensors",
        segment=str(write_small_model(copy / "segmentation.safetensors")),
    )
    per_sheet = {f"{rule} {slide}" for rule in ("pyramid", "embed") for slide in SLIDES}
    stages = {"saliency s6", "mask s6", "segment s6", "detect s6"}
    wanted = per_slide(*TESTED) | stages | per_sheet | ONCE_AT_THE_END
    assert set(planned(copy)) == wanted

    made = (
        "embedding/features.h5",
        "saliency.record.json",
        "mask.record.json",
        "detection.record.json",
        "segmentation.record.json",
    )
    ended = snakemake(copy, *(f"results/s6/{name}" for name in made))

    assert ended.returncode == 0, ended.stdout
    results = copy / "results" / "s6"
    assert (results / "saliency.png").is_file()
    assert '"tiles": "all tissue"' in (results / "mask.record.json").read_text()
    assert (results / "detection.csv").is_file()
    with h5py.File(results / made[0]) as file:
        assert file["features"].attrs["min_tissue"] == 0.5


@pytest.mark.parametrize("given", [True, False])
def test_masks_of_a_model_without_any_are_refused_before_the_first_job(
    cohort: TinyCohort, trained: Path, given: bool
) -> None:
    model = str(trained / "model.safetensors") if given else None
    settings = {"slides": cohort.sheet, "run": cohort.run, "model": model, "mask": "drawn"}
    with pytest.raises(ConfigError, match="mask is drawn, but the encoder has no attention"):
        Cohort.load(settings)


def test_masks_of_parts_of_tiles_are_refused_before_the_first_job(
    cohort: TinyCohort, tmp_path: Path
) -> None:
    within = ModelConfig(encoder="residual_attention", spatial_transformer="attention")
    model = str(write_mask_model(tmp_path / "model.safetensors", within))
    settings = {"slides": cohort.sheet, "run": cohort.run, "model": model, "mask": "drawn"}
    with pytest.raises(ConfigError, match=r"looks at a part of each tile.*Leave mask at null"):
        Cohort.load(settings)


def test_a_broken_slide_costs_itself_and_is_named_in_the_table(copy: Path, trained: Path) -> None:
    write_config(copy, model=str(trained / "model.safetensors"), predict="test")
    broken = copy / "broken.tiff"
    broken.write_bytes((copy / "s6.tiff").read_bytes()[:900])
    with (copy / "slides.csv").open("a") as sheet:
        sheet.write("broken,broken.tiff,a,p9,test,\n")
    ended = snakemake(copy)

    assert ended.returncode == 1
    assert "broken.tiff: " in ended.stdout  # the log of what failed is shown
    table = (copy / "results" / "summary.csv").read_text().splitlines()
    assert [line.split(",")[-1] for line in table] == ["status", "ok", "missing"]
    assert (copy / "results" / "s6" / "qupath" / "attention.geojson").is_file()
    with (copy / "results" / "failures.csv").open(newline="") as file:
        (failure,) = csv.DictReader(file)
    assert (failure["slide"], failure["stage"]) == ("broken", "pyramid")
    assert "broken.tiff: " in failure["reason"]


def test_linters_find_nothing_to_mend(folds: Path) -> None:
    """All rules there are: with folds and every stage, then those that train one model."""
    run = yaml.safe_load((folds / "run.yaml").read_text())
    run["model"]["encoder"] = "residual_attention"
    (folds / "run.yaml").write_text(yaml.safe_dump(run))
    models = {
        stage: f"{stage}.safetensors" for stage in ("saliency", "evidence", "detect", "segment")
    }
    for model in models.values():
        (folds / model).touch()
    embed = {"encoder": "timm:resnet18", "tile_px": 224, "tile_mpp": 0.5}
    write_config(folds, **models, embed=embed, mask="drawn")
    stages = Counter(job.split()[0] for job in planned(folds))
    assert {stage: stages[stage] for stage in (*models, "mask", "embed")} == {
        "saliency": 6, "detect": 6, "segment": 6, "mask": 6, "embed": 8, "evidence": 8
    }  # fmt: skip
    for training in (run, {**run, "splits": {"folds": 0}}):
        (folds / "run.yaml").write_text(yaml.safe_dump(training))
        linted = snakemake(folds, "--lint")
        assert linted.returncode == 0, linted.stdout

    command = [sys.executable, "-m", "snakefmt", "--check", "Snakefile", "pipeline/rules"]
    formatted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert formatted.returncode == 0, formatted.stdout + formatted.stderr


def test_other_settings_cost_training_and_predictions(finished: Path) -> None:
    """The last to use the finished folder, which it changes."""
    run = finished / "run.yaml"
    settings = yaml.safe_load(run.read_text())
    settings["training"]["epochs"] = 3
    run.write_text(yaml.safe_dump(settings))

    predicted = {job for job in per_slide(*SLIDES) if not job.startswith("pyramid")}
    assert set(planned(finished)) == predicted | {"train"} | ONCE_AT_THE_END
    ended = snakemake(finished, "results/model/model.safetensors")
    assert ended.returncode == 0, ended.stdout
    assert len((finished / "results/model/metrics.jsonl").read_text().splitlines()) == 3
