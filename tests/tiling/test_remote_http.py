"""Slides on a web server: the same pixels, few bytes, and a clear word when something is wrong."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import slides
from numpy.typing import NDArray
from servers import RangeServer, serving
from tifffile import TiffFile

from saccade.tiling import Slide, open_slide
from saccade.tiling.describe import describe
from saccade.tiling.errors import SlideNotFoundError, UnreadableSlideError
from saccade.tiling.pyramid import build_pyramid
from saccade.tiling.sources import http_ranges, remote_bytes
from saccade.tiling.sources.remote_bytes import BLOCK

PIXELS = slides.tissue_like(1501, 1103)
MPP = 0.5
TILE = 64


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_ranges, "PAUSES", (0.0, 0.0))
    monkeypatch.delenv("SACCADE_CACHE_DIR", raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One slide of each kind; tests must not change them."""
    place = tmp_path_factory.mktemp("slides")
    slides.write_svs(place / "a.svs", PIXELS, tile=TILE)
    slides.write_pyramid_tiff(place / "tiled.tiff", PIXELS, mpp=MPP, tile=TILE)
    slides.write_ome_tiff(place / "a.ome.tif", PIXELS, mpp=MPP, tile=TILE)
    stack = np.moveaxis(PIXELS.astype(np.uint16) * 200, 2, 0)
    slides.write_ome_tiff(place / "16.ome.tif", stack, mpp=MPP, tile=TILE, axes="CYX")
    slides.write_flat_tiff(place / "strips.tif", PIXELS, rows_per_strip=40, mpp=MPP)
    slides.write_flat_tiff(place / "raw.tif", PIXELS[:250], mpp=MPP)
    slides.write_ome_zarr(place / "a5.zarr", PIXELS, mpp=MPP, version="0.5")
    slides.write_ome_zarr(place / "a4.zarr", PIXELS, mpp=MPP, version="0.4")
    return place


KINDS = ["a.svs", "tiled.tiff", "a.ome.tif", "16.ome.tif", "strips.tif", "raw.tif"]
ZARRS = ["a5.zarr", "a4.zarr"]


@pytest.fixture
def server(folder: Path) -> Iterator[RangeServer]:
    with serving(folder) as server:
        yield server


@pytest.mark.parametrize("name", [*KINDS, *ZARRS])
def test_pixels_are_those_of_the_local_read(name: str, folder: Path, server: RangeServer) -> None:
    corners = np.random.default_rng(0).integers(-40, 1200, (20, 2))
    with open_slide(server.url(name)) as remote, open_slide(folder / name) as local:
        assert np.array_equal(
            remote.read_tiles(corners, 100, MPP), local.read_tiles(corners, 100, MPP)
        )
        assert np.array_equal(
            remote.read(33, 57, (90, 120), 1.3), local.read(33, 57, (90, 120), 1.3)
        )
        for level in local.levels:  # whole pixels of the level
            mpp = local.mpp[0] * level.downsample
            assert np.array_equal(remote.read(0, 0, (90, 70), mpp), local.read(0, 0, (90, 70), mpp))


@pytest.mark.parametrize("name", [*KINDS, *ZARRS])
def test_facts_are_those_of_the_local_slide(name: str, folder: Path, server: RangeServer) -> None:
    with open_slide(server.url(name)) as remote, open_slide(folder / name) as local:
        found, wanted = describe(remote), describe(local)
        assert remote.info.associated_names == local.info.associated_names
        for image, pixels in local.associated_images().items():
            assert np.array_equal(remote.associated_images()[image], pixels)
    for facts in (found, wanted):
        del facts["reader"], facts["content_hash"]
    # Our reader of TIFF has no name for those who wrote it; neither has it locally.
    assert found == wanted


