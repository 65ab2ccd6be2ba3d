"""One suite over every reader: the same promises, whatever the file."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slides
from numpy.typing import NDArray

from saccade.tiling import Slide, describe, open_slide
from saccade.tiling.errors import MissingMppError

WIDTH, HEIGHT, MPP = 701, 533, 0.5
RGB = NDArray[np.uint8]
WHITE = 255


@dataclass(frozen=True)
class Kind:
    """How a slide is made, and what must be found in it."""

    name: str
    make: Callable[[Path, RGB], Path | RGB]
    reader: str
    levels: int = 1
    recorded: bool = False
    tolerance: int = 0  # grey levels that a lossy codec may change


def _strips(
    compression: str | None, rows: int | None = 48, **options: Any
) -> Callable[[Path, RGB], Path]:
    def make(folder: Path, pixels: RGB) -> Path:
        path = folder / "slide.tif"
        return slides.write_flat_tiff(
            path, pixels, compression=compression, rows_per_strip=rows, mpp=MPP, **options
        )

    return make


def _channels_first(folder: Path, pixels: RGB) -> Path:
    return slides.write_ome_tiff(
        folder / "slide.ome.tif", np.moveaxis(pixels, -1, 0), axes="CYX", mpp=MPP
    )


KINDS = [
    Kind(
        "openslide-jpeg",
        lambda folder, pixels: slides.write_pyramid_tiff(folder / "slide", pixels, mpp=MPP),
        "openslide", levels=3, recorded=True, tolerance=60,
    ),
    Kind(
        "openslide-deflate",
        lambda folder, pixels: slides.write_pyramid_tiff(
            folder / "slide", pixels, mpp=MPP, compression="deflate", tile=128
        ),
        "openslide", levels=3, recorded=True,
    ),
    Kind("tiff-raw", _strips(None), "tiff", recorded=True),
    Kind("tiff-raw-one-strip", _strips(None, rows=None), "tiff", recorded=True),
    Kind("tiff-raw-planes", _strips(None, planarconfig="separate"), "tiff", recorded=True),
    Kind("tiff-big-endian", _strips(None, byteorder=">", bigtiff=True), "tiff", recorded=True),
    Kind("tiff-lzw", _strips("lzw", predictor=True), "tiff", recorded=True),
    Kind("tiff-deflate-planes", _strips("deflate", planarconfig="separate"), "tiff", recorded=True),
    Kind("tiff-zstd", _strips("zstd"), "tiff", recorded=True),
    Kind("tiff-jpeg", _strips("jpeg"), "tiff", recorded=True, tolerance=60),
    Kind("tiff-jpeg2000", _strips("jpeg2000"), "tiff", recorded=True),
    Kind(
        "ome-tiff-subifds",
        lambda folder, pixels: slides.write_ome_tiff(folder / "slide.ome.tif", pixels, mpp=MPP),
        "tiff", levels=3, recorded=True,
    ),
    Kind(
        "ome-tiff-strips",
        lambda folder, pixels: slides.write_ome_tiff(
            folder / "slide.ome.tif", pixels, mpp=MPP, tile=None, compression=None
        ),
        "tiff", levels=3, recorded=True,
    ),
    Kind("ome-tiff-channels", _channels_first, "tiff", levels=3, recorded=True),
    Kind(
        "ome-zarr-0.4",
        lambda folder, pixels: slides.write_ome_zarr(
            folder / "slide.zarr", pixels, mpp=MPP, version="0.4"
        ),
        "ome-zarr", levels=3, recorded=True,
    ),
    Kind(
        "ome-zarr-0.5",
        lambda folder, pixels: slides.write_ome_zarr(folder / "slide.zarr", pixels, mpp=MPP),
        "ome-zarr", levels=3, recorded=True,
    ),
    Kind("png", lambda folder, pixels: slides.write_image(folder / "slide.png", pixels), "image"),
    Kind("bmp", lambda folder, pixels: slides.write_image(folder / "slide.bmp", pixels), "image"),
    Kind(
        "jpeg",
        lambda folder, pixels: slides.write_image(folder / "slide.jpg", pixels, dpi=(300, 300)),
        "image", tolerance=60,
    ),
    Kind("array", lambda folder, pixels: pixels, "array"),
]  # fmt: skip


@pytest.fixture(scope="module")
def pixels() -> RGB:
    """What every slide of this suite shows."""
    return slides.tissue_like(WIDTH, HEIGHT)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """The format at hand."""
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def origin(kind: Kind, pixels: RGB, tmp_path_factory: pytest.TempPathFactory) -> Path | RGB:
    """The file, or the array."""
    return kind.make(tmp_path_factory.mktemp("slide"), pixels)


@pytest.fixture
def slide(kind: Kind, origin: Path | RGB) -> Iterator[Slide]:
    """The slide, open; with its mpp told where it is not recorded."""
    with open_slide(origin, mpp=None if kind.recorded else MPP) as opened:
        yield opened


def close(found: RGB, wanted: RGB, kind: Kind, more: int = 0) -> bool:
    """Whether pixels are as wanted; a lossy codec may miss edges, hardly the mean."""
    away = np.abs(found.astype(int) - wanted)
    return away.max() <= kind.tolerance + more and (not kind.tolerance or away.mean() < 4)


def test_facts(slide: Slide, kind: Kind) -> None:
    assert slide.info.reader == kind.reader
    assert slide.size_l0 == (WIDTH, HEIGHT)
    assert [(level.width, level.height) for level in slide.levels] == [
        (WIDTH >> i, HEIGHT >> i) for i in range(kind.levels)
    ]
    assert [level.downsample for level in slide.levels] == pytest.approx(
        [2**i for i in range(kind.levels)], rel=0.01
    )


def test_mpp_is_what_is_recorded_or_nothing(origin: Path | RGB, kind: Kind) -> None:
    with open_slide(origin) as slide:
        if kind.recorded:
            assert slide.mpp == pytest.approx((MPP, MPP))
        else:
            assert slide.recorded_mpp is None
            with pytest.raises(MissingMppError, match=r"--mpp 0\.25"):
                slide.read(0, 0, 8, 1.0)


def test_the_callers_mpp_wins(origin: Path | RGB, pixels: RGB, kind: Kind) -> None:
    with open_slide(origin, mpp=0.25) as slide:
        assert slide.mpp == (0.25, 0.25)
        assert close(slide.read(100, 90, 64, 0.25), pixels[90:154, 100:164], kind)


def test_read_inside(slide: Slide, pixels: RGB, kind: Kind) -> None:
    found = slide.read(103, 91, (301, 257), MPP)
    assert found.dtype == np.uint8
    assert found.shape == (257, 301, 3)
    assert close(found, pixels[91 : 91 + 257, 103 : 103 + 301], kind)


def test_read_everything(slide: Slide, pixels: RGB, kind: Kind) -> None:
    assert close(slide.read(0, 0, (WIDTH, HEIGHT), MPP), pixels, kind)


def test_read_across_every_edge(slide: Slide, pixels: RGB, kind: Kind) -> None:
    wanted = np.full((HEIGHT + 40, WIDTH + 50, 3), WHITE, np.uint8)
    wanted[20:-20, 30:-20] = pixels
    found = slide.read(-30, -20, (WIDTH + 50, HEIGHT + 40), MPP)
    assert close(found, wanted, kind)
    assert np.all(found[:20] == WHITE)
    assert np.all(found[:, -20:] == WHITE)


@pytest.mark.parametrize("corner", [(-500, 10), (WIDTH, 0), (0, HEIGHT + 1), (1e12, -1e12)])
def test_outside_is_background(slide: Slide, corner: tuple[float, float]) -> None:
    assert np.all(slide.read(*corner, 32, MPP) == WHITE)


def test_half_the_scale_is_the_mean_of_four(slide: Slide, pixels: RGB, kind: Kind) -> None:
    found = slide.read(64, 32, (200, 150), MPP * 2)
    wanted = slides.halved(pixels[32 : 32 + 300, 64 : 64 + 400])
    # A level of 2.002 is not one of 2: what is resampled differs a little.
    assert np.abs(found.astype(int) - wanted).mean() < (1.5 if kind.levels > 1 else 0.6) + (
        2 if kind.tolerance else 0
    )


def test_any_scale_shows_the_same_place(slide: Slide, pixels: RGB) -> None:
    for factor in (0.5, 0.9, 1.3, 3.7, 5.5):
        size = int(240 / factor)
        found = slide.read(200.25, 140.5, size, MPP * factor).astype(float)
        x, y = (np.array([200.25, 140.5])[:, None] + (np.arange(size) + 0.5) * factor).astype(int)
        assert np.abs(found.mean((0, 1)) - pixels[y][:, x].mean((0, 1))).max() < 3


def test_tiles_come_in_the_order_asked(slide: Slide) -> None:
    corners = np.array([[300, 200], [0, 0], [650.5, 480.25], [0, 0], [10, 400]])
    tiles = slide.read_tiles(corners, 40, MPP * 1.5)
    assert tiles.shape == (5, 40, 40, 3)
    for tile, (x, y) in zip(tiles, corners, strict=True):
        assert np.array_equal(tile, slide.read(x, y, 40, MPP * 1.5))


def test_no_tiles(slide: Slide) -> None:
    assert slide.read_tiles(np.empty((0, 2)), 16, MPP).shape == (0, 16, 16, 3)


def test_a_copy_in_a_pickle_reads_the_same(slide: Slide) -> None:
    with pickle.loads(pickle.dumps(slide)) as copy:
        assert copy.info == slide.info
        assert copy.mpp == slide.mpp
        assert np.array_equal(copy.read(50, 60, 100, 0.8), slide.read(50, 60, 100, 0.8))


def test_threads_read_the_same(slide: Slide) -> None:
    corners = np.random.default_rng(1).uniform(-50, 600, (24, 2))
    alone = slide.read_tiles(corners, 48, 0.7)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda corner: slide.read(*corner, 48, 0.7), corners))
    assert np.array_equal(alone, np.stack(together))


def test_a_closed_slide_says_so(origin: Path | RGB) -> None:
    slide = open_slide(origin, mpp=MPP)
    slide.close()
    slide.close()
    with pytest.raises(ValueError, match="closed"):
        slide.read(0, 0, 8, MPP)


def test_description(slide: Slide, kind: Kind) -> None:
    facts = describe(slide)
    assert list(facts) == [
        "width_l0", "height_l0", "mpp_x", "mpp_y", "levels", "vendor", "objective_power",
        "bounds", "reader", "content_hash",
    ]  # fmt: skip
    assert (facts["width_l0"], facts["height_l0"], facts["reader"]) == (WIDTH, HEIGHT, kind.reader)
    assert str(facts["content_hash"]).startswith("sha256:")


def test_another_process_opens_it_again(tmp_path: Path, pixels: RGB) -> None:
    path = slides.write_pyramid_tiff(tmp_path / "slide.tif", pixels)
    with open_slide(path) as slide, multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(Slide.read, (slide, 20, 30, 64, 1.0))
        assert np.array_equal(there, slide.read(20, 30, 64, 1.0))
