"""Micrometres per pixel and magnification, as TIFF tags, OME-XML and ImageJ record them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from tifffile import TiffFile, TiffPage

from saccade.tiling.units import micrometres, recorded_mpp

_TAG_UNITS = {2: "inch", 3: "cm"}  # ResolutionUnit; 1 is "no absolute unit"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a file says about its scale; None where it says nothing."""

    mpp: tuple[float, float] | None
    objective_power: float | None = None
    bits: int | None = None


def recorded_scale(tif: TiffFile, key: TiffPage, index: int) -> Recorded:
    """Ask OME-XML first, then ImageJ, then the resolution tags (with a unit of length)."""
    if tif.is_ome and tif.ome_metadata is not None:
        ome = _of_ome(tif.ome_metadata, index)
        return Recorded(ome.mpp or _of_tags(key), ome.objective_power, ome.bits)
    unit = (tif.imagej_metadata or {}).get("unit") if tif.is_imagej else None
    if isinstance(unit, str):
        return Recorded(_of_resolution(key, unit.replace("\\u00B5", "\u00b5")))
    return Recorded(_of_tags(key))


def _of_tags(key: TiffPage) -> tuple[float, float] | None:
    unit = key.tags.valueof(296, 2)  # the standard's default is inch
    return _of_resolution(key, _TAG_UNITS.get(int(unit)))


def _of_resolution(key: TiffPage, unit: str | None) -> tuple[float, float] | None:
    """Tags hold pixels per unit, as fractions; 0/1000 is how Bio-Formats writes "unknown"."""
    per_unit = key.tags.valueof(282), key.tags.valueof(283)
    if unit is None or any(value is None or 0 in value for value in per_unit):
        return None
    (x, per_x), (y, per_y) = per_unit
    return recorded_mpp(micrometres(per_x / x, unit), micrometres(per_y / y, unit))


def _of_ome(xml: str, index: int) -> Recorded:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return Recorded(None)
    pixels = list(_named(root, "Pixels"))
    if index >= len(pixels):
        return Recorded(None)
    facts = pixels[index].attrib
    bits = facts.get("SignificantBits", "")
    return Recorded(
        recorded_mpp(_ome_length(facts, "X"), _ome_length(facts, "Y")),
        _objective_power(root),
        int(bits) if bits.isdigit() else None,
    )


def _named(root: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (element for element in root.iter() if element.tag.rpartition("}")[2] == name)


def _ome_length(facts: dict[str, str], axis: str) -> float | None:
    """PhysicalSize in micrometres, which is also the unit where none is given."""
    try:
        length = float(facts[f"PhysicalSize{axis}"])
    except (KeyError, ValueError):
        return None
    return micrometres(length, facts.get(f"PhysicalSize{axis}Unit", "\u00b5m"))


def _objective_power(root: ElementTree.Element) -> float | None:
    powers = {element.get("NominalMagnification") for element in _named(root, "Objective")}
    try:
        (power,) = powers  # several objectives: which of them it was is not worth the search
        return float(power or "") or None
    except ValueError:
        return None
