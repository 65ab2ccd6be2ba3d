"""`saccade evidence`: from features and a model to maps, in one line."""

from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from saccade.cli.main import app
from tests.cohort import TinyCohort
from tests.pipeline.bags.feature_files import write_features
from tests.pipeline.test_evidence_slide import SIDE_L0, corners, write_model


def test_it_says_what_the_slide_is_and_where_to_look(
    cohort: TinyCohort, tmp_path: Path, one_thread: None
) -> None:
    places = corners()
    features = write_features(
        tmp_path / "f.h5", np.ones((len(places), 3), np.float32), places, side_l0=SIDE_L0
    )
    model, out = write_model(tmp_path / "m.safetensors", "spatial_output"), tmp_path / "out"
    command = ["evidence", str(cohort.path("s6")), "--features", str(features)]
    command += ["--model", str(model), "--out", str(out), "--device", "cpu"]

    first, again = (CliRunner().invoke(app, command) for _ in range(2))

    assert first.exit_code == again.exit_code == 0, first.output
    assert "evidence.png" in first.output
    assert "is up to date" in again.output
    assert (out / "evidence.ome.tif").is_file()
    broken = CliRunner().invoke(app, [*command[:3], str(tmp_path / "no.h5"), *command[4:]])
    assert broken.exit_code == 1
    assert "cannot be read as features" in " ".join(broken.output.split())
