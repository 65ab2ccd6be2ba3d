import re
from pathlib import Path

import pytest

from saccade.pipeline.errors import SheetError
from saccade.pipeline.sheet import classes_of, of_split, read_sheet
from saccade.tiling.remote import Url

HEADER = "slide,path,label,patient,split,mpp\n"


def write(tmp_path: Path, rows: str, header: str = HEADER) -> Path:
    sheet = tmp_path / "slides.csv"
    sheet.write_text(header + rows)
    return sheet


def test_rows_are_read_with_paths_from_the_sheets_folder(tmp_path: Path) -> None:
    sheet = write(tmp_path, "a,slides/a.svs,tumour,p1,train,0.25\nb,/data/b.svs,normal,,test,\n")

    first, second = read_sheet(sheet)

    assert (first.path, first.mpp, first.patient) == (tmp_path / "slides/a.svs", 0.25, "p1")
    assert (second.path, second.mpp, second.patient) == (Path("/data/b.svs"), None, "b")
    assert classes_of([first, second]) == ("normal", "tumour")


def test_only_slide_and_path_are_needed(tmp_path: Path) -> None:
    (row,) = read_sheet(write(tmp_path, "a,a.svs\n", header="slide,path\n"))

    assert (row.label, row.split, row.mpp) == ("", "", None)


def test_a_spreadsheets_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    (row,) = read_sheet(write(tmp_path, "a,a.svs\n", header="\ufeffslide,path\n"))

    assert row.slide == "a"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "lists no slide"),
        ("a,a.svs,x,,train,\na,b.svs,x,,train,\n", "slide a is listed twice"),
        ("a/b,a.svs,x,,train,\n", "line 2: slide 'a/b' cannot name a folder"),
        ("../a,a.svs,x,,train,\n", "cannot name a folder"),
        ("model,a.svs,x,,train,\n", "line 2: slide 'model' would share its folder"),
        ("a,,x,,train,\n", "slide a has no path"),
        ("a,a.svs,x,,training,\n", "split is 'training'; wanted train, val, test or empty"),
        ("a,a.svs,x,,train,0\n", "mpp is '0'; wanted micrometres per pixel"),
        ("a,a.svs,x,,train,nan\n", "mpp is 'nan'"),
        ("a,a.svs,x,,train,fine\n", "mpp is 'fine'"),
        ("a,a.svs,x,,train,,7\n", "more cells than the header"),
        ("a,a.svs,x,p,train,\nb,b.svs,y,p,test,\n", "patient p is in test and train"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(SheetError, match=re.escape(message)):
        read_sheet(write(tmp_path, rows))


@pytest.mark.parametrize(
    ("header", "message"),
    [("slide,label\n", "no column path"), ("slide,path,lable\n", "unknown column lable")],
)
def test_the_header_is_checked(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(SheetError, match=message):
        read_sheet(write(tmp_path, "a,b,c\n", header=header))


def test_a_missing_sheet_is_named(tmp_path: Path) -> None:
    with pytest.raises(SheetError, match="cannot be read as a CSV table"):
        read_sheet(tmp_path / "none.csv")


def test_a_split_that_nobody_has_is_refused(tmp_path: Path) -> None:
    rows = read_sheet(write(tmp_path, "a,a.svs,x,,train,\n"))

    assert of_split(rows, None) == of_split(rows, "train") == rows
    with pytest.raises(SheetError, match="no slide has split 'test'; found: train"):
        of_split(rows, "test")


def test_a_url_stays_as_it_is_and_shows_no_signature(tmp_path: Path) -> None:
    (row,) = read_sheet(write(tmp_path, "a,s3://bucket/a.svs?X=secret,,,,\n"))

    assert row.path == Url("s3://bucket/a.svs?X=secret")
    assert "secret" not in repr(row)
    with pytest.raises(SheetError, match="line 2: '1s://b' is no URL"):
        read_sheet(write(tmp_path, "a,1s://b,,,,\n"))
