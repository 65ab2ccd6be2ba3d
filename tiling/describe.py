"""The facts of a slide as plain values, for JSON."""

from __future__ import annotations

from saccade.tiling.slide import Slide

_LOOK_PX = 8


def describe(slide: Slide) -> dict[str, object]:
    """Say what a slide is; None stands for what its file does not record.

    A few pixels of every level are read: a file may open although its pixels are damaged.

    Raises:
        UnreadableSlideError: if these pixels cannot be decoded.
    """
    for level in range(len(slide.levels)):
        slide.peek(level, _LOOK_PX)
    mpp_x, mpp_y = slide.recorded_mpp or (None, None)
    width_l0, height_l0 = slide.size_l0
    return {
        "width_l0": width_l0,
        "height_l0": height_l0,
        "mpp_x": mpp_x,
        "mpp_y": mpp_y,
        "levels": [
            {"width": level.width, "height": level.height, "downsample": level.downsample}
            for level in slide.levels
        ],
        "vendor": slide.info.vendor,
        "objective_power": slide.info.objective_power,
        "bounds": _bounds(slide.info.bounds_l0),
        "reader": slide.info.reader,
        "content_hash": slide.content_hash,
    }


def _bounds(bounds_l0: tuple[int, int, int, int] | None) -> dict[str, int] | None:
    if bounds_l0 is None:
        return None
    return dict(zip(("x", "y", "width", "height"), bounds_l0, strict=True))
