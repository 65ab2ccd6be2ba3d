"""A slide's pyramid: the one that lies there if it is of this slide, else a new one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.config import PyramidConfig
from saccade.pipeline.lock import exclusive
from saccade.tiling import Slide, open_slide
from saccade.tiling.crew import Crew
from saccade.tiling.pyramid import Codec, build_pyramid
from saccade.tiling.pyramid_view import Pyramid
from saccade.tiling.remote import Place

Progress = Callable[[int, int], None]

_PAGE_PX = 2048  # longest side of a thumbnail in a picture


def make_thumbnails(
    path: Place,
    out: Path,
    config: PyramidConfig,
    *,
    mpp: float | None = None,
    workers: int = 2,
    crew: Crew | None = None,
    progress: Progress | None = None,
) -> tuple[Path, bool]:
    """Make `out/pyramid.zarr` of the slide at `path`, unless it lies there already.

    By `workers` threads of this process, or by the processes of `crew`.

    Returns:
        Where it is, and whether it had to be built.

    Raises:
        SlideError: if the slide cannot be read or has no mpp, or something else lies there.
    """
    target = out / "pyramid.zarr"
    with open_slide(path, mpp=mpp) as slide, exclusive(out, "pyramid"):
        if _existing(slide, target, config) is not None:
            return target, False
        build_pyramid(
            slide,
            target,
            finest_mpp=config.finest_mpp,
            workers=workers,
            crew=crew,
            progress=progress,
        )
        return target, True


def make_full(
    path: Place,
    out: Path,
    *,
    codec: Codec = "auto",
    mpp: float | None = None,
    workers: int = 2,
    crew: Crew | None = None,
    progress: Progress | None = None,
) -> tuple[Path, bool]:
    """Make `out/full.zarr`, the whole slide as OME-Zarr, unless it lies there already.

    It has a name of its own: what predicts goes on from the thumbnails, and neither ever replaces
    the other.

    Returns:
        Where it is, and whether it had to be built.

    Raises:
        SlideError: if the slide cannot be read or has no mpp, something else lies there, or there
            are no JPEG tiles to be copied.
    """
    target = out / "full.zarr"
    with open_slide(path, mpp=mpp) as slide, exclusive(out, "full"):
        if target.exists() and Pyramid.open(target).matches(slide, full=True, codec=codec):
            return target, False
        build_pyramid(
            slide,
            target,
            full=True,
            codec=codec,
            workers=workers,
            crew=crew,
            progress=progress,
        )
        return target, True


def ensure_pyramid(
    slide: Slide,
    path: Path,
    config: PyramidConfig,
    *,
    crew: Crew | None = None,
    progress: Progress | None = None,
) -> Pyramid:
    """Return the pyramid at `path`, building it if it is missing or of another slide or scale.

    If another process builds it, that is waited for.

    Raises:
        PyramidError: if something that is no pyramid lies at `path`.
        MissingMppError: if the slide's mpp is not known.
    """
    existing = _existing(slide, path, config)
    if existing is not None:
        return existing
    with exclusive(path.parent, "pyramid"):
        existing = _existing(slide, path, config)
        if existing is not None:
            return existing
        return build_pyramid(
            slide, path, finest_mpp=config.finest_mpp, crew=crew, progress=progress
        )


def read_thumbnail(pyramid: Pyramid) -> NDArray[np.uint8]:
    """The whole slide as finely as a page can show it, uint8 (rows, cols, 3)."""
    fits = (i for i, level in enumerate(pyramid.levels) if max(level.shape) <= _PAGE_PX)
    return pyramid.read(next(fits, len(pyramid.levels) - 1))


def _existing(slide: Slide, path: Path, config: PyramidConfig) -> Pyramid | None:
    """The pyramid at `path` if it is of this slide, at this scale, by this code."""
    if not path.exists():
        return None
    pyramid = Pyramid.open(path)
    return pyramid if pyramid.matches(slide, finest_mpp=config.finest_mpp) else None
