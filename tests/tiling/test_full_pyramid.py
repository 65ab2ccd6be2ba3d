"""The whole slide as OME-Zarr: its tiles copied, every level what it should be, in one pass."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from ome_zarr_models.v05 import Image, ImageLabel

from saccade.tiling import open_slide
from saccade.tiling.area import halve
from saccade.tiling.errors import PyramidError, UnreadableSlideError
from saccade.tiling.pyramid import Pyramid, PyramidSettings, build_pyramid
from saccade.tiling.slide import Slide
from saccade.tiling.sources.segmented_plane import SegmentedPlane
from tests.slides import (
    gradient,
    tissue_like,
    write_flat_tiff,
    write_large_flat_tiff,
    write_ome_tiff,
    write_pyramid_tiff,
)

RGB = NDArray[np.uint8]
SIZE = 4811, 1931  # two blocks, no whole tiles; the height is odd, and the width of the second


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of JPEG tiles of 256."""
    folder = tmp_path_factory.mktemp("slide")
    return write_pyramid_tiff(folder / "slide.tif", tissue_like(*SIZE), levels=1, mpp=0.5)


@pytest.fixture(scope="module")
def slide(path: Path) -> Slide:
    return open_slide(path)


@pytest.fixture(scope="module")
def full(slide: Slide, tmp_path_factory: pytest.TempPathFactory) -> Pyramid:
    """Levels of 4811 x 1931 pixels, 2406 x 966, 1203 x 483, 602 x 242 and 301 x 121."""
    return build_pyramid(slide, tmp_path_factory.mktemp("full") / "full.zarr", full=True)


def level_0_of(pyramid: Pyramid) -> dict[str, str]:
    facts: Any = zarr.open_group(pyramid.path, mode="r").attrs["saccade"]
    return dict(facts["level_0"])


def whole(slide: Slide) -> RGB:
    """Level 0 as any reader of the slide sees it."""
    mpp = slide.mpp[0]
    return slide.read(0, 0, slide.size_l0, mpp)


def planes(pixels: RGB) -> RGB:
    return np.moveaxis(pixels, 2, 0)


def decibels(found: RGB, wanted: RGB) -> float:
    away = found.astype(float) - wanted
    return float(10 * np.log10(255**2 / (away**2).mean()))


def files_in(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_level_0_is_the_slide(full: Pyramid, slide: Slide) -> None:
    assert level_0_of(full) == {"is": "slide", "codec": "jpeg"}
    assert (full.read(0) == whole(slide)).all()
    assert (full.levels[0].mpp_xy, full.levels[0].shape) == (slide.mpp, (SIZE[1], SIZE[0]))


def test_tiles_are_copied_byte_for_byte(full: Pyramid, path: Path) -> None:
    """Of this file a tile is a whole stream but for its tables."""
    stored = b"".join(
        file.read_bytes() for file in (full.path / "0" / "c").rglob("*") if file.is_file()
    )
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0].aspage()
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            tif.filehandle.seek(offset)
            assert tif.filehandle.read(count)[2:] in stored


def test_each_level_is_the_mean_of_the_one_before(full: Pyramid) -> None:
    assert decibels(planes(full.read(1)), halve(planes(full.read(0)))) > 45
    for k in range(2, len(full.levels)):
        assert (planes(full.read(k)) == halve(planes(full.read(k - 1)))).all()
    assert [level.shape[1] for level in full.levels] == [4811, 2406, 1203, 602, 301]


def test_where_the_size_is_odd_the_last_pixels_are_means_of_the_slide(full: Pyramid) -> None:
    """The decoder would mix in what the tile holds beyond the slide."""
    exact = halve(planes(full.read(0)))

    assert (planes(full.read(1))[..., -1] == exact[..., -1]).all()
    assert (planes(full.read(1))[:, -1] == exact[:, -1]).all()
    assert (planes(full.read(1)) != exact).any()  # elsewhere it is the decoder's


def test_each_source_tile_is_decoded_once(path: Path, tmp_path: Path) -> None:
    with open_slide(path) as slide:
        slide.stored_tiles()  # comparing readers decodes a tile, too
        first = slide.counts()
        build_pyramid(slide, tmp_path / "copied", full=True, workers=3)
        then = slide.counts()
        build_pyramid(slide, tmp_path / "pixels", full=True, codec="zstd", workers=3)
        last = slide.counts()

        tiles = 19 * 8
        looked_at = 1  # of which the streams are, is found out on one
        assert tiles <= (then - first).tiles <= tiles + looked_at
        assert (last - then).tiles == tiles


