"""Opening what lies behind a URL: only what can be read by byte ranges."""

from __future__ import annotations

from saccade.tiling.content import described, is_tiff
from saccade.tiling.errors import SlideNotFoundError, UnreadableSlideError
from saccade.tiling.remote import Url
from saccade.tiling.source import Source
from saccade.tiling.sources.remote_bytes import RemoteBytes
from saccade.tiling.sources.remote_tiff import RemoteTiffSource

_HEAD = 1024


def source_of_url(url: Url, channels: tuple[int, ...] | None) -> Source:
    """Choose the reader by what lies there.

    Raises:
        SlideNotFoundError: if nothing does.
        UnreadableSlideError: if it cannot be reached, or is neither TIFF nor OME-Zarr.
    """
    if url.name.endswith(".zarr"):
        return _zarr(url, channels)
    try:
        file = RemoteBytes(url)
    except SlideNotFoundError:
        if _is_zarr(url):
            return _zarr(url, channels)
        raise
    head = file.read(0, _HEAD)
    if is_tiff(head):
        return RemoteTiffSource(url, file, channels)
    file.close()
    if _is_zarr(url):  # a server may answer with a list of what lies in the folder
        return _zarr(url, channels)
    raise UnreadableSlideError(
        f"{url.name}: of remote slides TIFF (SVS, OME-TIFF, tiled TIFF) and OME-Zarr are read; "
        f"found {described(head)} at {url}. Copy the file here first."
    )


def _is_zarr(url: Url) -> bool:
    from saccade.tiling.sources.ome_zarr import is_remote_zarr  # zarr takes 0.3 s to import

    return is_remote_zarr(url)


def _zarr(url: Url, channels: tuple[int, ...] | None) -> Source:
    from saccade.tiling.sources.ome_zarr import OmeZarrSource

    return OmeZarrSource(url, channels)
