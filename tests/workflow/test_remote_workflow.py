"""The workflow over slides behind URLs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from servers import serving

from saccade.pipeline.errors import SheetError
from saccade.pipeline.workflow import Cohort
from tests.cohort import TinyCohort

ROOT = Path(__file__).parents[2]


def desk(folder: Path, cohort: TinyCohort, url: str, model: Path) -> dict[str, object]:
    """A folder with a sheet of one slide, which lies elsewhere; return the settings."""
    (folder / "slides.csv").write_text(f"slide,path\ns6,{url}\n")
    shutil.copy(cohort.run, folder / "run.yaml")
    config = {"slides": "slides.csv", "run": "run.yaml", "device": "cpu", "model": str(model)}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return {**config, "slides": folder / "slides.csv", "run": folder / "run.yaml", "predict": "all"}


def test_a_slide_behind_a_url_is_predicted(
    tmp_path: Path, cohort: TinyCohort, trained: Path
) -> None:
    with serving(cohort.path("s6").parent) as server:
        desk(tmp_path, cohort, server.url("s6.tiff"), trained / "model.safetensors")
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        command += ["--directory", str(tmp_path), "--configfile", str(tmp_path / "config.yaml")]
        scripts = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        ended = subprocess.run(
            [*command, "--cores", "2"],
            env={**os.environ, "PATH": scripts, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    assert ended.returncode == 0, ended.stdout
    record = json.loads((tmp_path / "results" / "s6" / "record.json").read_text())
    assert record["inputs"]["slide"].startswith("etag:")


@pytest.mark.parametrize("url", ["https://host/s6.tiff?signature=hush", "s3://me:hush@b/s6.tiff"])
def test_a_url_with_a_secret_is_refused(url: str, tmp_path: Path, cohort: TinyCohort) -> None:
    settings = desk(tmp_path, cohort, url, tmp_path / "model.safetensors")
    with pytest.raises(SheetError, match="would stand in the logs") as caught:
        Cohort.load(settings)
    assert "hush" not in str(caught.value)