def test_thumbnails_decode_each_source_tile_once(tmp_path: Path) -> None:
    path = write_large_flat_tiff(tmp_path / "a.tif", 5120, mpp=0.5, tile=256)
    with open_slide(path) as slide:
        slide.stored_tiles()
        before = slide.counts()
        build_pyramid(slide, tmp_path / "thumbnails", workers=3)

        assert (slide.counts() - before).tiles == 20 * 20


def test_coarse_levels_spare_level_0(tmp_path: Path) -> None:
    path = write_pyramid_tiff(tmp_path / "a.tif", tissue_like(2048, 2048), mpp=0.5, levels=4)
    with open_slide(path) as slide:
        slide.raster_for(4.0)
        before = slide.counts()
        build_pyramid(slide, tmp_path / "thumbnails")

        assert (slide.counts() - before).pixels <= 256**2  # all of the level at 4 um/px


@pytest.mark.parametrize("codec", ["jpeg", "zstd"])
def test_our_own_reader_opens_it_as_the_slide(
    codec: Any, slide: Slide, full: Pyramid, tmp_path: Path
) -> None:
    pyramid = (
        full
        if codec == "jpeg"
        else build_pyramid(slide, tmp_path / "z.zarr", full=True, codec=codec)
    )
    with open_slide(pyramid.path) as copy:
        assert (copy.size_l0, copy.mpp) == (slide.size_l0, slide.mpp)
        assert [level.downsample for level in copy.levels] == [1, 2, 4, 8, 16]
        for x, y, size, mpp in ((0, 0, 300, 0.5), (4600, 1800, 200, 0.5), (777, 555, 100, 0.61)):
            assert (copy.read(x, y, size, mpp) == slide.read(x, y, size, mpp)).all()
        assert (copy.read(0, 0, (1202, 482), 2.0) == pyramid.read(2)[:482, :1202]).all()


def test_one_channel_of_tiles_that_hold_three(full: Pyramid) -> None:
    with open_slide(full.path, channels=(2, 1)) as two, open_slide(full.path) as all_:
        rect = 1200, 900, 64, 64
        assert (two.read_stored(rect)[..., :2] == all_.read_stored(rect)[..., [2, 1]]).all()


def test_pixels_instead_of_tiles_are_exact_at_every_level(slide: Slide, tmp_path: Path) -> None:
    pyramid = build_pyramid(slide, tmp_path / "out", full=True, codec="zstd")

    assert level_0_of(pyramid) == {"is": "slide", "codec": "zstd"}
    assert (pyramid.read(0) == whole(slide)).all()
    for k in range(1, len(pyramid.levels)):
        assert (planes(pyramid.read(k)) == halve(planes(pyramid.read(k - 1)))).all()


@pytest.mark.parametrize("compression", ["deflate", "jpeg2000", "lzw"])
def test_what_is_no_jpeg_is_stored_as_pixels(compression: str, tmp_path: Path) -> None:
    pixels = tissue_like(700, 523)
    path = write_flat_tiff(tmp_path / "a.tif", pixels, tile=240, compression=compression, mpp=0.5)
    with open_slide(path) as slide:
        pyramid = build_pyramid(slide, tmp_path / "out", full=True)

        assert level_0_of(pyramid)["codec"] == "zstd"
        assert (pyramid.read(0) == whole(slide)).all()
        assert zarr.open_array(pyramid.path / "0", mode="r").chunks == (1, 480, 480)
        with pytest.raises(PyramidError, match=r"does not consist.*Choose zstd"):
            build_pyramid(slide, tmp_path / "other", full=True, codec="jpeg")
    assert not (tmp_path / "other").exists()


def test_grey_jpeg_is_no_colour_jpeg(tmp_path: Path) -> None:
    grey = tissue_like(500, 400)[..., 1]
    path = write_flat_tiff(tmp_path / "a.tif", grey, tile=128, compression="jpeg", mpp=0.5)
    with open_slide(path) as slide:
        pyramid = build_pyramid(slide, tmp_path / "out", full=True)

        assert level_0_of(pyramid)["codec"] == "zstd"
        assert (pyramid.read(0) == whole(slide)).all()


