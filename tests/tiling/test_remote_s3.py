"""Slides in an S3 bucket, played by moto on this machine."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slides

from saccade.tiling import open_slide
from saccade.tiling.errors import SlideNotFoundError, UnreadableSlideError

boto3 = pytest.importorskip("boto3", reason="moto is not installed: no S3 to try")
moto_server = pytest.importorskip("moto.server", reason="moto is not installed: no S3 to try")
pytest.importorskip("s3fs", reason="s3fs is not installed: s3:// cannot be read")

PIXELS = slides.tissue_like(900, 700)
MPP = 0.5
SECRET = "a-secret-key"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        bucket = boto3.resource("s3").Bucket("slides")
        bucket.create()
        yield bucket
    server.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, bucket: Any) -> Path:
    place = tmp_path_factory.mktemp("slides")
    slides.write_svs(place / "a.svs", PIXELS, tile=64)
    slides.write_ome_tiff(place / "a.ome.tif", PIXELS, mpp=MPP)
    slides.write_ome_zarr(place / "a.zarr", PIXELS, mpp=MPP)
    for file in place.rglob("*"):
        if file.is_file():
            bucket.upload_file(str(file), file.relative_to(place).as_posix())
    return place


@pytest.mark.parametrize("name", ["a.svs", "a.ome.tif", "a.zarr"])
def test_pixels_are_those_of_the_local_read(name: str, folder: Path) -> None:
    corners = np.random.default_rng(0).integers(-20, 700, (8, 2))
    with open_slide(f"s3://slides/{name}") as remote, open_slide(folder / name) as local:
        assert remote.mpp == local.mpp
        assert remote.levels == local.levels
        before = remote.counts()
        tiles = remote.read_tiles(corners, 80, MPP)
        assert np.array_equal(tiles, local.read_tiles(corners, 80, MPP))
        taken = remote.counts() - before
        assert 0 < taken.compressed_bytes < (folder / "a.ome.tif").stat().st_size
        assert taken.requests > 0
        assert remote.content_hash.startswith("etag:")


def test_it_travels_to_another_process(folder: Path) -> None:
    with open_slide("s3://slides/a.svs") as slide, pickle.loads(pickle.dumps(slide)) as copy:
        assert np.array_equal(copy.read(0, 0, 50, MPP), slide.read(0, 0, 50, MPP))


def test_an_object_that_changes_under_an_open_slide(folder: Path, bucket: Any) -> None:
    bucket.upload_file(str(folder / "a.svs"), "b.svs")
    with open_slide("s3://slides/b.svs") as slide:
        first = slide.content_hash
        bucket.upload_file(str(folder / "a.ome.tif"), "b.svs")
        with pytest.raises(UnreadableSlideError, match="has changed since"):
            slide.read(700, 600, 50, MPP)
    with open_slide("s3://slides/b.svs") as slide:
        assert slide.content_hash != first


@pytest.mark.parametrize("place", ["slides/none.svs", "nobody/a.svs", "slides/a.zarrs"])
def test_nothing_there(place: str, folder: Path) -> None:
    with pytest.raises(SlideNotFoundError, match=f"s3://{place}: there is no such file"):
        open_slide(f"s3://{place}")


def test_no_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(
        UnreadableSlideError, match=r"wanted its size .*Check the address"
    ) as caught:
        open_slide("s3://slides/a.svs?versionId=secret")
    assert "secret" not in str(caught.value)
    s3fs.S3FileSystem.clear_instance_cache()
