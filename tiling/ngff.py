"""Metadata of OME-Zarr 0.5 images and labels, as plain values.

Source: the NGFF specification 0.5, https://ngff.openmicroscopy.org/0.5/: axes, one scale and one
translation per level, everything under the attribute `ome`. Translations place the centre of the
first pixel, with the centre of the slide's first level-0 pixel at the origin: a pixel k times as
large as another begins at the same edge, so its centre lies (k - 1) / 2 of the other further in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

VERSION = "0.5"
IMAGE_AXES = ("c", "y", "x")
LABEL_AXES = ("y", "x")

Attributes = dict[str, Any]


def image_attributes(
    name: str, mpps: Sequence[tuple[float, float]], mpp_l0: tuple[float, float]
) -> Mapping[str, Attributes]:
    """Attributes of an RGB image whose levels lie at "0", "1", ...

    Args:
        name: for people.
        mpps: (x, y) micrometres per pixel of each level, finest first.
        mpp_l0: (x, y) micrometres per pixel of the slide.
    """
    window = {"min": 0, "max": 255, "start": 0, "end": 255}
    colours = (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))
    channels = [
        {"label": label, "color": colour, "active": True, "window": window}
        for label, colour in colours
    ]
    multiscale = _multiscale(name, IMAGE_AXES, mpps, mpp_l0)
    multiscale["type"] = "mean"
    omero = {"channels": channels, "rdefs": {"model": "color"}}
    return {"ome": {"version": VERSION, "multiscales": [multiscale], "omero": omero}}


def label_attributes(
    name: str,
    mpps: Sequence[tuple[float, float]],
    mpp_l0: tuple[float, float],
    *,
    rgba: tuple[int, ...],
    corner_um: tuple[float, float] = (0.0, 0.0),
) -> Mapping[str, Attributes]:
    """Attributes of a label image, 1 inside and 0 outside, of the image two folders up.

    The specification demands as many levels as the image has.
    """
    label = {
        "version": VERSION,
        "colors": [{"label-value": 1, "rgba": list(rgba)}],
        "properties": [{"label-value": 1, "name": name}],
        "source": {"image": "../../"},
    }
    multiscale = _multiscale(name, LABEL_AXES, mpps, mpp_l0, corner_um)
    return {"ome": {"version": VERSION, "multiscales": [multiscale], "image-label": label}}


def field_attributes(
    name: str,
    channels: Sequence[str],
    mpp: tuple[float, float],
    mpp_l0: tuple[float, float],
    corner_um: tuple[float, float],
) -> Mapping[str, Attributes]:
    """Attributes of an image of numbers, at one scale, that need not begin where the slide does.

    Args:
        name: for people.
        channels: what each shows.
        mpp: (x, y) micrometres per pixel.
        mpp_l0: (x, y) micrometres per pixel of the slide.
        corner_um: (x, y) of its upper-left corner, from that of the slide.
    """
    window = {"min": 0, "max": 1, "start": 0, "end": 1}
    shown = [
        {"label": each, "color": "FFFFFF", "active": True, "window": window} for each in channels
    ]
    multiscale = _multiscale(name, IMAGE_AXES, [mpp], mpp_l0, corner_um)
    return {"ome": {"version": VERSION, "multiscales": [multiscale], "omero": {"channels": shown}}}


def labels_attributes(names: Sequence[str]) -> Mapping[str, Attributes]:
    """Attributes of the group that holds label images."""
    return {"ome": {"version": VERSION, "labels": list(names)}}


def _multiscale(
    name: str,
    axes: Sequence[str],
    mpps: Sequence[tuple[float, float]],
    mpp_l0: tuple[float, float],
    corner_um: tuple[float, float] = (0.0, 0.0),
) -> Attributes:
    return {
        "name": name,
        "axes": [_axis(axis) for axis in axes],
        "datasets": [
            {
                "path": str(level),
                "coordinateTransformations": _transformations(axes, mpp, mpp_l0, corner_um),
            }
            for level, mpp in enumerate(mpps)
        ],
    }


def _axis(name: str) -> Attributes:
    if name == "c":
        return {"name": name, "type": "channel"}
    return {"name": name, "type": "space", "unit": "micrometer"}


def _transformations(
    axes: Sequence[str],
    mpp: tuple[float, float],
    mpp_l0: tuple[float, float],
    corner_um: tuple[float, float],
) -> list[Attributes]:
    scale = {"c": 1.0, "y": mpp[1], "x": mpp[0]}
    x, y = (
        corner + (um - um_l0) / 2 for corner, um, um_l0 in zip(corner_um, mpp, mpp_l0, strict=True)
    )
    shift = {"c": 0.0, "y": y, "x": x}
    return [
        {"type": "scale", "scale": [scale[axis] for axis in axes]},
        {"type": "translation", "translation": [shift[axis] for axis in axes]},
    ]
