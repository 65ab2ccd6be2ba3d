"""The reader is found by content, and every refusal is one line that says what to do."""

from __future__ import annotations

import os
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import slides
from PIL import Image

from saccade.tiling import describe, open_slide
from saccade.tiling.errors import SlideError, SlideNotFoundError, UnreadableSlideError
from saccade.tiling.sources import image as image_module
from saccade.tiling.units import recorded_mpp

PIXELS = slides.tissue_like(300, 200)


@pytest.mark.parametrize("name", ["slide", "slide.png", "slide.txt", "slide.zarr"])
def test_names_do_not_matter(name: str, tmp_path: Path) -> None:
    path = slides.write_pyramid_tiff(tmp_path / name, PIXELS, levels=1)
    with open_slide(str(path)) as slide:
        assert slide.info.reader == "openslide"


def test_ome_tiff_is_read_with_its_levels_and_scale(tmp_path: Path) -> None:
    path = slides.write_ome_tiff(tmp_path / "a.tif", PIXELS, mpp=0.3, tile=128)
    with open_slide(path) as slide:
        assert len(slide.levels) == 3
        assert slide.mpp == (0.3, 0.3)


def _refusal(path: Path) -> str:
    with pytest.raises(UnreadableSlideError) as caught:
        open_slide(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path.name}: ")
    return message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>503</html>", "an HTML page"),
        (b"<?xml version='1.0'?><a/>", "XML"),
        (b"slide,label\n", "text"),
        (bytes(range(64)), "unknown kind, beginning with 00 01 02"),
        (b"ZISRAWFILE" + bytes(40), "a Zeiss CZI"),
        (bytes(128) + b"DICM" + bytes(40), "a DICOM file"),
        (b"%PDF-1.7", "a PDF"),
        (b"PK\x03\x04", "a ZIP archive"),
    ],
)
def test_what_is_no_slide_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "slide.svs"
    path.write_bytes(content)
    assert words in _refusal(path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(SlideNotFoundError, match=r"missing\.svs"):
        open_slide(tmp_path / "missing.svs")


def test_a_folder_that_is_no_slide(tmp_path: Path) -> None:
    assert "no OME-Zarr" in _refusal(tmp_path)


def test_something_that_is_no_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "not a file" in _refusal(pipe)


def test_a_mirax_index_alone_is_no_slide(tmp_path: Path) -> None:
    path = slides.write_image(tmp_path / "a.jpg", PIXELS).rename(tmp_path / "a.mrxs")
    assert "folder 'a'" in _refusal(path)


def test_a_picture_cut_short(tmp_path: Path) -> None:
    path = slides.write_image(tmp_path / "a.png", PIXELS)
    path.write_bytes(path.read_bytes()[:2000])
    assert "cut short" in _refusal(path)


def test_a_picture_too_large_to_decode_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = slides.write_image(tmp_path / "a.png", PIXELS)
    monkeypatch.setattr(image_module, "MOST_PIXELS", 300 * 200 - 1)
    assert "tiled TIFF" in _refusal(path)


def test_a_picture_that_claims_to_be_enormous(tmp_path: Path) -> None:
    path = slides.write_image(tmp_path / "a.png", PIXELS)
    data = bytearray(path.read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2  # width and height of the header
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    assert "tiled TIFF" in _refusal(path)


def test_transparent_and_deep_pictures(tmp_path: Path) -> None:
    clear = np.zeros((4, 5, 4), np.uint8)
    clear[:, 2:, 3] = 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    with open_slide(tmp_path / "clear.png", mpp=1) as slide:
        assert slide.read(0, 0, (5, 1), 1)[0, :, 0].tolist() == [255, 255, 0, 0, 0]
    deep = np.array([[0, 128 * 257, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    with open_slide(tmp_path / "deep.png", mpp=1) as slide:
        assert slide.read(0, 0, (3, 1), 1)[0, :, 1].tolist() == [0, 128, 255]


def test_a_damaged_openslide_file_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = slides.write_pyramid_tiff(tmp_path / "a.tif", PIXELS, levels=1)
    data = bytearray(path.read_bytes())
    start = data.rindex(b"\xff\xda")  # a scan of the last tile
    data[start - 40 : start + 40] = bytes(80)
    path.write_bytes(data)
    with open_slide(path) as slide, pytest.raises(UnreadableSlideError, match=r"a\.tif: the pix"):
        slide.read(0, 0, (300, 200), 0.5)


@pytest.mark.parametrize("mpp", [0.0, -0.25, float("nan"), float("inf")])
def test_an_impossible_mpp_is_refused(mpp: float) -> None:
    with pytest.raises(ValueError, match="mpp must be"):
        open_slide(PIXELS, mpp=mpp)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
)
def test_arrays_that_are_no_rgb(pixels: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match="uint8"):
        open_slide(pixels)


def test_channels_are_for_files_that_have_them(tmp_path: Path) -> None:
    path = slides.write_image(tmp_path / "a.png", PIXELS)
    with pytest.raises(ValueError, match="TIFF and OME-Zarr"):
        open_slide(path, channels=(0,))
    with pytest.raises(ValueError, match="one to three"):
        open_slide(path, channels=())


@pytest.mark.parametrize(
    ("size_um", "recorded"),
    [(0.25, True), (28.969, True), (1000.0, True), (25400 / 72, False), (25400 / 96, False)],
)
def test_a_screens_dots_per_inch_are_no_record(size_um: float, recorded: bool) -> None:
    assert (recorded_mpp(size_um, size_um) is not None) == recorded


@pytest.mark.parametrize("size_um", [0.0, -1.0, float("nan"), float("inf"), None])
def test_sizes_that_cannot_be(size_um: float | None) -> None:
    assert recorded_mpp(size_um, 0.5) is None


def test_every_real_file_gives_facts_or_one_line(
    test_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = [path for path in sorted((test_data / "slides").rglob("*")) if path.is_file()]
    assert files
    opened = 0
    for path in files:
        start = time.monotonic()
        try:
            with open_slide(path) as slide:
                opened += describe(slide)["width_l0"] is not None
        except SlideError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert path.name in str(error)  # noqa: PT017
        assert time.monotonic() - start < 10, path
    assert opened > len(files) // 3
    assert capfd.readouterr() == ("", "")
