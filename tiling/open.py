"""Opening a slide: the reader is chosen by what the file holds, not by what it is called."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import openslide

from saccade.tiling.content import described, head_of, is_picture, is_tiff, is_zarr
from saccade.tiling.errors import SlideNotFoundError, UnreadableSlideError
from saccade.tiling.open_remote import source_of_url
from saccade.tiling.remote import Place, Url, place_of
from saccade.tiling.slide import Slide
from saccade.tiling.source import RGB, Source
from saccade.tiling.sources.array import ArraySource
from saccade.tiling.sources.direct import open_direct
from saccade.tiling.sources.image import open_image
from saccade.tiling.sources.tiff import TiffSource

# Files that only point to the pixels, and show a preview to whoever opens them alone.
_POINTERS = {
    ".mrxs": "a MIRAX index whose folder {stem!r}, where the pixels lie, is missing or incomplete. "
    "Copy that folder to lie beside the .mrxs file",
    ".vsi": "an Olympus VSI index; its pixels lie in .ets files that no reader here opens. "
    "Convert it: bfconvert {name} slide.ome.tiff",
}

_SWALLOWED = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]")  # a URL that was a Path for a while


def open_slide(
    path: str | Place | RGB,
    *,
    mpp: float | None = None,
    channels: tuple[int, ...] | None = None,
) -> Slide:
    """Open a slide for reading.

    OpenSlide reads whatever it can (scanner formats, DICOM, tiled TIFF), our own readers the
    rest: TIFF and OME-TIFF, OME-Zarr 0.4 and 0.5, plain PNG, JPEG and BMP, an array in memory.
    OME-TIFF is read by our own reader even where OpenSlide would open it as plain TIFF, because
    OpenSlide does not see its levels, channels and pixel size.

    A text with `://` is a URL: of a TIFF (SVS, OME-TIFF ...) or OME-Zarr that lies there, only the
    index and the source tiles that are wanted travel.

    Args:
        path: the file or OME-Zarr folder, or its URL (as text: a `Path` makes one slash of two);
            or the pixels themselves, uint8 (rows, cols, 3).
        mpp: micrometres per pixel of level 0, in x and y. It wins over what the file records.
        channels: one to three channels of a TIFF or OME-Zarr to show as red, green and blue (one
            alone as grey), counted from 0; the first three if not given.

    Raises:
        SlideNotFoundError: if there is nothing at `path`.
        UnreadableSlideError: if no reader opens it.
        ValueError: if `mpp` or `channels` is no possible value.

    >>> slide = open_slide(np.zeros((600, 800, 3), np.uint8), mpp=0.5)
    >>> slide.size_l0, slide.mpp
    ((800, 600), (0.5, 0.5))
    >>> slide.read(0, 0, 200, mpp=1).shape
    (200, 200, 3)
    """
    if channels is not None and not 1 <= len(channels) <= 3:
        raise ValueError(f"channels must be one to three, got {channels}.")
    if isinstance(path, np.ndarray):
        return Slide(ArraySource(path), path, mpp)
    place = place_of(path)
    opened = (
        source_of_url(place, channels) if isinstance(place, Url) else _source_of(place, channels)
    )
    return Slide(opened, place, mpp, channels)


def reopen(origin: Place | RGB, mpp: float | None, channels: tuple[int, ...] | None) -> Slide:
    """Open what a pickled slide was opened from."""
    return open_slide(origin, mpp=mpp, channels=channels)


def _source_of(path: Path, channels: tuple[int, ...] | None) -> Source:
    if not path.exists():
        swallowed = _SWALLOWED.match(str(path))
        advice = "Pass a URL as text, not as a Path." if swallowed else "Check the path."
        raise SlideNotFoundError(f"{path}: there is no such file. {advice}")
    if path.is_dir():
        return _source_of_folder(path, channels)
    if not path.is_file():
        raise UnreadableSlideError(f"{path.name}: not a file. Pass the path of a slide.")
    try:
        head = head_of(path)
    except OSError as error:
        raise UnreadableSlideError(
            f"{path.name}: the file cannot be read ({error.strerror}). Check its permissions."
        ) from error
    return _source_of_file(path, head, channels)


def _source_of_folder(path: Path, channels: tuple[int, ...] | None) -> Source:
    if not is_zarr(path):
        raise UnreadableSlideError(
            f"{path.name}: a folder that is no OME-Zarr. Pass the slide's file; of a DICOM "
            "series any one of its files, of MIRAX the .mrxs file beside the folder."
        )
    from saccade.tiling.sources.ome_zarr import OmeZarrSource  # zarr takes 0.3 s to import

    return OmeZarrSource(path, channels)


def _source_of_file(path: Path, head: bytes, channels: tuple[int, ...] | None) -> Source:
    if is_tiff(head) and channels is not None:
        return TiffSource(path, channels)
    if channels is not None:
        raise ValueError(f"channels can be chosen in TIFF and OME-Zarr; this is {described(head)}.")
    refusal = ""
    try:
        return open_direct(path)
    except openslide.OpenSlideUnsupportedFormatError:
        known = False
    except openslide.OpenSlideError as error:
        known, refusal = True, f" OpenSlide: {_without_path(error, path)}."
    _refuse_pointers(path, refusal)
    if is_tiff(head):
        return TiffSource(path)
    if is_picture(head) and not known:
        return open_image(path)
    raise UnreadableSlideError(
        f"{path.name}: no reader opens it: found {described(head)}.{refusal} Wanted is a slide "
        "that OpenSlide opens, a TIFF, an OME-Zarr, a PNG or a JPEG; check the path, or convert "
        "the file to one of these."
    )


def _without_path(error: openslide.OpenSlideError, path: Path) -> str:
    return " ".join(str(error).replace(str(path), path.name).split()).rstrip(".")


def _refuse_pointers(path: Path, refusal: str) -> None:
    words = _POINTERS.get(path.suffix.lower())
    if words is not None:
        found = words.format(stem=path.stem, name=path.name)
        raise UnreadableSlideError(f"{path.name}: {found}.{refusal}")
