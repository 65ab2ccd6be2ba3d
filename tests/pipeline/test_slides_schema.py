"""The schema of slides.csv and its reader take the same sheets."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from saccade.pipeline.errors import SheetError
from saccade.pipeline.sheet import COLUMNS, REQUIRED, SPLITS, read_sheet
from saccade.pipeline.workflow import sheet_table

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "pipeline" / "schemas" / "slides.schema.yaml"


def refusals(sheet: Path) -> tuple[bool, bool]:
    """Whether the reader, and whether the schema, refuse a sheet."""
    return _refused_by_reader(sheet), _refused_by_schema(sheet)


def _refused_by_reader(sheet: Path) -> bool:
    try:
        read_sheet(sheet)
    except SheetError:
        return True
    return False


def _refused_by_schema(sheet: Path) -> bool:
    try:
        validate(sheet_table(sheet), str(SCHEMA))
    except WorkflowError as error:
        return type(error.__context__).__name__ == "ValidationError"
    return False


def write(folder: Path, *lines: str) -> Path:
    sheet = folder / "slides.csv"
    sheet.write_text("\n".join(lines) + "\n")
    return sheet


@pytest.mark.parametrize(
    "lines",
    [
        ("slide,path", "a,a.svs", "NA,b.svs"),
        ("slide,path,label,patient,split,mpp", "001,a.svs,NA,7,train,0.25", "b,b.svs,,,,"),
        ("slide,path,split", "a, a.svs ,test ", ",,", "b,b.svs"),
        ("mpp,path,slide", ".5,a.svs,a.b_c-d", "2.5e-1,b,2", "5,c,3"),
        ("slide,path", "a,s3://bucket/a.svs", "b,HTTPS://host/b.svs?c=d", "c,file:///c.svs"),
    ],
)
def test_good_sheets_are_taken_by_both(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert refusals(write(tmp_path, *lines)) == (False, False)


@pytest.mark.parametrize(
    "lines",
    [
        ("slide,label", "a,x"),
        ("slide,path", "a,s3:///a.svs"),
        ("slide,path", "a,1s://a.svs"),
        ("slide,path", "a,"),
        ("slide,path", ",a.svs"),
        ("slide,path", "../a,a.svs"),
        ("slide,path,split", "a,a.svs,training"),
        ("slide,path,mpp", "a,a.svs,0.0"),
        ("slide,path,mpp", "a,a.svs,-0.25"),
        ("slide,path,mpp", "a,a.svs,inf"),
        ("slide,path,mpp", "a,a.svs,fine"),
    ],
)
def test_bad_sheets_are_refused_by_both(tmp_path: Path, lines: tuple[str, ...]) -> None:
    assert refusals(write(tmp_path, *lines)) == (True, True)


def test_further_columns_are_the_readers_to_judge(tmp_path: Path) -> None:
    """Only the settings say which there are, and the schema does not know them."""
    sheet = write(tmp_path, "slide,path,stain", "a,a.svs,HE")

    assert refusals(sheet) == (True, False)
    assert read_sheet(sheet, ("stain",))[0].targets == {"stain": "HE"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(mpp=st.floats(1e-9, 1e9), form=st.sampled_from(["{}", "{:.3f}", "{:e}", "{:.0f}"]))
def test_any_way_to_write_a_scale_is_judged_alike(tmp_path: Path, mpp: float, form: str) -> None:
    by_reader, by_schema = refusals(
        write(tmp_path, "slide,path,mpp", f"a,a.svs,{form.format(mpp)}")
    )
    assert by_reader == by_schema


def test_the_schema_knows_the_columns_of_the_reader() -> None:
    schema = yaml.safe_load(SCHEMA.read_text())

    assert tuple(schema["properties"]) == COLUMNS
    assert tuple(schema["required"]) == REQUIRED
    assert {*schema["properties"]["split"]["enum"], ""} == {*SPLITS}
    assert all(column["description"] for column in schema["properties"].values())


@pytest.mark.parametrize(("unknown", "taken"), [("val", True), ("test", False)])
def test_the_workflow_holds_the_sheet_to_the_schema(
    tmp_path: Path, unknown: str, taken: bool
) -> None:
    """Proved with a schema that knows one split less: only the schema can refuse that sheet."""
    for folder in ("rules", "schemas"):
        shutil.copytree(ROOT / "pipeline" / folder, tmp_path / folder)
    schema = yaml.safe_load(SCHEMA.read_text())
    schema["properties"]["split"]["enum"].remove(unknown)
    (tmp_path / "schemas" / SCHEMA.name).write_text(yaml.safe_dump(schema))
    rows = ["a,a.svs,x,train", "b,b.svs,y,train", "c,c.svs,y,test"]
    write(tmp_path, "slide,path,label,split", *rows)
    for name in ("a.svs", "b.svs", "c.svs", "run.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "config.yaml").write_text("slides: slides.csv\nrun: run.yaml\n")

    command = [sys.executable, "-m", "snakemake", "--dry-run", "--snakefile", "rules/saccade.smk"]
    ended = subprocess.run(
        [*command, "--configfile", "config.yaml"], cwd=tmp_path, capture_output=True, text=True
    )

    said = ended.stdout + ended.stderr
    assert (ended.returncode == 0) == taken, said
    assert (f"'{unknown}' is not one of" in said) != taken
