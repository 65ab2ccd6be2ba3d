"""Tiles decoded without OpenSlide: the same pixels, each source tile once, and nothing more."""

from __future__ import annotations

import os
import pickle
from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slides
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from saccade.tiling.counting import ReadCount
from saccade.tiling.errors import UnreadableSlideError
from saccade.tiling.open import open_slide
from saccade.tiling.slide import Slide
from saccade.tiling.sources import direct
from saccade.tiling.sources.direct import DirectSource, open_direct
from saccade.tiling.sources.openslide import OpenSlideSource
from saccade.tiling.sources.segments import SegmentCache

RGB = NDArray[np.uint8]
MPP, TILE = 0.5, 64
PIXELS = slides.tissue_like(701, 533)
REAL = [
    "aperio/CMU-1-Small-Region.svs",
    "aperio/TCGA-CR-7395-01A-01-TS1.svs",
    "aperio/small.svs",
    "odd/panimg_invalid_resolutions_tiff.tif",
    "odd/panimg_no_dzi.tif",
    "tiff/eosinophilic-esophagitis_HE_left.tiff",
    "tiff/erosion_HE.tiff",
    "tiff/metaplasia_HE.tiff",
    "tiff/openslide_boxes.tiff",
    "tiff/panimg_valid_tiff.tif",
]


def _pyramid(folder: Path, compression: str = "jpeg") -> Path:
    path = folder / f"{compression}.tif"
    return slides.write_pyramid_tiff(path, PIXELS, tile=TILE, compression=compression)


def _sparse(path: Path, photometric: str) -> Path:
    """Four tiles in a row, of which the second and the last are left out."""
    shown = PIXELS[200 : 200 + TILE, 200 : 200 + TILE]
    shown = shown if photometric == "rgb" else shown[..., 0]
    tifffile.imwrite(
        path, iter([shown, None, shown, None]), shape=(TILE, 4 * TILE, *shown.shape[2:]),
        dtype=np.uint8, photometric=photometric, tile=(TILE, TILE), compression="deflate",
        metadata=None,
    )  # fmt: skip
    return path


def _through_openslide(path: Path) -> Slide:
    return Slide(OpenSlideSource(path), path, mpp=MPP)


def _source(path: Path) -> DirectSource:
    source = open_direct(path)
    assert isinstance(source, DirectSource)
    return source


