"""JPEG decoded at a fraction of its size: nearly the means, for less, and nothing out of place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import slides
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from saccade.tiling.open import open_slide
from saccade.tiling.resample import block_means
from saccade.tiling.slide import Slide
from saccade.tiling.source import Cut
from saccade.tiling.sources.direct import open_direct
from saccade.tiling.sources.openslide import OpenSlideSource

RGB = NDArray[np.uint8]
MPP, TILE = 0.5, 64
WIDTH, HEIGHT = 701, 533  # no multiples of 2, 4 or 8
PIXELS = slides.tissue_like(WIDTH, HEIGHT)
REAL = [
    "aperio/CMU-1-Small-Region.svs",
    "tiff/eosinophilic-esophagitis_HE_left.tiff",
    "tiff/erosion_HE.tiff",
    "tiff/metaplasia_HE.tiff",
]


@pytest.fixture(scope="module", params=["direct", "tiff"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of one level in JPEG tiles, read with OpenSlide's facts or by our own reader."""
    folder = tmp_path_factory.mktemp("slide")
    if request.param == "direct":
        return slides.write_flat_tiff(
            folder / "a.tif", PIXELS, mpp=MPP, tile=TILE, compression="jpeg"
        )
    return slides.write_ome_tiff(
        folder / "a.ome.tif", PIXELS, mpp=MPP, levels=1, tile=TILE, compression="jpeg"
    )


@pytest.fixture(scope="module")
def slide(path: Path) -> Iterator[Slide]:
    """The slide."""
    with open_slide(path) as opened:
        yield opened


