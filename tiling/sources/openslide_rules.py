"""What OpenSlide says of an Aperio or plain tiled TIFF, worked out from the TIFF's own index.

OpenSlide opens files, not addresses. Of a remote slide these rules give the same levels, scale,
magnification and associated images; the formats whose rules are long are refused by name.
Source: OpenSlide's format descriptions, https://openslide.org/formats/aperio/ and /generic-tiff/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffPage

from saccade.tiling.errors import UnreadableSlideError
from saccade.tiling.units import recorded_mpp

APERIO = "aperio"
_UNITS_UM = {2: 25400.0, 3: 10000.0}  # of ResolutionUnit: inch, cm
_REDUCED = 1  # bit of NewSubfileType: a smaller copy of another image of the file
_APERIO_KINDS = {1: "label", 9: "macro"}  # by NewSubfileType
# Tiles that overlap, lie on a larger canvas or are one JPEG a level: by what they are known.
_ONLY_OPENSLIDE: dict[str, Callable[[TiffPage], bool]] = {
    "a Hamamatsu NDPI": lambda page: bool(page.is_ndpi),
    "a Leica SCN": lambda page: bool(page.is_scn),
    "a Ventana BIF": lambda page: bool(page.is_bif) or "<iScan" in _xmp(page),
    "a Philips TIFF": lambda page: bool(page.is_philips),
    "a Trestle TIFF": lambda page: page.software.startswith("MedScan"),
}


@dataclass(frozen=True)
class Images:
    """The images of a file by what they are for.

    Attributes:
        vendor: as OpenSlide calls it.
        levels: finest first for generic TIFF, in the order of the file for Aperio.
        associated: label, macro and thumbnail by name.
        mpp: (x, y) micrometres per pixel of level 0, from Aperio's description or the tags.
        objective_power: magnification that the description records.
        bounds_l0: (x, y, width, height) around what is stored, where tiles are left out.
    """

    vendor: str
    levels: tuple[TiffPage, ...]
    associated: Mapping[str, TiffPage] = field(default_factory=dict)
    mpp: tuple[float, float] | None = None
    objective_power: float | None = None
    bounds_l0: tuple[int, int, int, int] | None = None


def images_of(tif: TiffFile) -> Images | None:
    """Sort the images of a file that OpenSlide would open; None if it is none of those.

    Raises:
        UnreadableSlideError: if it is of a format that only OpenSlide reads.
    """
    first = tif.pages.first
    for name, is_it in _ONLY_OPENSLIDE.items():
        if is_it(first):
            raise UnreadableSlideError(
                f"{tif.filename}: found {name}, which OpenSlide reads, but not from a server. "
                "Copy the file here first."
            )
    if tif.is_ome or not first.is_tiled:
        return None
    if first.description.startswith("Aperio"):
        return _aperio([page for page in tif.pages if isinstance(page, TiffPage)])
    return _generic(tif) if _is_plain(first) else None


def _aperio(pages: list[TiffPage]) -> Images:
    facts = _facts(pages[0].description)
    mpp = _number(facts.get("MPP"))
    small = [(i, page) for i, page in enumerate(pages) if not page.is_tiled]
    names = ["thumbnail" if i == 1 else _APERIO_KINDS.get(page.subfiletype) for i, page in small]
    return Images(
        APERIO,
        tuple(page for page in pages if page.is_tiled),
        {name: page for name, (_, page) in zip(names, small, strict=True) if name},
        recorded_mpp(mpp, mpp),
        _number(facts.get("AppMag")),
    )


def _facts(description: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in description.split("|")[1:])
    return {key.strip(): value.strip() for key, _, value in pairs}


def _number(text: str | None) -> float | None:
    """A positive number; some scanners write a decimal comma."""
    found = re.fullmatch(r"\d*[.,]?\d+(?:[eE][+-]?\d+)?", text or "")
    return float(found[0].replace(",", ".")) or None if found else None


def _generic(tif: TiffFile) -> Images:
    later = [
        page
        for page in tif.pages[1:]
        if isinstance(page, TiffPage) and page.is_tiled and page.subfiletype & _REDUCED
    ]
    levels = sorted([tif.pages.first, *later], key=lambda page: -page.imagewidth)
    first = tif.pages.first
    return Images(
        "generic-tiff", tuple(levels), mpp=_tagged_mpp(first), bounds_l0=_stored_area(first)
    )


def _stored_area(page: TiffPage) -> tuple[int, int, int, int] | None:
    """(x, y, width, height) around the tiles that are stored; None if all are, or none is."""
    rows, cols = stored_tiles(page).nonzero()
    if len(rows) == len(page.databytecounts) or not len(rows):
        return None
    left, top = int(cols.min()) * page.tilewidth, int(rows.min()) * page.tilelength
    right = min((int(cols.max()) + 1) * page.tilewidth, page.imagewidth)
    bottom = min((int(rows.max()) + 1) * page.tilelength, page.imagelength)
    return left, top, right - left, bottom - top


def stored_tiles(page: TiffPage) -> NDArray[np.bool_]:
    """Which tiles of an image a file has, (rows, cols); sparse files leave out what is empty."""
    across = -(-page.imagewidth // page.tilewidth)
    down = -(-page.imagelength // page.tilelength)
    stored = np.array(page.databytecounts[: down * across]) > 0
    return stored.reshape(down, across)


def _tagged_mpp(page: TiffPage) -> tuple[float, float] | None:
    """From the resolution tags, in OpenSlide's order of dividing: the last digit is the same."""
    unit_um = _UNITS_UM.get(int(page.tags.valueof(296, 2)))
    per_unit = page.tags.valueof(282), page.tags.valueof(283)
    if unit_um is None or any(value is None or 0 in value for value in per_unit):
        return None
    (x, per_x), (y, per_y) = per_unit
    return recorded_mpp(unit_um / (x / per_x), unit_um / (y / per_y))


def _is_plain(page: TiffPage) -> bool:
    """8-bit grey or RGB; what OpenSlide makes of anything else is a matter of its own."""
    return page.dtype == np.uint8 and page.photometric in (1, 2, 6)


def _xmp(page: TiffPage) -> str:
    xmp = page.tags.valueof(700)
    return xmp.decode("utf-8", "ignore") if isinstance(xmp, bytes) else ""