def test_sixteen_bits_become_eight_as_in_every_read(tmp_path: Path) -> None:
    deep = tissue_like(400, 300).astype(np.uint16) * 257
    path = write_ome_tiff(tmp_path / "a.ome.tif", deep, levels=1)
    with open_slide(path) as slide:
        pyramid = build_pyramid(slide, tmp_path / "out", full=True)

        assert (pyramid.read(0) == whole(slide)).all()


def test_tiles_of_another_size_give_chunks_that_nest(tmp_path: Path) -> None:
    """Aperio's older tiles have 240 pixels; blocks are 3840 then."""
    path = write_pyramid_tiff(tmp_path / "a.tif", tissue_like(4001, 300), tile=240, levels=1)
    with open_slide(path) as slide:
        pyramid = build_pyramid(slide, tmp_path / "out", full=True)

        chunks = [zarr.open_array(pyramid.path / str(k), mode="r").chunks for k in (0, 1)]
        assert chunks == [(3, 240, 240), (1, 480, 480)]
        assert (pyramid.read(0) == whole(slide)).all()
        for k in range(2, len(pyramid.levels)):
            assert (planes(pyramid.read(k)) == halve(planes(pyramid.read(k - 1)))).all()


def test_tiles_that_overhang_blocks_and_strips_are_stored_all_the_same(tmp_path: Path) -> None:
    pixels = tissue_like(2300, 301)
    for name, cut in (("strips", {"rows_per_strip": 7}), ("tiles", {"tile": 2064})):
        path = write_flat_tiff(
            tmp_path / f"{name}.tif", pixels, compression="deflate", mpp=0.5, **cut
        )
        with open_slide(path) as slide:
            pyramid = build_pyramid(slide, tmp_path / name, full=True, workers=1)
            with tifffile.TiffFile(path) as tif:  # nothing is read twice
                assert slide.counts().compressed_bytes == sum(tif.pages[0].aspage().databytecounts)
        assert (pyramid.read(0) == pixels).all()
        for k in range(1, len(pyramid.levels)):
            assert (planes(pyramid.read(k)) == halve(planes(pyramid.read(k - 1)))).all()


def sparse(path: Path, pixels: RGB, left_out: set[int]) -> Path:
    """Tiles of 256; some are left out, as scanners leave out empty glass."""
    tifffile.imwrite(
        path, pixels, photometric="rgb", tile=(256, 256), compression="jpeg", metadata=None,
        resolution=(2e4, 2e4), resolutionunit="CENTIMETER",
    )  # fmt: skip
    with tifffile.TiffFile(path, mode="r+") as tif:
        page = tif.pages[0].aspage()
        for name in ("TileOffsets", "TileByteCounts"):
            tag = page.tags[name]
            tag.overwrite([0 if i in left_out else n for i, n in enumerate(tag.value)])
    return path


def test_tiles_that_the_file_leaves_out_look_as_in_the_slide(tmp_path: Path) -> None:
    path = sparse(tmp_path / "a.tif", tissue_like(1024, 768), {0, 5, 11})
    with open_slide(path) as slide:
        pyramid = build_pyramid(slide, tmp_path / "out", full=True)

        assert level_0_of(pyramid)["codec"] == "jpeg"
        assert (pyramid.read(0)[:256, :256] == 255).all()
        assert (pyramid.read(0) == whole(slide)).all()
        assert decibels(planes(pyramid.read(1)), halve(planes(pyramid.read(0)))) > 45


