"""Detectors by name: what settings and model files call them.

`faster_rcnn:NAME` is ours on a model of timm, `torchvision:NAME` one of torchvision's, and
`window:NAME` a classifier over windows, on a model of timm, to hold the others against.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from saccade.models.anchors import RATIOS
from saccade.models.detection import build_faster_rcnn
from saccade.models.detector import Detector
from saccade.models.encoders import timm_encoder
from saccade.models.region_proposals import Limits
from saccade.models.sliding_window import SlidingWindow
from saccade.models.torchvision_detectors import torchvision_detector
from saccade.models.trunk import Norm, timm_trunk, use_group_norms

SIDES_PX = (10.0, 16.0, 26.0, 42.0)
"""Of nuclei at 0.25 um/px, 5 of 100 being smaller and as many larger, roughly."""


def build_detector(
    name: str, *, classes: int, options: Mapping[str, Any] | None = None
) -> Detector:
    """A detector with fresh weights, drawn from torch's own randomness.

    Args:
        name: `faster_rcnn:NAME`, `torchvision:NAME` or `window:NAME`.
        classes: kinds of objects, background not among them.
        options: of `faster_rcnn`, `window` or `torchvision_detector`, whichever the name asks for.

    Raises:
        ValueError: if there is no detector of that name, it knows no such option, or no such value.
    """
    kind, _, of = name.partition(":")
    if kind not in BUILDERS or not of:
        known = ", ".join(f"{each}:NAME" for each in BUILDERS)
        raise ValueError(f"no detector {name!r}; there are: {known}.")
    build, known_options = BUILDERS[kind], options_of(name)
    if strange := sorted(set(options or {}) - set(known_options)):
        raise ValueError(
            f"{name} has no option {strange[0]!r}; it has: {', '.join(known_options)}."
        )
    if (norm := (options or {}).get("norm", "group")) not in ("batch", "group"):
        raise ValueError(f"norm must be batch or group, got {norm!r}.")
    return build(of, classes=classes, **options or {})


def options_of(name: str) -> tuple[str, ...]:
    """Names of the options of a detector."""
    parameters = inspect.signature(BUILDERS[name.partition(":")[0]]).parameters
    return tuple(each for each in parameters if each not in ("name", "classes"))


def faster_rcnn(
    name: str,
    *,
    classes: int,
    stride: int = 4,
    coarsest: int | None = 16,
    sides_px: Sequence[float] = SIDES_PX,
    ratios: Sequence[float] = RATIOS,
    hidden: int = 256,
    norm: Norm = "group",
    most: int = 1000,
) -> Detector:
    """Faster R-CNN on a model of timm.

    Args:
        name: of the model, as timm knows it.
        classes: kinds of objects.
        stride: pixels that a cell of its features stands for: as small as the smallest objects.
        coarsest: stride up to which coarser features are merged into these; None for none.
        sides_px: of square anchors, in pixels of the tile: about those of the objects.
        ratios: heights over widths of the anchors.
        hidden: width of the head and of the layer that proposes; merged features have half of it.
        norm: `group` puts group norms in place of batch norms, for few tiles a batch.
        most: regions of a tile that are looked at; several go to one object.
    """
    return build_faster_rcnn(
        timm_trunk(name, stride=stride, coarsest=coarsest, merged=hidden // 2, norm=norm),
        classes=classes,
        ratios=ratios,
        scales=[side / stride for side in sides_px],
        min_side_px=min(sides_px) / 4,
        hidden=hidden,
        proposals_hidden=hidden,
        limits=Limits(before=6 * most, after=most),
        training_limits=Limits(before=3000, after=1000),
    )


def window(
    name: str,
    *,
    classes: int,
    stride: int = 8,
    sides_px: Sequence[float] = SIDES_PX,
    norm: Norm = "group",
) -> Detector:
    """A classifier over windows, on a model of timm.

    Args:
        name: of the model, as timm knows it.
        classes: kinds of objects.
        stride: pixels from one window to the next.
        sides_px: of the windows.
        norm: `group` puts group norms in place of batch norms.
    """
    encoder = timm_encoder(name)
    if norm == "group":
        use_group_norms(encoder.trunk)
    return SlidingWindow(encoder, classes=classes, sides_px=sides_px, step_px=stride)


BUILDERS: dict[str, Callable[..., Detector]] = {
    "faster_rcnn": faster_rcnn,
    "torchvision": torchvision_detector,
    "window": window,
}
