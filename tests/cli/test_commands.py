"""Commands as a user meets them: what they print, what they leave, how they end."""

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import h5py
import pytest
import typer
from typer.testing import CliRunner, Result

import saccade
from saccade.cli.main import app
from saccade.tiling import Slide
from tests.cohort import TinyCohort, write_sheet
from tests.detector_model import write_detector
from tests.holding import held_until_waited_for
from tests.mask_model import write_mask_model
from tests.saliency_model import write_narrow_model
from tests.segment_model import write_small_model
from tests.slides import tissue_like, write_pyramid_tiff


@pytest.fixture(autouse=True)
def _calm_torch(one_thread: None) -> None:
    pass


def saccade_(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def refusal(*arguments: object) -> str:
    """What an error of the input says: one line on stderr, exit code 1."""
    result = saccade_(*arguments, code=1)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert "Traceback" not in result.output
    return lines[0]


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A slide that does not say its mpp."""
    return write_pyramid_tiff(tmp_path / "bare.tiff", tissue_like(700, 600), mpp=None)


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory, cohort: TinyCohort, trained: Path) -> Path:
    out = tmp_path_factory.mktemp("predicted") / "s6"
    model = trained / "model.safetensors"
    saccade_("predict", cohort.path("s6"), "--model", model, "--out", out, "--device", "cpu")
    return out


def test_version() -> None:
    assert saccade_("--version").stdout.strip() == saccade.__version__


def test_python_m_is_the_same_command() -> None:
    command = [sys.executable, "-m", "saccade.cli", "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == saccade.__version__


def test_folds_from_a_sheet_to_one_number(
    cohort: TinyCohort, pyramids: Path, tmp_path: Path
) -> None:
    run, out = tmp_path / "run.yaml", tmp_path / "out"
    run.write_text(cohort.run.read_text().replace("folds: 0", "folds: 3"))
    split = saccade_("split", cohort.sheet, "--out", tmp_path / "split", "--folds", "3")
    train = ["train", run, "--slides", cohort.sheet, "--out", out, "--pyramids", pyramids]
    one = saccade_(*train, "--device", "cpu", "--fold", "1").stderr
    rest = saccade_(*train, "--device", "cpu").stderr

    assert "fold_2/slides.csv: 2 train, 2 val, 2 test" in split.stderr
    assert (tmp_path / "split" / "folds.csv").read_text() == (out / "folds.csv").read_text()
    assert "other folds are still to be trained" in one
    assert [line for line in rest.splitlines() if line.startswith("fold ")] == [
        f"fold {fold}, of folds 0 to 2" for fold in range(3)
    ]
    assert rest.splitlines()[-1] == str(out / "cross_validation.json")
    assert "there are folds 0 to 2" in refusal(*train, "--fold", "7")
    assert "set splits.folds" in refusal(
        "train", cohort.run, "--slides", cohort.sheet, "--out", out, "--fold", "0"
    )


def test_saliency_leaves_a_picture_and_is_done_once(cohort: TinyCohort, tmp_path: Path) -> None:
    model = write_narrow_model(tmp_path / "saliency.safetensors")
    command = ["saliency", cohort.path("s6"), "--model", model, "--out", tmp_path / "out"]
    command += ["--device", "cpu"]

    first, second = saccade_(*command), saccade_(*command)

    assert first.stderr.splitlines()[-1] == str(tmp_path / "out" / "saliency.png")
    assert second.stderr.splitlines()[-1].endswith("saliency.png is up to date")
    assert "cannot be read as a GeoJSON" in refusal(*command, "--roi", tmp_path / "no.geojson")
    assert "is not a saliency model" in refusal(*command, "--model", cohort.run)


def test_embedding_leaves_a_table_and_is_done_once(
    cohort: TinyCohort, predicted: Path, tmp_path: Path
) -> None:
    pyramid, out = predicted / "pyramid.zarr", tmp_path / "out"
    named = ["--encoder", "compact", "--tile-px", 32, "--tile-mpp", 1]
    common = ["embed", cohort.path("s6"), "--out", out, "--pyramid", pyramid]
    first, second = (saccade_(*common, *named) for _ in range(2))

    warning, done = first.stderr.splitlines()
    assert "compact: no --weights, so this encoder is untrained" in warning
    assert done == str(out / "features.h5")
    assert second.stderr.splitlines()[-1].endswith("features.h5 is up to date")
    assert "either --model or --encoder" in refusal(*common)
    assert "KEY=VALUE" in refusal(*common, *named, "--encoder-option", "width")
    assert saccade_(*common, *named, "--encoder-option", "width=8").exit_code == 0
    with h5py.File(out / "features.h5") as file:
        assert file["features"].shape[1] == 8 * 8  # mean and maximum of 4 x 8 channels


def test_segment_leaves_a_picture_and_is_done_once(cohort: TinyCohort, tmp_path: Path) -> None:
    model = write_small_model(tmp_path / "model.safetensors")
    command = ["segment", cohort.path("s6"), "--model", model, "--out", tmp_path / "out"]
    first = saccade_(*command, "--tile", 256, "--min-area", 50)
    second = saccade_(*command, "--tile", 256, "--min-area", 50)

    assert first.stderr.splitlines()[-1] == str(tmp_path / "out" / "segmentation.png")
    assert second.stderr.splitlines()[-1].endswith("segmentation.png is up to date")
    assert "tile wants a multiple of 32 pixels" in refusal(*command, "--tile", 100)


def test_mask_leaves_a_picture_and_is_done_once(
    cohort: TinyCohort, trained: Path, tmp_path: Path
) -> None:
    model = write_mask_model(tmp_path / "model.safetensors")
    command = ["mask", cohort.path("s6"), "--model", model, "--out", tmp_path / "out"]
    command += ["--device", "cpu"]

    first, second = saccade_(*command, "--tiles", 2), saccade_(*command, "--tiles", 2)

    assert first.stderr.splitlines()[-1] == str(tmp_path / "out" / "mask.png")
    assert second.stderr.splitlines()[-1].endswith("mask.png is up to date")
    assert "leave --tiles or --all-tissue" in refusal(*command, "--tiles", 2, "--all-tissue")
    without = trained / "model.safetensors"
    assert "has no attention modules" in refusal(*command, "--model", without)


def test_detection_leaves_a_picture_and_is_done_once(cohort: TinyCohort, tmp_path: Path) -> None:
    model = write_detector(tmp_path / "detector.safetensors")
    command = ["detect", cohort.path("s6"), "--model", model, "--out", tmp_path / "out"]
    command += ["--device", "cpu", "--min-score", 0.1, "--gzip"]

    first, second = saccade_(*command), saccade_(*command)

    assert first.stderr.splitlines()[-1] == str(tmp_path / "out" / "detection.png")
    assert second.stderr.splitlines()[-1].endswith("detection.png is up to date")
    assert (tmp_path / "out" / "detection.geojson.gz").is_file()
    assert "leave --roi or --places out" in refusal(*command, "--roi", "a", "--places", "b")
    assert "make them larger (--tile)" in refusal(*command, "--tile", 32, "--overlap", 32)
    assert "is not a detector" in refusal(*command, "--model", cohort.run)


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["info"],
        ["info", "slide.svs", "--colour"],
        ["predict", "slide.svs", "--out", "out"],
        ["pyramid", "slide.svs", "--out", "out", "--workers", "0"],
        ["pyramid", "slide.svs", "--out", "out", "--full", "--codec", "png"],
        ["pyramid", "slide.svs", "--out", "out", "--codec", "zstd"],
        ["info", "slide.svs", "--mpp", "0"],
        ["info", "slide.svs", "--mpp", "-0.25"],
        ["info", "slide.svs", "--mpp", "nan"],
        ["info", "slide.svs", "--mpp", "a quarter"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert "Usage" in saccade_(*arguments, code=2).stderr


def test_info_says_what_a_slide_is(cohort: TinyCohort) -> None:
    facts = json.loads(saccade_("info", cohort.path("s1"), "--json").stdout)

    assert list(facts) == [
        *("width_l0", "height_l0", "mpp_x", "mpp_y", "levels", "vendor", "objective_power"),
        *("bounds", "reader", "content_hash"),
    ]
    assert (facts["width_l0"], facts["height_l0"]) == (704, 960)
    assert (facts["mpp_x"], facts["mpp_y"]) == pytest.approx((0.5, 0.5))
    assert facts["levels"] == [
        {"width": 704 // n, "height": 960 // n, "downsample": n} for n in (1, 2, 4)
    ]
    assert facts["content_hash"].startswith("sha256:")


def test_info_for_people_says_the_same(cohort: TinyCohort) -> None:
    said = dict(
        line.split(maxsplit=1) for line in saccade_("info", cohort.path("s1")).stdout.splitlines()
    )

    assert said["width_l0"] == "704"
    assert said["bounds"] == "-"


def test_info_does_not_need_an_mpp_but_takes_one(bare: Path) -> None:
    assert json.loads(saccade_("info", bare, "--json").stdout)["mpp_x"] is None
    told = saccade_("info", bare, "--json", "--mpp", "0.25").stdout
    assert json.loads(told)["mpp_x"] == 0.25


def test_what_is_no_slide_is_one_line(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("not a slide")

    assert "notes.txt" in refusal("info", notes)
    assert "no such file" in refusal("info", tmp_path / "lost.svs")
    assert "no OME-Zarr" in refusal("info", tmp_path)


def test_pyramid_is_made_once(cohort: TinyCohort, tmp_path: Path) -> None:
    first = saccade_("pyramid", cohort.path("s0"), "--out", tmp_path / "s0")
    second = saccade_("pyramid", cohort.path("s0"), "--out", tmp_path / "s0")

    assert (tmp_path / "s0" / "pyramid.zarr" / "zarr.json").is_file()
    assert "is up to date" not in first.stderr
    assert "is up to date" in second.stderr


def test_a_full_pyramid_lies_beside_the_thumbnails(cohort: TinyCohort, tmp_path: Path) -> None:
    slide, out = cohort.path("s0"), tmp_path / "s0"
    said = [saccade_("pyramid", slide, "--out", out, *more).stderr for more in (
        [], ["--full"], ["--full"], [], ["--full", "--codec", "zstd"]
    )]  # fmt: skip

    assert sorted(path.name for path in out.glob("*.zarr")) == ["full.zarr", "pyramid.zarr"]
    assert ["is up to date" in line for line in said] == [False, False, True, True, False]


def test_without_an_mpp_one_line_says_the_way_out(
    bare: Path, tmp_path: Path, trained: Path
) -> None:
    out = tmp_path / "out"
    for command in (
        ["pyramid", bare, "--out", out],
        ["predict", bare, "--model", trained / "model.safetensors", "--out", out],
        ["run", bare, "--models", trained, "--out", out],
    ):
        assert "--mpp 0.25" in refusal(*command)
    saccade_("pyramid", bare, "--out", out, "--mpp", "0.5")


def test_settings_that_cannot_be_are_one_line(cohort: TinyCohort, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "out"]
    slide = cohort.path("s0")

    assert "finest_mpp" in refusal("pyramid", slide, *out, "--finest-mpp", "0")
    model = ["--model", tmp_path / "none.safetensors"]
    assert "device 'abacus'" in refusal("predict", slide, *model, *out, "--device", "abacus")
    assert "tiles must be" in refusal("predict", slide, *model, *out, "--tiles", "0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiles: {per_slid: 3}", "line 1: unknown key tiles.per_slid"),
        ("training:\n  epochs: many", "line 2: training.epochs must be a whole number"),
        ("view: {mpp: -4}", "view.mpp must be positive"),
        ("a: b: c", "is not YAML"),
        ("model: {attention: nearsighted}", "nearsighted"),
        ("model: {weights: nowhere.pt, encoder: 'timm:resnet10t'}", "nowhere.pt"),
    ],
)
def test_bad_settings_of_a_run_are_one_line(
    cohort: TinyCohort, tmp_path: Path, text: str, message: str
) -> None:
    run = tmp_path / "run.yaml"
    run.write_text(text)
    line = refusal("train", run, "--slides", cohort.sheet, "--out", tmp_path / "out")
    assert message in line


def test_settings_that_are_no_text_are_one_line(cohort: TinyCohort, tmp_path: Path) -> None:
    slide = cohort.path("s0")
    assert "s0.tiff" in refusal("train", slide, "--slides", cohort.sheet, "--out", tmp_path)
    assert "s0.tiff" in refusal("train", cohort.run, "--slides", slide, "--out", tmp_path)
    lost = tmp_path / "lost"
    assert "lost" in refusal("train", lost, "--slides", cohort.sheet, "--out", tmp_path)
    assert "lost" in refusal("train", cohort.run, "--slides", lost, "--out", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,path\n", "lists no slide"),
        ("slide,file\na,b\n", "no column path"),
        ("slide,path,split\na,b,tset\n", "wanted train, val, test"),
        ("slide,path,label,split\na,b,x,train\nb,b,x,train\n", "two classes"),
    ],
)
def test_a_bad_sheet_is_one_line(
    cohort: TinyCohort, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "slides.csv").write_text(text)
    sheet = ["--slides", tmp_path / "slides.csv"]
    result = saccade_("train", cohort.run, *sheet, "--out", tmp_path / "out", code=1)
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_train_reports_each_epoch_and_where_the_model_is(
    cohort: TinyCohort, tmp_path: Path, pyramids: Path
) -> None:
    arguments = ["train", cohort.run, "--slides", cohort.sheet, "--out", tmp_path / "model"]
    result = saccade_(*arguments, "--pyramids", pyramids, "--device", "cpu")

    said = result.stderr.splitlines()
    assert [line.split()[:2] for line in said[:2]] == [["epoch", "1/2"], ["epoch", "2/2"]]
    assert said[2] == str(tmp_path / "model" / "model.safetensors")
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_train_names_the_slides_it_could_not_use(
    cohort: TinyCohort, tmp_path: Path, pyramids: Path
) -> None:
    """It costs them, not the run; the exit code says that something is missing."""
    name = "a-slide-of-a-very-long-name_2024-05-17_HE_block-3_level-2_rescan"
    lost = replace(cohort.rows[0], slide=name, path=tmp_path / "lost.tiff")
    sheet = write_sheet(tmp_path / "slides.csv", [*cohort.rows, lost])
    arguments = ["train", cohort.run, "--slides", sheet, "--out", tmp_path / "model"]
    result = saccade_(*arguments, "--pyramids", pyramids, "--device", "cpu", code=1)

    (line,) = (line for line in result.stderr.splitlines() if name in line)
    assert "no such file" in line
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_a_folder_in_use_is_waited_for_and_that_is_said(
    cohort: TinyCohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with held_until_waited_for(tmp_path, "pyramid"):
        saccade_("pyramid", cohort.path("s0"), "--out", tmp_path)
    assert f"{tmp_path}: another process is writing there; waiting" in caplog.text


def test_predict_says_what_it_saw(cohort: TinyCohort, trained: Path, predicted: Path) -> None:
    model = ["--model", trained / "model.safetensors", "--out", predicted]
    result = saccade_("predict", cohort.path("s6"), *model, "--device", "cpu")

    line, *notes = result.stderr.splitlines()
    assert all(note.startswith("note: ") for note in notes)
    assert "is up to date" in line
    assert "4 tiles read" in line
    assert "by the chance of the draw" in line
    assert str(predicted / "attention.png") in line
    again = saccade_("predict", cohort.path("s6"), *model, "--device", "cpu", "--seed", "3")
    assert "is up to date" not in again.stderr


def test_predict_chooses_tiles_as_it_is_told(
    cohort: TinyCohort, trained: Path, tmp_path: Path
) -> None:
    def said(*options: object) -> str:
        model = ["--model", trained / "model.safetensors", "--out", tmp_path, "--device", "cpu"]
        return saccade_("predict", cohort.path("s6"), *model, *options).stderr.splitlines()[0]

    assert "chance of the draw" not in said("--top")
    assert int(said("--repeats", "3").split(" tiles read")[0].split()[-1]) > 4
    assert re.search(r"sure after \d+ tiles read", said("--until-sure", "0", "--tiles", "20"))
    assert ", all " in said("--until-sure", "0.49", "--tiles", "100000")
    run = ["run", cohort.path("s6"), "--models", trained, "--out", tmp_path / "run"]
    saccade_(*run, "--top", "--tiles", "3", "--device", "cpu")
    kept = json.loads((tmp_path / "run" / "prediction.json").read_text())
    assert (kept["mode"], kept["tiles_read"]) == ("top", 3)


def test_ways_to_choose_tiles_that_exclude_each_other_are_one_line(
    cohort: TinyCohort, trained: Path, tmp_path: Path
) -> None:
    slide = ["predict", cohort.path("s6"), "--model", trained / "model.safetensors"]
    out = ["--out", tmp_path / "out"]

    assert "leave repeats out" in refusal(*slide, *out, "--top", "--repeats", "2")
    assert "Leave top out" in refusal(*slide, *out, "--top", "--until-sure", "0")
    assert "Leave repeats out" in refusal(*slide, *out, "--repeats", "2", "--until-sure", "0")
    assert "below 0.5" in refusal(*slide, *out, "--until-sure", "1")


@pytest.mark.parametrize("content", [None, b"", b"\x80\x04nonsense" * 100])
def test_a_bad_model_is_one_line(cohort: TinyCohort, tmp_path: Path, content: bytes | None) -> None:
    model = tmp_path / "model.safetensors"
    if content is not None:
        model.write_bytes(content)
    out = ["--out", tmp_path / "out"]
    assert "model" in refusal("predict", cohort.path("s6"), "--model", model, *out)
    assert "model" in refusal("run", cohort.path("s6"), "--models", tmp_path, *out)


def test_run_does_everything(cohort: TinyCohort, trained: Path, tmp_path: Path) -> None:
    saccade_("run", cohort.path("s7"), "--models", trained, "--out", tmp_path, "--device", "cpu")

    for name in ("prediction.json", "attention.png", "qupath/attention.geojson"):
        assert (tmp_path / name).stat().st_size > 100


def test_export_and_its_refusals(predicted: Path, tmp_path: Path) -> None:
    assert str(predicted / "qupath") in saccade_("export", predicted).stderr
    assert (predicted / "qupath" / "open_in_qupath.groovy").is_file()
    assert "known: qupath" in refusal("export", predicted, "--to", "sketchbook")
    assert "record.json" in refusal("export", tmp_path)


def test_evaluate_writes_a_table_and_names_what_is_missing(
    cohort: TinyCohort, predicted: Path, tmp_path: Path
) -> None:
    arguments = ["evaluate", predicted.parent, "--slides", cohort.sheet, "--out", tmp_path]
    result = saccade_(*arguments, "--split", "test", code=1)

    with (tmp_path / "summary.csv").open(newline="") as file:
        table = {row["slide"]: row for row in csv.DictReader(file)}
    assert {slide: row["status"] for slide, row in table.items()} == {"s6": "ok", "s7": "missing"}
    assert "s7" in result.stderr
    assert "s6 " not in result.stderr
    assert "1 slides, accuracy" in result.stderr


def test_evaluate_without_any_prediction_is_one_line(cohort: TinyCohort, tmp_path: Path) -> None:
    line = refusal("evaluate", tmp_path, "--slides", cohort.sheet, "--out", tmp_path)
    assert "holds no prediction" in line
    arguments = ["evaluate", tmp_path, "--slides", cohort.sheet, "--out", tmp_path]
    assert "tset" in refusal(*arguments, "--split", "tset")


def test_demo_refuses_the_folder_of_another_demo(tmp_path: Path) -> None:
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "cohort.json").write_text('{"seed": 0}')

    result = saccade_("demo", "--out", tmp_path, "--seed", "1", code=1)
    assert "holds a cohort made otherwise" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_a_bug_is_no_error_of_the_input(
    cohort: TinyCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slide, "peek", Mock(side_effect=ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        saccade_("info", cohort.path("s0"))


def test_the_commands_are_those_that_are_promised() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    promised = {"info", "pyramid", "train", "split", "predict", "saliency", "embed", "mask", "run"}
    promised |= {"segment", "detect", "evidence", "export", "evaluate", "demo", "fetch"}
    assert set(commands) == promised