@pytest.fixture(scope="module", params=["jpeg", "deflate", "lzw", "none"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pyramid whose levels are 1, 2.001 and 4.005 times smaller, in tiles of 64."""
    return _pyramid(tmp_path_factory.mktemp("slide"), request.param)


@pytest.fixture(scope="module")
def both(path: Path) -> Iterator[tuple[DirectSource, OpenSlideSource]]:
    """The slide, read either way."""
    ours, peer = _source(path), OpenSlideSource(path)
    yield ours, peer
    ours.close()
    peer.close()


def test_all_levels_are_direct(both: tuple[DirectSource, OpenSlideSource]) -> None:
    ours, peer = both
    assert [ours.is_direct(level) for level in range(3)] == [True] * 3
    assert ours.info == peer.info


@given(data=st.data())
@settings(max_examples=150)
def test_the_pixels_are_openslides(
    both: tuple[DirectSource, OpenSlideSource], data: st.DataObject
) -> None:
    ours, peer = both
    level = data.draw(st.integers(0, 2))
    shape = ours.info.levels[level]
    x, y = (data.draw(st.integers(0, n - 1)) for n in (shape.width, shape.height))
    size = (
        data.draw(st.integers(1, min(shape.width - x, 200))),
        data.draw(st.integers(1, min(shape.height - y, 200))),
    )
    found = ours.read_level(level, x, y, size)
    if level == 0:
        assert np.array_equal(found, peer.read_level(level, x, y, size))
    else:  # between pixels OpenSlide blurs; all of the level at once it does not
        whole = peer.read_level(level, 0, 0, (shape.width, shape.height))
        assert np.array_equal(found, whole[y : y + size[1], x : x + size[0]])


@given(x_l0=st.integers(-80, 720), y_l0=st.integers(-80, 560), level=st.integers(0, 2))
@settings(max_examples=60)
def test_a_level_at_its_own_scale_is_openslides_from_any_corner(
    path: Path, x_l0: int, y_l0: int, level: int
) -> None:
    with open_slide(path, mpp=MPP) as ours, _through_openslide(path) as peer:
        mpp = MPP * ours.levels[level].downsample
        found, wanted = (slide.read(x_l0, y_l0, (90, 70), mpp) for slide in (ours, peer))
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("name", REAL)
def test_real_slides_are_openslides(name: str, test_data: Path) -> None:
    path, rng = test_data / "slides" / name, np.random.default_rng(0)
    ours, peer = _source(path), OpenSlideSource(path)
    for level, shape in enumerate(ours.info.levels):
        assert ours.is_direct(level)
        for _ in range(8):
            size = [int(rng.integers(1, min(n, 400) + 1)) for n in (shape.width, shape.height)]
            x, y = int(rng.integers(shape.width - size[0] + 1)), 0
            if peer.begins_whole(level):
                y = int(rng.integers(shape.height - size[1] + 1))
            else:  # OpenSlide begins between pixels everywhere but in the corner
                x, size = 0, [min(shape.width, 900), min(shape.height, 700)]
            found = ours.read_level(level, x, y, (size[0], size[1]))
            assert np.array_equal(found, peer.read_level(level, x, y, (size[0], size[1])))
    ours.close()
    peer.close()


@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])  # black where nothing is stored
def test_tiles_left_out_are_as_openslide_shows_them(photometric: str, tmp_path: Path) -> None:
    path = _sparse(tmp_path / "sparse.tif", photometric)
    ours, peer = _source(path), OpenSlideSource(path)
    assert ours.is_direct(0)
    for x, width in ((0, 256), (0, 64), (70, 40), (40, 30), (130, 126)):
        found = ours.read_level(0, x, 3, (width, 50))
        assert np.array_equal(found, peer.read_level(0, x, 3, (width, 50)))
    assert np.all(ours.read_level(0, 64, 0, (64, 64)) == 255)
    ours.close()
    peer.close()


def test_other_formats_stay_with_openslide(test_data: Path) -> None:
    folder = test_data / "slides"
    ndpi = next((folder / "hamamatsu").glob("*.ndpi"))
    dicom = folder / "dicom" / "highdicom" / "sm_image.dcm"
    for path in (ndpi, dicom):
        source = open_direct(path)
        assert isinstance(source, OpenSlideSource)
        source.close()


def test_a_level_that_shows_something_else_stays_with_openslide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _pyramid(tmp_path)
    to_rgb = direct.to_rgb
    monkeypatch.setattr(direct, "to_rgb", lambda samples: to_rgb(samples)[..., ::-1])
    ours, peer = _source(path), OpenSlideSource(path)
    for level in range(3):
        assert not ours.is_direct(level)
        found = ours.read_level(level, 0, 0, (100, 90))
        assert np.array_equal(found, peer.read_level(level, 0, 0, (100, 90)))
    ours.close()
    peer.close()


def test_a_damaged_tile_costs_only_itself(tmp_path: Path) -> None:
    path = _pyramid(tmp_path, "deflate")
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0].aspage()
        counts = list(page.databytecounts)
        worst = int(np.argmax(counts))
        offset, count = page.dataoffsets[worst], counts[worst]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = os.urandom(count)
    path.write_bytes(data)
    row, col = divmod(worst, 11)
    with open_slide(path) as slide:
        assert np.array_equal(slide.read(0, 0, TILE, MPP), PIXELS[:TILE, :TILE])
        with pytest.raises(UnreadableSlideError, match="cannot be decoded"):
            slide.read(col * TILE, row * TILE, TILE, MPP)
        with pytest.raises(UnreadableSlideError, match="cannot be decoded"):
            slide.read_tiles(np.array([(0, 0), (col * TILE, row * TILE)]), TILE, MPP)


@pytest.mark.parametrize("cut", ["zeros", "marker"])
def test_a_jpeg_that_ends_early_is_refused_as_openslide_refuses_it(
    cut: str, tmp_path: Path
) -> None:
    path = _pyramid(tmp_path)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0].aspage()
        second, first = np.argsort(page.databytecounts)[-2:]  # the fullest is what is compared
        offset, count = page.dataoffsets[second], page.databytecounts[second]
    assert first != second
    data = bytearray(path.read_bytes())
    middle, end = offset + count // 2, offset + count
    data[middle:end] = (
        bytes(end - middle) if cut == "zeros" else (b"\xff\xd9" * count)[: end - middle]
    )
    path.write_bytes(data)
    row, col = divmod(int(second), 11)
    with open_slide(path) as ours, _through_openslide(path) as peer:
        for slide in (ours, peer):
            with pytest.raises(UnreadableSlideError, match="cannot be decoded"):
                slide.read(col * TILE, row * TILE, TILE, MPP)
            with pytest.raises(UnreadableSlideError, match="cannot be decoded"):
                slide.read_tiles(np.array([(col * TILE, row * TILE)]), TILE, MPP)


@pytest.mark.parametrize("seed", range(12))
def test_damage_is_noticed_where_openslide_notices_it(seed: int, tmp_path: Path) -> None:
    path, rng = _pyramid(tmp_path), np.random.default_rng(seed)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0].aspage()
        second = int(np.argsort(page.databytecounts)[-2])  # the fullest is what is compared
        offset, count = page.dataoffsets[second], page.databytecounts[second]
    data = bytearray(path.read_bytes())
    start = offset + int(rng.integers(count - 20))
    data[start : start + 20] = rng.bytes(20)
    path.write_bytes(data)
    row, col = divmod(second, 11)
    with open_slide(path) as ours, _through_openslide(path) as peer:
        found, wanted = (_tile_or_none(slide, col * TILE, row * TILE) for slide in (ours, peer))
    assert (found is None) == (wanted is None)
    assert found is None or np.array_equal(found, wanted)


def _tile_or_none(slide: Slide, x: int, y: int) -> RGB | None:
    try:
        return slide.read(x, y, TILE, MPP)
    except UnreadableSlideError:
        return None


def _touched(corners: NDArray[np.int64], size: int) -> int:
    """Source tiles under squares of level 0."""
    under = set()
    for x, y in corners.tolist():
        for row in range(y // TILE, (y + size - 1) // TILE + 1):
            for col in range(x // TILE, (x + size - 1) // TILE + 1):
                under.add((row, col))
    return len(under)


@pytest.mark.parametrize("kind", ["direct", "tiff"])
@given(data=st.data())
@settings(max_examples=30)
def test_each_source_tile_is_decoded_once(
    kind: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("slide")
    path = (
        _pyramid(folder)
        if kind == "direct"
        else slides.write_ome_tiff(folder / "a.ome.tif", PIXELS, mpp=MPP, tile=TILE)
    )
    places = st.tuples(st.integers(0, 701 - 100), st.integers(0, 533 - 100))
    corners = np.array(data.draw(st.lists(places, min_size=1, max_size=30)))
    with open_slide(path) as slide:
        before = _after_the_first_look(slide)
        tiles = slide.read_tiles(corners, 100, MPP)
        taken = slide.counts() - before
        assert taken.tiles <= _touched(corners, 100)
        assert taken.pixels == taken.tiles * TILE * TILE
        for tile, (x, y) in zip(tiles, corners, strict=True):
            assert np.array_equal(tile, slide.read(x, y, 100, MPP))


def _after_the_first_look(slide: Slide) -> ReadCount:
    slide.read(0, 0, 1, slide.mpp[0])  # decodes one to compare the level with OpenSlide
    slide._source._cache.clear()  # type: ignore[attr-defined]
    return slide.counts()


def test_once_also_where_the_cache_alone_would_forget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _pyramid(tmp_path)
    with open_slide(path) as slide:
        before = _after_the_first_look(slide)
        cache = slide._source._cache  # type: ignore[attr-defined]
        monkeypatch.setattr(cache, "_most", 1)  # keeps one segment, besides those that are held
        corners = np.array([(x, y) for x in range(32, 600, 64) for y in range(32, 440, 64)])
        np.random.default_rng(0).shuffle(corners)
        slide.read_tiles(corners, 51, 1.25 * MPP)  # 63.75 pixels a side, interpolated
        taken = slide.counts() - before
        assert taken.tiles == _touched(corners, 64)
        assert not cache._wanted
        assert not cache._held


def test_a_reader_that_stops_half_way_lets_go(tmp_path: Path) -> None:
    source = _source(_pyramid(tmp_path))
    order = source.in_order(0, [(0, 0, 100, 100), (300, 200, 100, 100)])
    assert next(order) == 0
    assert source._cache._wanted
    del order
    assert not source._cache._wanted
    source.close()


def test_what_is_held_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep, most, sizes = SegmentCache._keep, 5 * TILE * TILE * 3, []

    def watched(cache: SegmentCache, key: Hashable, segment: RGB) -> None:
        keep(cache, key, segment)
        sizes.append((cache._held_bytes, cache._bytes))

    monkeypatch.setattr(SegmentCache, "_keep", watched)
    corners = np.random.default_rng(0).integers(0, 400, (200, 2))
    with open_slide(_pyramid(tmp_path, "deflate")) as slide:
        cache = slide._source._cache  # type: ignore[attr-defined]
        monkeypatch.setattr(cache, "_most", most)
        monkeypatch.setattr(cache, "_most_held", most)
        tiles = slide.read_tiles(corners, 80, 1.25 * MPP)  # interpolated: kept until all is there
        assert np.max(sizes) == most
        for tile, (x, y) in zip(tiles, corners, strict=True):
            assert np.array_equal(tile, slide.read(x, y, 80, 1.25 * MPP))


def test_sampling_costs_the_same_on_a_larger_slide(tmp_path: Path) -> None:
    taken = []
    for size in (1024, 4096):
        path = slides.write_large_flat_tiff(tmp_path / f"{size}.tif", size, tile=256)
        with open_slide(path) as slide:
            before = _after_the_first_look(slide)
            slide.read_tiles(np.array([(256, 256), (512, 512)]), 256, 0.25)
            taken.append(slide.counts() - before)
    assert [count.tiles for count in taken] == [2, 2]
    assert taken[0].pixels == taken[1].pixels == 2 * 256 * 256
    assert all(0 < count.compressed_bytes < 2 * 256 * 256 for count in taken)
    assert all(0 < count.seconds < 60 for count in taken)


def test_openslide_counts_the_tiles_under_a_read(tmp_path: Path) -> None:
    source = OpenSlideSource(_pyramid(tmp_path))
    source.read_level(0, 60, 10, (10, 10))
    source.read_level(0, -30, -30, (40, 40))
    source.read_level(0, -30, -30, (20, 20))
    count = source.counts()
    assert (count.tiles, count.pixels, count.compressed_bytes) == (3, 3 * TILE * TILE, 0)
    source.close()


def test_reads_of_another_scale_begin_at_whole_pixels(tmp_path: Path) -> None:
    """OpenSlide would blur a level of 2.001 before it is resampled."""
    path = _pyramid(tmp_path, "deflate")
    with open_slide(path) as ours, _through_openslide(path) as peer:
        wanted = slides.pyramid_of(PIXELS, 2)[1]
        scale = ours.levels[1].downsample
        corner = 101 * scale, 77 * scale
        found, blurred = (
            slide.read(*corner, 100, MPP * scale * 1.0001).astype(int) for slide in (ours, peer)
        )
        at = wanted[77:177, 101:201]
        assert np.abs(found - at).mean() < np.abs(blurred - at).mean()


def test_threads_and_copies_read_the_same(tmp_path: Path) -> None:
    with open_slide(_pyramid(tmp_path)) as slide:
        corners = np.random.default_rng(1).integers(-50, 600, (40, 2))
        alone = slide.read_tiles(corners, 48, 0.7)
        with open_slide(slide.path or "") as fresh, ThreadPoolExecutor(4) as pool:
            parts = pool.map(lambda part: fresh.read_tiles(part, 48, 0.7), np.split(corners, 8))
            assert np.array_equal(alone, np.concatenate(list(parts)))
        with pickle.loads(pickle.dumps(slide)) as copy:
            assert np.array_equal(alone, copy.read_tiles(corners, 48, 0.7))


def test_tiles_of_a_level_that_openslide_reads_between_pixels(tmp_path: Path) -> None:
    with _through_openslide(_pyramid(tmp_path)) as slide:
        mpp = MPP * slide.levels[1].downsample
        corners = np.random.default_rng(1).integers(-20, 500, (20, 2))
        for tile, (x, y) in zip(slide.read_tiles(corners, 60, mpp), corners, strict=True):
            assert np.array_equal(tile, slide.read(x, y, 60, mpp))


def test_neighbours_share_a_tile_from_call_to_call(tmp_path: Path) -> None:
    with open_slide(_pyramid(tmp_path)) as slide:
        before = _after_the_first_look(slide)
        slide.read(0, 0, (96, 64), MPP)
        slide.read(96, 0, (96, 64), MPP)
        assert (slide.counts() - before).tiles == 3


def test_no_file_stays_open(tmp_path: Path) -> None:
    path, folder = _pyramid(tmp_path), Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("open files cannot be counted here")
    before = len(list(folder.iterdir()))
    for closing in (True, False):
        slide = open_slide(path)
        slide.read(0, 0, 64, MPP)
        if closing:
            slide.close()
        del slide
    assert len(list(folder.iterdir())) == before


@pytest.mark.parametrize("options", [{"photometric": "minisblack"}, {"planarconfig": "separate"}])
def test_other_layouts_show_what_openslide_shows(options: dict[str, Any], tmp_path: Path) -> None:
    grey = options.get("photometric") == "minisblack"
    path = slides.write_flat_tiff(
        tmp_path / "a.tif", PIXELS[..., 0] if grey else PIXELS, tile=TILE, compression="lzw",
        **options,
    )  # fmt: skip
    with open_slide(path, mpp=MPP) as ours, _through_openslide(path) as peer:
        assert np.array_equal(ours.read(33, 44, 300, MPP), peer.read(33, 44, 300, MPP))