def test_a_tile_that_cannot_be_copied_is_encoded_anew(
    slide: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = SegmentedPlane.jpegs

    def without_one(plane: SegmentedPlane, places: list[tuple[int, int]]) -> list[bytes | None]:
        found = zip(places, copied(plane, places), strict=True)
        return [None if place == (3, 9) else stream for place, stream in found]

    monkeypatch.setattr(SegmentedPlane, "jpegs", without_one)
    pixels = build_pyramid(slide, tmp_path / "out", full=True).read(0)

    at = slice(768, 1024), slice(2304, 2560)
    assert 40 < decibels(pixels[at], whole(slide)[at]) < 70
    pixels[at] = whole(slide)[at]
    assert (pixels == whole(slide)).all()


def test_chosen_channels_are_no_copy_of_the_tiles(path: Path, tmp_path: Path) -> None:
    with open_slide(path, mpp=0.5, channels=(2, 1, 0)) as slide:
        pyramid = build_pyramid(slide, tmp_path / "out", full=True)

        assert level_0_of(pyramid)["codec"] == "zstd"
        assert (pyramid.read(0) == whole(slide)).all()


def test_a_tile_that_is_stored_smaller_is_not_copied(tmp_path: Path) -> None:
    """Its stream alone would be a chunk of the wrong size."""
    pixels = gradient(600, 300)
    path = write_pyramid_tiff(tmp_path / "a.tif", pixels, levels=1)
    with open_slide(path) as slide:
        tiles = slide.stored_tiles()
        assert tiles is not None
        tiles._decoder.size = (128, 128)  # type: ignore[attr-defined]
        assert tiles.jpegs([(0, 0)]) == [None]


def test_a_damaged_tile_breaks_the_build_and_leaves_nothing(tmp_path: Path) -> None:
    path = write_pyramid_tiff(tmp_path / "a.tif", tissue_like(1500, 700), levels=1)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0].aspage()
        offset, count = page.dataoffsets[2], page.databytecounts[2]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    with open_slide(path) as slide, pytest.raises(UnreadableSlideError):
        build_pyramid(slide, tmp_path / "out" / "full.zarr", full=True)

    assert not any((tmp_path / "out").iterdir())