def test_label_and_macro_of_an_svs_are_no_levels(server: RangeServer) -> None:
    with open_slide(server.url("a.svs")) as slide:
        assert [(level.width, level.height) for level in slide.levels] == [(1501, 1103), (750, 551)]
        assert slide.mpp == (0.5, 0.5)
        assert slide.info.objective_power == 20
        assert slide.info.vendor == "aperio"
        assert set(slide.associated_images()) == {"thumbnail", "label", "macro"}


@pytest.mark.parametrize("facts", ["AppMag = 40|MPP = 0,2525", "MPP = none", "AppMag = 0"])
def test_what_the_scanner_wrote_is_read_as_openslide_reads_it(facts: str, tmp_path: Path) -> None:
    slides.write_svs(tmp_path / "x.svs", PIXELS[:300, :300], facts=facts)
    local = open_slide(tmp_path / "x.svs")
    with local, serving(tmp_path) as server, open_slide(server.url("x.svs")) as remote:
        assert remote.recorded_mpp == local.recorded_mpp
        assert remote.info.objective_power == local.info.objective_power


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[..., 0]], ids=["colour", "grey"])
def test_tiles_that_a_file_leaves_out(pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    """As OpenSlide has it: white, and bounds around what is there."""
    path = tmp_path / "sparse.tif"
    slides.write_flat_tiff(path, pixels, mpp=MPP, tile=TILE, compression="deflate")
    with TiffFile(path, mode="r+b") as tif:
        counts = np.array(tif.pages[0].databytecounts).reshape(18, 24)
        counts[:3] = counts[:, 20:] = 0
        tif.pages[0].tags["TileByteCounts"].overwrite(counts.ravel().tolist())
        offsets = np.where(counts.ravel() == 0, 0, tif.pages[0].dataoffsets)
        tif.pages[0].tags["TileOffsets"].overwrite(offsets.tolist())
    local, whole = open_slide(path), (0, 0, (1501, 1103), MPP)
    with local, serving(tmp_path) as server, open_slide(server.url("sparse.tif")) as remote:
        assert remote.info.bounds_l0 == local.info.bounds_l0 is not None
        assert np.array_equal(remote.read(*whole), local.read(*whole))


def under(path: Path, corners: NDArray[np.int64], size: int) -> dict[tuple[int, int], int]:
    """Source tiles of level 0 under squares, with their bytes."""
    with TiffFile(path) as tif:
        page = tif.pages.first
        across = -(-page.imagewidth // page.tilewidth)
        counts, tile = page.databytecounts, page.tilewidth
    return {
        (row, col): counts[row * across + col]
        for x, y in corners.tolist()
        for row in range(y // tile, (y + size - 1) // tile + 1)
        for col in range(x // tile, (x + size - 1) // tile + 1)
    }


@pytest.mark.parametrize("name", ["a.svs", "tiled.tiff"])
def test_what_travels_is_the_index_and_the_tiles_that_are_wanted(
    name: str, folder: Path, server: RangeServer
) -> None:
    corners = np.random.default_rng(1).integers(0, 1000, (12, 2))
    wanted = under(folder / name, corners, 100)
    with open_slide(server.url(name)) as slide:
        opened = slide.counts()
        assert opened.compressed_bytes == server.sent <= 8 * BLOCK
        slide.read_tiles(corners, 100, MPP)
        assert (slide.counts() - opened).tiles == len(wanted)
        slide.read_tiles(corners, 100, MPP)  # what is here does not travel again
        taken = slide.counts() - opened
        assert not slide._source._remote._announced  # type: ignore[attr-defined]
    gaps = 2**10 * len(wanted)  # so near to one another, two tiles are one request
    assert 0 <= taken.compressed_bytes - sum(wanted.values()) <= gaps
    assert slide.counts().requests == server.requests
    assert slide.counts().compressed_bytes == server.sent


def test_nothing_grows_with_the_slide(tmp_path: Path) -> None:
    taken = []
    for size in (1024, 8192):
        slides.write_large_flat_tiff(tmp_path / f"{size}.tif", size, tile=256)
        with serving(tmp_path) as server, open_slide(server.url(f"{size}.tif")) as slide:
            opened = slide.counts()
            slide.read_tiles(np.array([(256, 256), (512, 768)]), 256, 0.25)
            taken.append((opened.requests, (slide.counts() - opened).requests))
            assert (slide.counts() - opened).tiles == 2
    assert taken[0] == taken[1]


def test_a_hundred_thousand_tiles_are_opened_with_few_requests(tmp_path: Path) -> None:
    path = tmp_path / "large.tif"
    slides.write_large_flat_tiff(path, 5056, tile=16, kinds=1)
    with TiffFile(path) as tif:
        assert len(tif.pages.first.dataoffsets) == 99856
    with serving(tmp_path) as server, open_slide(server.url("large.tif")) as slide:
        assert slide.counts().requests == server.requests <= 6
        assert server.sent <= 99856 * 8 + 6 * BLOCK


def test_many_ranges_are_under_way_at_once_and_no_more_than_allowed(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_bytes, "_GAP", -1)  # each range is a request of its own
    server.delay = 0.05
    corners = np.array([(x, y) for x in range(0, 1400, 200) for y in range(0, 1000, 150)])
    with open_slide(server.url("tiled.tiff")) as slide:
        slide.read_tiles(corners, 60, MPP)
    assert http_ranges.AT_ONCE // 2 <= server.most_at_once <= http_ranges.AT_ONCE


def test_what_is_announced_comes_in_one_go(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, fetch = [], http_ranges.HttpRanges.fetch

    def noted(ranges: http_ranges.HttpRanges, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        calls.append(len(wanted))
        return fetch(ranges, wanted)

    with open_slide(server.url("tiled.tiff")) as slide:
        monkeypatch.setattr(http_ranges.HttpRanges, "fetch", noted)
        slide.read_tiles(np.array([(x, y) for x in (0, 400, 900) for y in (0, 400, 900)]), 200, MPP)
    assert len(calls) == 1
    assert calls[0] > 9


def test_threads_that_want_the_same_share_a_request(server: RangeServer) -> None:
    server.delay = 0.05
    with open_slide(server.url("tiled.tiff")) as slide, ThreadPoolExecutor(4) as pool:
        before = slide.counts().requests
        list(pool.map(lambda _: slide.read(130, 130, 60, MPP), range(4)))
        assert slide.counts().requests - before == 1


def test_a_pyramid_of_a_remote_slide(folder: Path, server: RangeServer, tmp_path: Path) -> None:
    with open_slide(server.url("a.svs")) as remote, open_slide(folder / "a.svs") as local:
        ours = build_pyramid(remote, tmp_path / "r.zarr", finest_mpp=2.0)
        theirs = build_pyramid(local, tmp_path / "l.zarr", finest_mpp=2.0)
        assert np.array_equal(ours.read(0), theirs.read(0))
        assert ours.matches(remote, finest_mpp=2.0)
        assert not ours.matches(local, finest_mpp=2.0)
        assert remote.counts().requests == server.requests


@pytest.mark.parametrize("name", ["a.svs", "a5.zarr"])
def test_the_hash_is_of_the_version_and_costs_no_download(
    name: str, tmp_path: Path, folder: Path
) -> None:
    with serving(tmp_path) as server:
        _write(tmp_path / name, PIXELS)
        with open_slide(server.url(name)) as slide, open_slide(f"{server.url(name)}") as again:
            server.reset()
            first = slide.content_hash
            assert first == again.content_hash
            assert first.startswith("etag:")
            assert server.sent < 10_000
        _write(tmp_path / name, 255 - PIXELS)
        with open_slide(server.url(name)) as slide:
            assert slide.content_hash != first


def _write(path: Path, pixels: slides.RGB) -> None:
    if path.suffix == ".zarr":
        slides.write_ome_zarr(path, pixels)
    else:
        slides.write_svs(path, pixels)


def test_without_etag_the_time_of_change_is_taken_and_without_both_there_is_no_hash(
    server: RangeServer,
) -> None:
    server.tells = ("Last-Modified",)
    with open_slide(server.url("a.svs")) as slide:
        assert slide.content_hash.startswith("modified:")
    server.tells = ()
    for name in ("a.svs", "a5.zarr"):
        with open_slide(server.url(name)) as slide:
            assert slide.read(0, 0, 10, MPP).shape == (10, 10, 3)
            with pytest.raises(UnreadableSlideError, match="neither ETag nor Last-Modified"):
                _ = slide.content_hash


def test_an_object_that_changes_under_an_open_slide(tmp_path: Path) -> None:
    slides.write_svs(tmp_path / "x.svs", PIXELS)
    with serving(tmp_path) as server, open_slide(server.url("x.svs")) as slide:
        slides.write_svs(tmp_path / "x.svs", PIXELS)
        with pytest.raises(UnreadableSlideError, match="has changed since"):
            slide.read(700, 700, 10, MPP)


def test_a_connection_that_drops_is_tried_again(server: RangeServer, folder: Path) -> None:
    server.drop = 2
    with open_slide(server.url("tiled.tiff")) as slide, open_slide(folder / "tiled.tiff") as local:
        server.drop = 1
        assert np.array_equal(slide.read(300, 300, 60, MPP), local.read(300, 300, 60, MPP))
        assert slide.counts().requests == server.requests


@pytest.mark.parametrize("name", ["tiled.tiff", "a5.zarr"])
def test_a_server_that_fails_for_good(name: str, server: RangeServer) -> None:
    with open_slide(server.url(name)) as slide:
        for kind in ("drop", "status"):
            setattr(server, kind, 503 if kind == "status" else 10_000)
            with pytest.raises(
                UnreadableSlideError, match=r"wanted .* found 3 attempts: .*\. Check"
            ):
                slide.read(300, 300, 60, MPP)
            setattr(server, kind, 0)
        slide.read(300, 300, 60, MPP)  # a failure is not kept


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (404, SlideNotFoundError, "there is no such file"),
        (403, UnreadableSlideError, "signed addresses end"),
        (500, UnreadableSlideError, "3 attempts: status 500"),
        (418, UnreadableSlideError, "status 418"),
    ],
)
def test_refusals_are_explained_without_the_signature(
    status: int, error: type[Exception], words: str, server: RangeServer
) -> None:
    server.status = status
    with pytest.raises(error, match=words) as caught:
        open_slide(server.url("a.svs?signature=secret"))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "secret" not in str(caught.value)


def test_no_server_at_all() -> None:
    with serving(Path()) as server:
        url = server.url("x.svs?signature=secret")
    with pytest.raises(UnreadableSlideError, match="3 attempts: ClientConnectorError") as caught:
        open_slide(url)
    assert "secret" not in str(caught.value)


def test_the_signature_reaches_the_server_and_nobody_else(server: RangeServer) -> None:
    with open_slide(server.url("a.svs?signature=a%2Fb%2Bc")) as slide:
        slide.read(0, 0, 10, MPP)
        assert {query for _, _, query in server.asked} == {"signature=a%2Fb%2Bc"}
        with open_slide(server.url("a.svs?signature=other")) as other:
            assert slide.content_hash == other.content_hash
        assert slide.name == "a.svs"
        assert "signature" not in f"{slide.path} {slide.path!r} {describe(slide)}"


def test_a_server_without_ranges(server: RangeServer) -> None:
    server.ranges = False
    with pytest.raises(UnreadableSlideError, match=r"range requests\)\. Copy the file here first"):
        open_slide(server.url("a.svs"))


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (bytes(128) + b"DICM", "a DICOM file"),
        (b"\x89PNG\r\n\x1a\n", "a PNG"),
        (b"<html>", "an HTML page"),
        (b"", "none: the file is empty"),
    ],
)
def test_what_cannot_be_read_by_ranges(head: bytes, found: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(head)
    message = f"found {found}.*Copy the file here first"
    with serving(tmp_path) as server, pytest.raises(UnreadableSlideError, match=message):
        open_slide(server.url("x"))


def test_a_format_that_only_openslide_reads(tmp_path: Path) -> None:
    description = '<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"></scn>'
    path = tmp_path / "x.scn"
    slides.write_flat_tiff(path, PIXELS, tile=TILE, description=description)
    message = "a Leica SCN.*Copy the file here first"
    with serving(tmp_path) as server, pytest.raises(UnreadableSlideError, match=message):
        open_slide(server.url("x.scn"))


def test_a_tiff_cut_short(tmp_path: Path, folder: Path) -> None:
    data = (folder / "tiled.tiff").read_bytes()
    (tmp_path / "x.tiff").write_bytes(data[: len(data) // 2])
    message = r"x\.tiff: .*cut short"
    with serving(tmp_path) as server:
        slide = open_slide(server.url("x.tiff"))
        with slide, pytest.raises(UnreadableSlideError, match=message):
            slide.read(1400, 1000, 90, MPP)


def test_a_zarr_is_found_under_any_name(tmp_path: Path) -> None:
    slides.write_ome_zarr(tmp_path / "image", PIXELS[:200, :200])
    with serving(tmp_path) as server, open_slide(server.url("image")) as slide:
        assert slide.info.reader == "ome-zarr"
        with pytest.raises(SlideNotFoundError):
            open_slide(server.url("nothing"))


def test_requests_for_zarr_are_counted(server: RangeServer) -> None:
    with open_slide(server.url("a5.zarr")) as slide:
        slide.read(0, 0, 100, MPP)
        assert slide.counts().requests == server.requests
        assert slide.counts().compressed_bytes == server.sent


def test_the_cache_serves_the_second_read(
    server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACCADE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SACCADE_CACHE_MB", "20")
    pixels = []
    for sign in ("first", "second"):
        with open_slide(server.url(f"tiled.tiff?signature={sign}")) as slide:
            pixels.append(slide.read_tiles(np.array([(100, 100), (700, 800)]), 100, MPP))
            requests = slide.counts().requests
    assert requests == 1  # which version it is
    assert np.array_equal(*pixels)
    kept = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in kept) < 20e6
    assert not any(b"signature" in file.read_bytes() for file in kept)


def test_the_cache_does_not_serve_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACCADE_CACHE_DIR", str(tmp_path / "cache"))
    with serving(tmp_path) as server:
        for pixels in (PIXELS, 255 - PIXELS):
            slides.write_svs(tmp_path / "x.svs", pixels)
            local = open_slide(tmp_path / "x.svs")
            with local, open_slide(server.url("x.svs")) as slide:
                assert np.array_equal(slide.read(0, 0, 90, MPP), local.read(0, 0, 90, MPP))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # threads are what is tested
def test_a_slide_travels_to_another_process_and_back(server: RangeServer) -> None:
    with open_slide(server.url("a.svs?signature=1"), mpp=MPP) as slide:
        with pickle.loads(pickle.dumps(slide)) as copy:
            assert np.array_equal(copy.read(9, 9, 50, MPP), slide.read(9, 9, 50, MPP))
        for method in ("spawn", "fork"):
            with multiprocessing.get_context(method).Pool(1) as pool:
                assert pool.apply(_mean, (slide,)) == slide.read(100, 100, 50, MPP).mean()


def _mean(slide: Slide) -> float:
    with slide:
        return float(slide.read(100, 100, 50, MPP).mean())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # threads are what is tested
def test_an_open_slide_is_read_after_a_fork(server: RangeServer) -> None:
    with open_slide(server.url("tiled.tiff")) as slide:
        child = os.fork()
        if not child:
            os._exit(0 if slide.read(500, 500, 50, MPP).mean() > 0 else 1)
        assert os.waitpid(child, 0)[1] == 0
