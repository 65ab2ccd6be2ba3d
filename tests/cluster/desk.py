"""A few tiny slides, each named after what is to befall it, and the workflow over them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from tests.cohort import TinyCohort, write_sheet
from tests.saliency_model import write_narrow_model

ROOT = Path(__file__).parents[2]
TRAINED = ("hungry", "cancelled")
GOOD = (*TRAINED, "slow", "stranded", "held")
BROKEN = "broken"


@dataclass(frozen=True)
class Desk:
    """A folder in which Snakemake is called.

    Attributes:
        folder: with `slides.csv`, `run.yaml`, `config.yaml`; results go to `results`.
        profile: that says where jobs run.
        environment: of Snakemake and of its jobs.
    """

    folder: Path
    profile: str
    environment: Mapping[str, str]

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def command(self, *words: str) -> list[str]:
        """Snakemake, as its user would call it here."""
        snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        where = ["--directory", str(self.folder), "--configfile", str(self.folder / "config.yaml")]
        profile = ["--workflow-profile", str(ROOT / "profiles" / self.profile)]
        return [*snakemake, *where, *profile, *words]

    @contextmanager
    def started(self, log: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """A run that is under way, and killed if it is so in the end; what it says is in `log`."""
        with log.open("wb") as file:
            process = subprocess.Popen(
                self.command(*words),
                env=self.environment,
                cwd=self.folder,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A run from its beginning to its end."""
        return subprocess.run(
            self.command(*words),
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def make_desk(
    folder: Path, cohort: TinyCohort, profile: str, environment: Mapping[str, str]
) -> Desk:
    """Slides, sheet and settings, and nothing done yet."""
    folder.mkdir(parents=True)
    rows = []
    for row, slide in zip(cohort.rows, GOOD, strict=False):
        shutil.copy(row.path, folder / f"{slide}.tiff")
        split = "train" if slide in TRAINED else "test"
        rows.append(replace(row, slide=slide, path=Path(f"{slide}.tiff"), split=split))
    whole = cohort.rows[-1].path.read_bytes()
    (folder / f"{BROKEN}.tiff").write_bytes(whole[:900])
    rows.append(replace(rows[-1], slide=BROKEN, path=Path(f"{BROKEN}.tiff"), patient="p9"))
    write_sheet(folder / "slides.csv", rows)
    shutil.copy(cohort.run, folder / "run.yaml")
    write_narrow_model(folder / "saliency.safetensors")
    config = {"slides": "slides.csv", "run": "run.yaml", "device": "cpu"}
    config |= {"saliency": "saliency.safetensors"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return Desk(folder, profile, environment)


def with_saccade(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment whose PATH finds `saccade`, and whose processes do not spin on threads."""
    path = os.pathsep.join([environment["PATH"], str(Path(sys.executable).parent)])
    return {**environment, "PATH": path, "OMP_NUM_THREADS": "1"}
