"""TIFF and OME-TIFF that OpenSlide refuses: what is stored, and what is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import slides
import tifffile
from numpy.typing import NDArray

from saccade.tiling.describe import describe
from saccade.tiling.errors import UnreadableSlideError
from saccade.tiling.open import open_slide
from saccade.tiling.sources import segment_decoder
from saccade.tiling.sources.segments import SegmentCache
from saccade.tiling.sources.tiff import TiffSource

PIXELS = slides.tissue_like(300, 200)


def _all(path: Path, channels: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    with open_slide(path, mpp=1.0, channels=channels) as slide:
        return slide.read(0, 0, slide.size_l0, 1.0)


@pytest.mark.parametrize("compression", ["jpeg", "deflate", "lzw", None])
def test_every_level_equals_openslides(compression: str | None, tmp_path: Path) -> None:
    path = slides.write_pyramid_tiff(
        tmp_path / "a.tif", PIXELS, levels=2, tile=64, compression=compression or "none"
    )
    source = TiffSource(path)
    with openslide.OpenSlide(path) as peer:
        assert source.info.mpp == pytest.approx((0.5, 0.5))
        for level, size in enumerate(peer.level_dimensions):
            found = source.read_level(level, 0, 0, size)
            region = peer.read_region((0, 0), level, size).convert("RGB")
            assert np.array_equal(found, np.asarray(region))
    source.close()


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "TCGA-CR-7395-01A-01-TS1.svs"])
def test_aperio_equals_openslide(name: str, test_data: Path) -> None:
    path = test_data / "slides" / "aperio" / name
    source = TiffSource(path)
    with openslide.OpenSlide(path) as peer:
        sizes = [(level.width, level.height) for level in source.info.levels]
        assert tuple(sizes) == peer.level_dimensions
        for level in range(len(sizes)):
            found = source.read_level(level, 0, 0, (600, 500))
            region = peer.read_region((0, 0), level, (600, 500)).convert("RGB")
            assert np.array_equal(found, np.asarray(region))
    source.close()


def test_only_the_segments_that_are_touched_are_decoded(tmp_path: Path) -> None:
    path = slides.write_flat_tiff(tmp_path / "a.tif", PIXELS, compression="lzw", tile=64)
    source = TiffSource(path)
    assert np.array_equal(source.read_level(0, 60, 70, (10, 10)), PIXELS[70:80, 60:70])
    first = source.counts()
    assert first.tiles == 2
    source.read_level(0, 60, 70, (10, 10))
    assert source.counts() == first, "what was decoded a moment ago is kept"
    source.close()


def test_of_an_uncompressed_file_only_the_rectangle_is_read(tmp_path: Path) -> None:
    path = slides.write_flat_tiff(tmp_path / "a.tif", PIXELS)
    source = TiffSource(path)
    assert np.array_equal(source.read_level(0, 60, 70, (10, 20)), PIXELS[70:90, 60:70])
    assert source.counts().compressed_bytes == 10 * 20 * 3
    source.close()


def test_the_cache_stays_small() -> None:
    cache = SegmentCache(most_bytes=100)
    made: list[int] = []

    def make(i: int) -> NDArray[Any]:
        made.append(i)
        return np.zeros(40, np.uint8)

    for i in (1, 2, 1, 3, 2):  # 3 pushes out 2, which was used longest ago
        cache.get(i, lambda i=i: make(i))  # type: ignore[misc]
    assert made == [1, 2, 3, 2]


def test_segments_too_large_to_decode_whole_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = slides.write_flat_tiff(tmp_path / "a.tif", PIXELS, compression="lzw")
    monkeypatch.setattr(segment_decoder, "MOST_SEGMENT_PIXELS", 300 * 200 - 1)
    with pytest.raises(UnreadableSlideError, match="decoded whole"):
        open_slide(path)


def test_16_bits_are_scaled_from_their_whole_range(tmp_path: Path) -> None:
    grey = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    path = slides.write_flat_tiff(tmp_path / "a.tif", grey)
    assert _all(path)[0].tolist() == [[v] * 3 for v in (0, 1, 128, 255)]


def test_significant_bits_are_heeded(tmp_path: Path) -> None:
    grey = np.array([[[0], [2048], [4095]]], np.uint16)
    path = slides.write_ome_tiff(
        tmp_path / "a.ome.tif", np.moveaxis(grey, -1, 0), axes="CYX", levels=1, tile=None,
        SignificantBits=12,
    )  # fmt: skip
    assert _all(path)[0, :, 0].tolist() == [0, 128, 255]


def test_signed_numbers_begin_at_their_least(tmp_path: Path) -> None:
    path = slides.write_flat_tiff(tmp_path / "a.tif", np.array([[-128, 0, 127]], np.int8))
    assert _all(path)[0, :, 0].tolist() == [0, 128, 255]


def test_floating_point_is_refused(tmp_path: Path) -> None:
    path = slides.write_flat_tiff(tmp_path / "a.tif", np.zeros((4, 4), np.float32))
    with pytest.raises(UnreadableSlideError, match="float32"):
        open_slide(path)


def _five_channels(path: Path) -> Path:
    stack = np.stack([np.full((40, 50), 10 * (i + 1), np.uint8) for i in range(5)])
    return slides.write_ome_tiff(path, stack, axes="CYX", levels=1, tile=None)


@pytest.mark.parametrize(
    ("channels", "shown"),
    [(None, [10, 20, 30]), ((4,), [50, 50, 50]), ((3, 0), [40, 10, 0]), ((4, 3, 2), [50, 40, 30])],
)
def test_channels(channels: tuple[int, ...] | None, shown: list[int], tmp_path: Path) -> None:
    path = _five_channels(tmp_path / "a.ome.tif")
    assert np.all(_all(path, channels) == shown)


def test_a_channel_that_is_not_there(tmp_path: Path) -> None:
    path = _five_channels(tmp_path / "a.ome.tif")
    with pytest.raises(UnreadableSlideError, match="5 channels"):
        open_slide(path, channels=(5,))


def test_imagej_stacks_with_one_directory(tmp_path: Path) -> None:
    stack = np.stack([np.full((30, 40), v, np.uint8) for v in (10, 20, 30)])[:, None]
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, stack.reshape(1, 3, 30, 40), imagej=True, resolution=(4, 4),
        metadata={"axes": "ZCYX", "unit": "um"},
    )  # fmt: skip
    assert np.all(_all(path) == [10, 20, 30])
    with open_slide(path) as slide:
        assert slide.mpp == (0.25, 0.25)


def test_stacks_whose_images_follow_unlisted(tmp_path: Path) -> None:
    stack = np.stack([np.full((30, 40), v, np.uint8) for v in (10, 20, 30)])
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, photometric="minisblack", truncate=True, metadata={"axes": "CYX"})
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 1
    assert np.all(_all(path) == [10, 20, 30])


def test_other_colours(tmp_path: Path) -> None:
    grey = np.array([[0, 100, 255]], np.uint8)
    inverted = slides.write_flat_tiff(tmp_path / "a.tif", grey, photometric="miniswhite")
    assert _all(inverted)[0, :, 0].tolist() == [255, 155, 0]
    colours = np.zeros((3, 256), np.uint16)
    colours[:, 100] = (65535, 0, 32896)
    palette = slides.write_flat_tiff(
        tmp_path / "b.tif", grey, photometric="palette", colormap=colours
    )
    assert _all(palette)[0, 1].tolist() == [255, 0, 128]


@pytest.mark.parametrize(
    ("kind", "half", "shown"),
    [
        ("unassalpha", (100, 200, 0, 51), [224, 244, 204]),
        ("assocalpha", (20, 40, 0, 51), [224, 244, 204]),
    ],
)
def test_transparency_shows_white(
    kind: str, half: tuple[int, ...], shown: list[int], tmp_path: Path
) -> None:
    clear = np.array([[(0, 0, 0, 0), (9, 8, 7, 255), half]], np.uint8)
    path = slides.write_flat_tiff(tmp_path / "a.tif", clear, extrasamples=[kind])
    assert _all(path)[0].tolist() == [[255, 255, 255], [9, 8, 7], shown]


def test_tiles_left_out_are_white(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tiles = iter([slides.tissue_like(64, 64), None])
    tifffile.imwrite(
        path, tiles, shape=(64, 128, 3), dtype=np.uint8, photometric="rgb", tile=(64, 64),
        compression="deflate",
    )  # fmt: skip
    source = TiffSource(path)
    assert np.all(source.read_level(0, 64, 0, (64, 64)) == 255)
    source.close()


@pytest.mark.parametrize(
    ("resolution", "unit", "mpp"),
    [
        ((20000, 10000), "CENTIMETER", (0.5, 1.0)),
        ((25400, 25400), "INCH", (1.0, 1.0)),
        ((20000, 20000), "NONE", None),
        ((72, 72), "INCH", None),
    ],
)
def test_resolution_tags(
    resolution: tuple[int, int], unit: str, mpp: tuple[float, float] | None, tmp_path: Path
) -> None:
    path = slides.write_flat_tiff(
        tmp_path / "a.tif", PIXELS, resolution=resolution, resolutionunit=unit
    )
    with open_slide(path) as slide:
        assert slide.recorded_mpp == (None if mpp is None else pytest.approx(mpp))


@pytest.mark.parametrize(("unit", "mpp"), [("nm", 0.25), ("mm", 250000.0), ("pixel", None)])
def test_ome_units(unit: str, mpp: float | None, tmp_path: Path) -> None:
    path = slides.write_ome_tiff(
        tmp_path / "a.ome.tif", PIXELS, mpp=None, PhysicalSizeX=250.0, PhysicalSizeY=250.0,
        PhysicalSizeXUnit=unit, PhysicalSizeYUnit=unit,
    )  # fmt: skip
    with open_slide(path) as slide:
        assert slide.recorded_mpp == (None if mpp is None else pytest.approx((mpp, mpp)))


def test_levels_as_pages_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for image in slides.pyramid_of(PIXELS, 3):
            tif.write(image, photometric="rgb", rowsperstrip=16, compression="lzw", metadata=None)
        label = np.zeros((90, 60, 3), np.uint8)
        tif.write(label, photometric="rgb", rowsperstrip=16, compression="lzw", metadata=None)
    with open_slide(path) as slide:
        assert [level.width for level in slide.levels] == [300, 150, 75]


def test_a_codec_that_nobody_has(test_data: Path) -> None:
    with pytest.raises(UnreadableSlideError, match="compression 52479 that no codec here reads"):
        open_slide(test_data / "slides" / "odd" / "openslide_unopenable.tiff")


@pytest.mark.parametrize("compression", ["lzw", None])
def test_a_file_cut_short(compression: str | None, tmp_path: Path) -> None:
    path = slides.write_flat_tiff(
        tmp_path / "a.tif", PIXELS, compression=compression, rows_per_strip=8
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_slide(path, mpp=1.0) as slide:
        assert np.array_equal(slide.read(0, 0, (300, 8), 1.0), PIXELS[:8])
        with pytest.raises(UnreadableSlideError, match=r"a\.tif: the pixels"):
            slide.read(0, 190, (300, 8), 1.0)


def test_a_description_looks_at_the_pixels(tmp_path: Path) -> None:
    path = slides.write_flat_tiff(tmp_path / "a.tif", PIXELS, compression="lzw", rows_per_strip=8)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with open_slide(path) as slide, pytest.raises(UnreadableSlideError, match="cut short"):
        describe(slide)
