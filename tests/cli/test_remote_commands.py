"""Commands on a slide behind a URL: they work, and show no signature anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import RangeServer, serving
from typer.testing import CliRunner

from saccade.cli.main import app
from tests.cohort import TinyCohort

SIGNATURE = "?X-Amz-Signature=secret"


@pytest.fixture(autouse=True)
def _calm_torch(one_thread: None) -> None:
    pass


@pytest.fixture
def server(cohort: TinyCohort) -> Iterator[RangeServer]:
    with serving(Path(cohort.path("s6")).parent) as server:
        yield server


def saccade_(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    assert "secret" not in result.output
    return result.output if code else result.stdout


def signed(server: RangeServer, cohort: TinyCohort) -> str:
    return server.url(Path(cohort.path("s6")).name) + SIGNATURE


def test_info_of_a_url(server: RangeServer, cohort: TinyCohort) -> None:
    here = json.loads(saccade_("info", cohort.path("s6"), "--json"))
    there = json.loads(saccade_("info", signed(server, cohort), "--json"))
    assert there.pop("content_hash").startswith("etag:")
    assert (there.pop("reader"), here.pop("reader")) == ("tiff", "openslide")
    del here["content_hash"]
    assert there == here
    assert server.requests < 20


def test_what_is_not_there_or_no_url_is_one_line(server: RangeServer) -> None:
    for url in (server.url("none.svs") + SIGNATURE, "1s://me:secret@x"):
        (line,) = saccade_("info", url, code=1).splitlines()
        assert line.startswith("error: ")


def test_predict_a_url(
    server: RangeServer, cohort: TinyCohort, trained: Path, tmp_path: Path
) -> None:
    model, out = trained / "model.safetensors", tmp_path / "s6"
    arguments = ("--model", model, "--device", "cpu")
    saccade_("pyramid", signed(server, cohort), "--out", out)
    saccade_("predict", signed(server, cohort), "--out", out, *arguments)
    saccade_("predict", cohort.path("s6"), "--out", tmp_path / "local", *arguments)

    record = json.loads((out / "record.json").read_text())
    assert record["inputs"]["slide"].startswith("etag:")
    assert 0 < record["cost"]["requests"] < server.requests
    assert json.loads((tmp_path / "local" / "record.json").read_text())["cost"]["requests"] == 0
    there, here = (
        json.loads((folder / "prediction.json").read_text()) for folder in (out, tmp_path / "local")
    )
    assert there["probabilities"] == here["probabilities"]
    assert there["slide"] == here["slide"]
    assert (out / "tiles.csv").read_bytes() == (tmp_path / "local" / "tiles.csv").read_bytes()
    for file in out.rglob("*"):
        assert not file.is_file() or b"secret" not in file.read_bytes(), file


def test_train_from_a_sheet_of_urls(
    server: RangeServer, cohort: TinyCohort, trained: Path, tmp_path: Path
) -> None:
    rows = [row for row in cohort.rows if row.label and row.split in ("train", "val")]
    lines = [
        f"{row.slide},{server.url(row.path.name)}{SIGNATURE},{row.label},{row.split}"
        for row in rows
    ]
    sheet = tmp_path / "slides.csv"
    sheet.write_text("\n".join(["slide,path,label,split", *lines]))
    saccade_("train", cohort.run, "--slides", sheet, "--out", tmp_path / "out", "--device", "cpu")

    there, here = (
        (folder / "metrics.jsonl").read_text().splitlines()[-1]
        for folder in (tmp_path / "out", trained)
    )
    for key in ("train", "val"):
        assert json.loads(there)[key] == json.loads(here)[key]
    assert "secret" not in (tmp_path / "out" / "record.json").read_text()