def _means(slide: Slide, x: int, y: int, size: int, factor: int) -> RGB:
    """Of pixels decoded whole, over the background."""
    side = size * factor
    whole = np.empty((side, side, 3), np.uint8)
    whole[:] = slide.info.background
    level = slide.read(0, 0, slide.size_l0, MPP)
    rows = slice(max(0, -y), max(0, min(side, HEIGHT - y)))
    cols = slice(max(0, -x), max(0, min(side, WIDTH - x)))
    whole[rows, cols] = level[y + rows.start : y + rows.stop, x + cols.start : x + cols.stop]
    return block_means(whole, (factor, factor))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_less_is_decoded(slide: Slide, factor: int) -> None:
    slide.read(0, 0, 1, MPP)
    before = slide.counts()
    slide.read(0, 0, (512 // factor, 512 // factor), MPP * factor)
    taken = slide.counts() - before
    assert taken.tiles == 64
    assert taken.pixels == (512 // factor) ** 2


@given(data=st.data())
@settings(max_examples=60)
def test_pixels_are_nearly_means_and_in_place(slide: Slide, data: st.DataObject) -> None:
    factor = data.draw(st.sampled_from([2, 4, 8]))
    x, y = (data.draw(st.integers(-8, n // factor + 4)) * factor for n in (WIDTH, HEIGHT))
    found = slide.read(x, y, 40, MPP * factor).astype(int)
    apart = np.abs(found - _means(slide, x, y, 40, factor))
    assert apart.mean() < 1
    assert apart.max() < 40  # where the white of the background ends in the middle of a block


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_far_edges_are_exact_means(slide: Slide, factor: int) -> None:
    """Their pixels lie on the slide in part; what pads the last tiles is not shown."""
    col, row = WIDTH // factor, HEIGHT // factor
    found = slide.read(0, 0, (col + 3, row + 3), MPP * factor)
    for x, y, size in ((col, 0, 3), (col, row, 3), (0, row, 3)):
        wanted = _means(slide, x * factor, y * factor, size, factor)
        assert np.array_equal(found[y : y + size, x : x + size], wanted)


@given(x=st.integers(0, 400), y=st.integers(0, 300))
@settings(max_examples=20)
def test_whole_pixels_between_those_of_the_smaller_image_stay_exact_means(
    slide: Slide, x: int, y: int
) -> None:
    """They would have to be interpolated; a corner that fits at a lesser factor takes that."""
    found = slide.read(2 * x + 1, y, 30, 2 * MPP)
    assert np.array_equal(found, _means(slide, 2 * x + 1, y, 30, 2))
    before = slide.counts()
    slide.read(4 * (x // 4) + 2, 4 * (y // 4), 30, 4 * MPP)
    taken = slide.counts() - before
    assert taken.pixels == taken.tiles * (TILE // 2) ** 2


@given(data=st.data())
@settings(max_examples=40)
def test_tiles_are_what_read_gives_in_any_number_of_threads(
    slide: Slide, data: st.DataObject
) -> None:
    mpp = MPP * data.draw(st.sampled_from([1.0, 1.25, 2.0, 3.0, 4.0, 5.3, 8.0, 16.0]))
    place = st.tuples(st.integers(-90, WIDTH), st.integers(-90, HEIGHT))
    corners = np.array(data.draw(st.lists(place, min_size=1, max_size=40)))
    tiles = slide.read_tiles(corners, 24, mpp, workers=data.draw(st.integers(1, 3)))
    for tile, (x, y) in zip(tiles, corners, strict=True):
        assert np.array_equal(tile, slide.read(x, y, 24, mpp))


@given(data=st.data())
@settings(max_examples=30)
def test_each_source_tile_is_decoded_once_in_threads_too(slide: Slide, data: st.DataObject) -> None:
    mpp = MPP * data.draw(st.sampled_from([1.0, 1.25, 2.0, 2.5, 4.0]))
    place = st.tuples(st.integers(0, WIDTH - 300), st.integers(0, HEIGHT - 300))
    corners = np.array(data.draw(st.lists(place, min_size=1, max_size=60)))
    even = bool(data.draw(st.booleans()))
    slide.read(0, 0, 1, MPP)
    slide._source._cache.clear()  # type: ignore[attr-defined]
    before = slide.counts()
    slide.read_tiles(corners // 4 * 4 if even else corners, 50, mpp, workers=3)
    taken = slide.counts() - before
    # Tiles at different scales are decoded for themselves: whole, and by 2 and 4.
    scales = 1 if even or mpp < 2 * MPP else 2 if mpp < 4 * MPP else 3
    assert taken.tiles <= scales * -(-WIDTH // TILE) * -(-HEIGHT // TILE)


def test_what_a_file_leaves_out_is_as_openslide_shows_it(tmp_path: Path) -> None:
    path, shown = tmp_path / "sparse.tif", PIXELS[200:264, 200:264]
    tifffile.imwrite(
        path, iter([shown, None, shown, None]), shape=(TILE, 4 * TILE, 3), dtype=np.uint8,
        photometric="rgb", tile=(TILE, TILE), compression="jpeg", metadata=None,
    )  # fmt: skip
    ours, peer = open_direct(path), OpenSlideSource(path)
    assert ours.shrinks(0) == (1, 2, 4, 8)
    wanted = block_means(peer.read_level(0, 0, 0, (4 * TILE, TILE)), (2, 2))
    for found in (ours.read_shrunk(0, (0, 0, 128, 32), 2), _many(ours, 128, 32, 2)):
        assert np.abs(found.astype(int) - wanted).max() <= 10
        assert np.array_equal(found[:, 96:], wanted[:, 96:])
    ours.close()
    peer.close()


def _many(source: object, width: int, height: int, shrink: int) -> RGB:
    out = np.empty((height, width, 3), np.uint8)
    source.read_many(0, [Cut(0, 0, out)], shrink=shrink)  # type: ignore[attr-defined]
    return out


@pytest.mark.parametrize("name", REAL)
def test_real_tissue_is_off_by_less_than_a_grey_level(name: str, test_data: Path) -> None:
    """Root mean square against area means: 0.4 to 0.8 where it was measured, 50 dB."""
    path, rng = test_data / "slides" / name, np.random.default_rng(0)
    with open_slide(path, mpp=MPP) as slide:
        source = slide._source
        for factor in (2, 4, 8):
            errors = []
            while len(errors) < 20:
                x, y = (int(rng.integers(0, n // factor - 64)) for n in slide.size_l0)
                whole = source.read_level(0, x * factor, y * factor, (64 * factor, 64 * factor))
                if whole.std() < 10:
                    continue  # bare glass would prove nothing
                found = source.read_shrunk(0, (x, y, 64, 64), factor).astype(float)
                errors.append(np.square(found - block_means(whole, (factor, factor))).mean())
            assert np.sqrt(np.mean(errors)) < 1


@pytest.mark.parametrize("colours", ["rgb", "ycbcr"])
@pytest.mark.parametrize("stored", ["tables", "whole"])
def test_every_kind_of_stream_can_be_decoded_smaller(
    colours: str, stored: str, tmp_path: Path
) -> None:
    """Scanners store RGB without saying so in the stream, and tables apart from it."""
    path = tmp_path / "a.tif"
    arguments = {"level": 90, "outcolorspace": colours}
    slides.write_flat_tiff(
        path, PIXELS[:512, :512], mpp=MPP, tile=TILE, compression="jpeg", compressionargs=arguments
    )
    if stored == "tables":
        _move_tables(path, arguments)
    with open_slide(path) as slide, Slide(OpenSlideSource(path), path, MPP) as peer:
        assert np.array_equal(slide.read(0, 0, 512, MPP), peer.read(0, 0, 512, MPP))
        before = slide.counts()
        found = slide.read(0, 0, 256, 2 * MPP).astype(int)
        assert (slide.counts() - before).pixels == 256 * 256
        assert np.abs(found - peer.read(0, 0, 256, 2 * MPP)).mean() < 1


def _move_tables(path: Path, arguments: dict[str, object]) -> None:
    """Rewrite a TIFF of JPEG tiles as scanners do: tables in a tag, and no marker of colours."""
    with tifffile.TiffFile(path) as tif:
        page, data = tif.pages[0].aspage(), path.read_bytes()
        stored = zip(page.dataoffsets, page.databytecounts, strict=True)
        streams = [data[start : start + count] for start, count in stored]
    frames = [stream.index(b"\xff\xc0") for stream in streams]
    first = streams[0]
    tables = first[first.index(b"\xff\xdb") : frames[0]]
    tifffile.imwrite(
        path,
        (_nameless(stream[frame:]) for stream, frame in zip(streams, frames, strict=True)),
        shape=(512, 512, 3), dtype=np.uint8, photometric="rgb", tile=(TILE, TILE),
        compression="jpeg", metadata=None, jpegtables=b"\xff\xd8" + tables + b"\xff\xd9",
        compressionargs=arguments, resolution=(1e4 / MPP, 1e4 / MPP), resolutionunit="CENTIMETER",
    )  # fmt: skip


def _nameless(frame: bytes) -> bytes:
    """A stream from its frame on, whose colours are numbered instead of named R, G and B."""
    stream = bytearray(b"\xff\xd8" + frame)
    scan = stream.index(b"\xff\xda")
    for number in range(3):
        stream[12 + 3 * number] = number + 1
        stream[scan + 5 + 2 * number] = number + 1
    return bytes(stream)
