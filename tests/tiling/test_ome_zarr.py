"""OME-Zarr: both versions, any unit, and nothing executed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import slides
import zarr

from saccade.tiling.errors import UnreadableSlideError
from saccade.tiling.open import open_slide

PIXELS = slides.tissue_like(301, 203)


def test_levels_have_the_scale_that_is_recorded(tmp_path: Path) -> None:
    path = slides.write_ome_zarr(tmp_path / "a.zarr", PIXELS)
    with open_slide(path) as slide:  # 301 / 150 would be 2.0067
        assert [level.downsample for level in slide.levels] == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(("unit", "mpp"), [("nanometer", 5e-4), ("millimeter", 500), (None, None)])
def test_units(unit: str | None, mpp: float | None, tmp_path: Path) -> None:
    path = slides.write_ome_zarr(tmp_path / "a.zarr", PIXELS, unit=unit)
    with open_slide(path) as slide:
        assert slide.recorded_mpp == (None if mpp is None else pytest.approx((mpp, mpp)))


def test_16_bits_and_stated_channels(tmp_path: Path) -> None:
    stack = np.stack([np.full((40, 50), 257 * (i + 1), np.uint16) for i in range(4)], axis=2)
    path = slides.write_ome_zarr(tmp_path / "a.zarr", stack, levels=1)
    with open_slide(path) as slide:
        assert np.all(slide.read(0, 0, 8, 0.5) == [1, 2, 3])
    with open_slide(path, channels=(3,)) as slide:
        assert np.all(slide.read(0, 0, 8, 0.5) == 4)
    with pytest.raises(UnreadableSlideError, match="4 channels"):
        open_slide(path, channels=(4,))


def test_the_first_image_of_a_bioformats2raw_folder(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "all.zarr", mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    slides.write_ome_zarr(tmp_path / "one.zarr", PIXELS, version="0.4")
    shutil.move(tmp_path / "one.zarr", tmp_path / "all.zarr" / "0")
    with open_slide(tmp_path / "all.zarr") as slide:
        assert slide.size_l0 == (301, 203)


def test_a_zarr_that_is_no_image(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "a.zarr", mode="w")
    with pytest.raises(UnreadableSlideError, match="no multiscales"):
        open_slide(tmp_path / "a.zarr")


def test_a_chunk_cut_short(tmp_path: Path) -> None:
    path = slides.write_ome_zarr(tmp_path / "a.zarr", PIXELS)
    chunk = path / "0" / "c" / "0" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:50])
    with open_slide(path) as slide, pytest.raises(UnreadableSlideError, match=r"a\.zarr: the pix"):
        slide.read(0, 0, 16, 0.5)


class Trap:
    """Unpickling this would make a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_nothing_in_a_folder_is_executed(tmp_path: Path) -> None:
    import pickle

    path = slides.write_ome_zarr(tmp_path / "a.zarr", PIXELS, version="0.4", levels=1)
    metadata = path / "0" / ".zarray"
    facts = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(facts | {"filters": [{"id": "pickle"}], "compressor": None}))
    for chunk in (path / "0").rglob("0"):
        if chunk.is_file():
            chunk.write_bytes(pickle.dumps(Trap(tmp_path / "executed")))
    with pytest.raises(UnreadableSlideError, match="not known here"):
        open_slide(path)
    assert not (tmp_path / "executed").exists()


def test_levels_outside_the_folder_are_refused(tmp_path: Path) -> None:
    slides.write_ome_zarr(tmp_path / "other.zarr", PIXELS)
    path = slides.write_ome_zarr(tmp_path / "a.zarr", PIXELS, levels=1)
    metadata = path / "zarr.json"
    told = metadata.read_text().replace('"path": "0"', '"path": "../other.zarr/0"')
    metadata.write_text(told)
    with pytest.raises(UnreadableSlideError, match="outside"):
        open_slide(path)
