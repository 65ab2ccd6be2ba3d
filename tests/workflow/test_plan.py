"""What the workflow makes of a sheet and its settings, before any job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from saccade.pipeline import workflow
from saccade.pipeline.errors import ConfigError, SheetError
from saccade.pipeline.job_costs import COSTS
from saccade.pipeline.workflow import Cohort
from tests.cohort import TinyCohort

SCHEMA = Path(__file__).parents[2] / "pipeline" / "schemas" / "config.schema.yaml"
DEALT = ["s0", "s1", "s2", "s3", "s4", "s5"]  # s6 and s7 are of split `test`


def defaults() -> dict[str, Any]:
    properties = yaml.safe_load(SCHEMA.read_text())["properties"]
    return {key: about["default"] for key, about in properties.items() if "default" in about}


@pytest.fixture
def load(cohort: TinyCohort, tmp_path: Path) -> Any:
    """Load the tiny cohort with other settings of the workflow, and a number of folds."""

    def load(*, folds: int = 0, networks: Any = None, **settings: Any) -> Cohort:
        run = tmp_path / "run.yaml"
        run.write_text(yaml.safe_dump({"splits": {"folds": folds}, "model": networks or {}}))
        given = {"slides": str(cohort.sheet), "run": str(run), **settings}
        return Cohort.load(defaults() | given)

    return load


def test_one_model_predicts_all_slides(load: Any) -> None:
    cohort = load()
    assert cohort.folds == []
    assert cohort.predicted == [*DEALT, "s6", "s7"]
    assert {cohort.model(slide) for slide in cohort.predicted} == {
        "results/model/model.safetensors"
    }
    assert "train" in cohort.stages


def test_a_slide_is_predicted_by_a_model_that_has_not_seen_it(load: Any) -> None:
    cohort = load(folds=3)
    assert cohort.folds == ["fold_0", "fold_1", "fold_2"]
    assert cohort.predicted == DEALT
    for slide in DEALT:
        fold = Path(cohort.model(slide)).parent.name
        assert slide not in cohort.training.slides(fold)
        assert [other for other in cohort.folds if slide not in cohort.training.slides(other)] == [
            fold
        ]
    assert cohort.which_flag == "--folds results/model/folds.csv"
    assert [stage for stage in cohort.stages if stage.startswith("train")] == [
        "train/fold_0", "train/fold_1", "train/fold_2"
    ]  # fmt: skip


def test_a_fold_is_told_of_the_slides_that_it_sees(load: Any) -> None:
    training = load(folds=3).training
    for fold in training.folds:
        slides = {row.split(",")[0] for row in training.told(fold)} & set(DEALT)
        assert slides == set(training.slides(fold))
        assert len(slides) == 4


def test_a_model_that_is_there_is_not_trained_by_folds(load: Any) -> None:
    cohort = load(folds=3, model="model.safetensors")
    assert cohort.folds == []
    assert cohort.training is None
    assert cohort.model("s6") == "model.safetensors"


def test_folds_predict_what_they_hold_out_and_nothing_else(load: Any) -> None:
    with pytest.raises(ConfigError, match="predict has to be all; it is test"):
        load(folds=3, predict="test")


def test_too_few_patients_for_the_folds_are_refused(load: Any) -> None:
    with pytest.raises(SheetError, match="4 folds want slides of at least 4 patients"):
        load(folds=4)


FETCHED = {"encoder": "timm:resnet18", "pretrained": True}


def test_no_job_fetches_weights(load: Any) -> None:
    with pytest.raises(ConfigError, match="`saccade fetch timm:resnet18 --out weights`"):
        load(networks=FETCHED)
    assert load(networks=FETCHED, model="model.safetensors").training is None

    hub = {"encoder": "hf-hub:owner/name", "tile_px": 224, "tile_mpp": 0.5}
    with pytest.raises(ConfigError, match="`saccade fetch timm:hf-hub:owner/name"):
        load(embed=hub)
    assert load(embed={**hub, "weights": "name.safetensors"}).embedded


def test_a_plan_does_not_load_torch(cohort: TinyCohort, tmp_path: Path) -> None:
    """Snakemake plans in each job again: torch would cost seconds and 500 MB every time."""
    run = tmp_path / "run.yaml"
    run.write_text("splits: {folds: 3}\n")
    settings = defaults() | {"slides": str(cohort.sheet), "run": str(run)}
    code = (
        "import sys; from saccade.pipeline.workflow import Cohort;"
        f"Cohort.load({settings!r}).predicted; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_evidence_wants_features(load: Any) -> None:
    with pytest.raises(ConfigError, match=r"evidence is bag.safetensors.* embed is null"):
        load(evidence="bag.safetensors")


def test_a_slide_that_the_sheet_lacks_is_named(load: Any) -> None:
    with pytest.raises(SheetError, match="there is no slide s9; wanted one of its 8 slides"):
        load().files("s9")


def test_memory_and_time_follow_the_slide_and_the_attempt(load: Any, cohort: TinyCohort) -> None:
    plan = load()
    size = cohort.path("s6").stat().st_size / 1e6
    mem_mb, runtime = plan.mem_mb("pyramid"), plan.runtime("pyramid")

    for attempt in (1, 2, 3):
        of_slide = SimpleNamespace(slide="s6")
        assert mem_mb(of_slide, attempt=attempt) == COSTS["pyramid"].mem_mb(size, attempt)
        assert runtime(of_slide, attempt=attempt) == COSTS["pyramid"].runtime(size, attempt)


def test_training_is_measured_by_all_that_it_sees(load: Any, cohort: TinyCohort) -> None:
    seen = sum(cohort.path(slide).stat().st_size for slide in DEALT) / 1e6
    assert load().runtime("train")(SimpleNamespace(), attempt=1) == COSTS["train"].runtime(seen)
    of_fold = load(folds=3).runtime("train")(SimpleNamespace(fold="fold_1"), attempt=1)
    assert of_fold == COSTS["train"].runtime(seen * 4 / 6)


@pytest.mark.parametrize(
    ("wanted", "device", "here", "asked"),
    [("auto", "auto", 0, 0), ("auto", "auto", 4, 1), ("auto", "cpu", 4, 0), (2, "auto", 0, 2)],
)
def test_gpus_that_are_asked_for(
    load: Any, monkeypatch: pytest.MonkeyPatch, wanted: Any, device: str, here: int, asked: int
) -> None:
    monkeypatch.setattr(workflow, "gpus_here", lambda: here)
    assert load(gpu=wanted, device=device).gpu == asked


def test_a_training_alone_asks_for_what_others_ask_for(load: Any) -> None:
    job = load(gpu=1).training_job
    assert (job.resources, job.launcher(8), job.flag) == ({"gpu": 1}, "", "")


def test_gpus_of_one_node_train_in_a_process_each(load: Any) -> None:
    alone, four = load(gpu=1), load(gpu=1, gpus_per_training=4)
    assert four.training_job.resources == {"gpu": 4}
    assert four.training_job.launcher(8) == ""
    assert four.training_job.flag == "--processes 4"
    asked = [plan.mem_mb("train")(SimpleNamespace(), attempt=1) for plan in (alone, four)]
    assert asked[1] == 4 * asked[0]


def test_nodes_have_a_task_each_which_starts_the_others(load: Any) -> None:
    job = load(gpu=1, gpus_per_training=4, nodes_per_training=2).training_job
    assert job.resources == {
        "nodes": 2, "tasks": 2, "tasks_per_gpu": 0, "mpi": "srun", "gres": "gpu:4"
    }  # fmt: skip
    assert job.launcher(8).startswith("srun --nodes=2 --ntasks=2 --ntasks-per-node=1")
    assert job.flag == "--processes 4"


def test_nodes_without_gpus_have_a_process_each(load: Any) -> None:
    job = load(gpu=0, nodes_per_training=3).training_job
    assert "gres" not in job.resources
    assert job.flag == "--processes 1"


def test_processes_that_were_to_share_a_device_are_refused_before_any_job(load: Any) -> None:
    load(gpu=1, device="cuda:0")
    with pytest.raises(ConfigError, match=r"device is cuda:0, .* 1 x 2 GPUs"):
        load(gpu=1, gpus_per_training=2, device="cuda:0")