def oblong(path: Path, pixels: RGB, **options: Any) -> Path:
    """A slide of 0.5 x 1.0 um/px."""
    tifffile.imwrite(
        path, pixels, photometric="rgb", metadata=None, resolution=(2e4, 1e4),
        resolutionunit="CENTIMETER", **options,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("compression", ["jpeg", "deflate"])
def test_pixels_that_are_not_square_stay_so_until_they_are_viewed(
    compression: str, tmp_path: Path
) -> None:
    flat = tissue_like(1400, 1400)[::2]
    path = oblong(
        tmp_path / "a.tif", np.ascontiguousarray(flat), tile=(256, 256), compression=compression
    )
    with open_slide(path) as slide:
        full = build_pyramid(slide, tmp_path / "full", full=True)
        thumbnails = build_pyramid(slide, tmp_path / "thumbnails", finest_mpp=2.0)

        assert slide.mpp == (0.5, 1.0)
        assert [level.mpp_xy for level in full.levels] == [(0.5, 1), (1, 2), (2, 4)]
        assert (full.read(0) == slide.read_stored((0, 0, 1400, 700))).all()
        view, other = full.view(16.0), thumbnails.view(16.0)
        assert view.pixels.shape == other.pixels.shape == (44, 44, 3)
        assert view.grid == other.grid
        assert np.abs(view.pixels.astype(int) - other.pixels)[:43, :43].mean() < 1
        assert np.abs(view.tissue - other.tissue).mean() < 0.02
        assert full.tissue_fraction == pytest.approx(thumbnails.tissue_fraction, abs=0.02)
        with open_slide(full.path) as copy:
            assert copy.mpp == (0.5, 1.0)
        group = zarr.open_group(full.path, mode="r")
        ome: Any = group.attrs["ome"]
        scale, shift = ome["multiscales"][0]["datasets"][1]["coordinateTransformations"]
        assert (scale["scale"], shift["translation"]) == ([1, 2, 1], [0, 0.5, 0.25])


def test_views_and_tissue_come_from_coarse_levels(
    full: Pyramid, slide: Slide, tmp_path: Path
) -> None:
    thumbnails = build_pyramid(slide, tmp_path / "out", finest_mpp=4.0)

    for mpp in (4.0, 16.0, 21.0):
        view, other = full.view(mpp), thumbnails.view(mpp)
        inside = tuple(slice(0, n - 1) for n in view.grid.shape)
        assert view.grid == other.grid
        assert np.abs(view.pixels.astype(int) - other.pixels)[inside].mean() < 0.6
        assert np.abs(view.tissue - other.tissue)[inside].mean() < 0.01
    assert full.tissue_fraction == pytest.approx(thumbnails.tissue_fraction, abs=0.01)
    assert full.tissue(0).shape == full.levels[0].shape
    assert full.tissue(0).mean() == pytest.approx(full.tissue_fraction, abs=0.01)


def test_masks_agree_across_levels(full: Pyramid) -> None:
    masks = [full.tissue(k) for k in range(len(full.levels))]

    assert masks[-1][60, 150]
    for finer, coarser in pairwise(masks):
        rows, cols = finer.shape
        assert (finer == coarser.repeat(2, axis=0).repeat(2, axis=1)[:rows, :cols]).all()


def test_it_is_valid_ome_zarr(full: Pyramid) -> None:
    image = Image.from_zarr(zarr.open_group(full.path, mode="r"))
    label = ImageLabel.from_zarr(zarr.open_group(full.path / "labels/tissue", mode="r"))

    assert len(image.attributes.ome.multiscales[0].datasets) == len(full.levels)
    assert len(label.attributes.ome.multiscales[0].datasets) == len(full.levels)
    for k, level in enumerate(full.levels):
        array = zarr.open_array(full.path / str(k), mode="r")
        assert (array.shape, array.dtype) == ((3, *level.shape), np.uint8)
        assert array.metadata.dimension_names == ("c", "y", "x")  # type: ignore[union-attr]


def test_the_result_does_not_depend_on_workers(slide: Slide, full: Pyramid, tmp_path: Path) -> None:
    for workers in (1, 5):
        again = build_pyramid(slide, tmp_path / str(workers), full=True, workers=workers)
        assert files_in(again.path) == files_in(full.path)


def test_it_knows_its_settings(full: Pyramid, slide: Slide) -> None:
    assert full.matches(slide, full=True)
    assert full.matches(slide, full=True, finest_mpp=1.0)  # says nothing about a full one
    assert not full.matches(slide)
    assert not full.matches(slide, full=True, codec="zstd")
    assert not full.matches(slide, full=True, smallest_px=100)
    with pytest.raises(ValueError, match="codec must be auto, jpeg or zstd"):
        PyramidSettings(full=True, codec="png")  # type: ignore[arg-type]


def test_progress_counts_blocks(slide: Slide, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    build_pyramid(
        slide, tmp_path / "out", full=True, codec="zstd",
        progress=lambda done, total: steps.append((done, total)),
    )  # fmt: skip

    assert steps == [(i, 4) for i in (1, 2, 3, 4)]  # three blocks of 2048, then the mask


KILLED = """
import sys
from pathlib import Path
from saccade.tiling import open_slide
from saccade.tiling.pyramid import build_pyramid
def wait(done, total):
    print(done, flush=True)
    sys.stdin.read()
build_pyramid(open_slide(Path(sys.argv[1])), Path(sys.argv[2]), full=True, progress=wait)
"""


def test_a_killed_build_leaves_nothing_half_written(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "full.zarr"
    command = [sys.executable, "-c", KILLED, str(path), str(out)]
    with subprocess.Popen(command, stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        os.kill(process.pid, signal.SIGKILL)
    assert not out.exists()

    with open_slide(path) as slide:
        assert build_pyramid(slide, out, full=True).levels
    assert [left.name for left in tmp_path.iterdir()] == ["full.zarr"]


MEASURE = """
import sys
from pathlib import Path
from saccade.tiling import open_slide
from saccade.tiling.pyramid import build_pyramid
pyramid = build_pyramid(open_slide(Path(sys.argv[1])), Path(sys.argv[2]), full=True)
pyramid.view(16.0)
# Not `getrusage`: its peak counts the process that started this one.
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")))
"""


def peak_mb(slide: Path, out: Path) -> int:
    """Peak memory of a fresh process that makes a slide a full pyramid."""
    command = [sys.executable, "-c", MEASURE, str(slide), str(out)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_memory_is_bounded(tmp_path: Path) -> None:
    """The plane alone would take 201 MB, and Python with its libraries takes 80."""
    assert peak_mb(write_large_flat_tiff(tmp_path / "a.tif", 8192), tmp_path / "out") < 250


@pytest.mark.slow
def test_memory_is_bounded_on_a_gigapixel_slide(tmp_path: Path) -> None:
    """The plane alone would take 2.8 GB."""
    assert peak_mb(write_large_flat_tiff(tmp_path / "a.tif", 30720), tmp_path / "out") < 300
