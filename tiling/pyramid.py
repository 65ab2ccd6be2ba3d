"""A pyramid: multi-resolution thumbnails of one slide and its tissue, as OME-Zarr on disk.

`build_pyramid` is the only place that looks at the whole slide; whatever wants to see the whole
slide later looks at the pyramid. Level 0 of the slide is never copied: tiles are read from the
original file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import zarr

from saccade.tiling import ngff
from saccade.tiling.errors import PyramidError
from saccade.tiling.pyramid_levels import (
    PyramidLevel,
    PyramidSettings,
    count_blocks,
    create_array,
    find_tissue,
    plan_levels,
    tissue_level,
    write_finest,
    write_half,
    write_labels,
)
from saccade.tiling.pyramid_view import Pyramid, View, read_facts, recipe_of
from saccade.tiling.slide import Slide
from saccade.tiling.tissue import TissueSettings, is_dark_field
from saccade.tiling.whole_folder import whole_folder

__all__ = ["Pyramid", "PyramidLevel", "PyramidSettings", "View", "build_pyramid"]


def build_pyramid(
    slide: Slide,
    out: Path,
    *,
    finest_mpp: float = 4.0,
    smallest_px: int = 512,
    tissue: TissueSettings | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Pyramid:
    """Make the pyramid of a slide: thumbnails from `finest_mpp` on, and where its tissue is.

    The slide's own coarse levels are read where they serve. A slide without any is streamed in
    blocks: memory stays below about 40 MB a worker plus 200 MB, however large the slide. The
    result does not depend on `workers`. It appears at `out` whole or not at all.

    Args:
        slide: with known mpp.
        out: the OME-Zarr folder to make; an older pyramid there is replaced.
        finest_mpp: micrometres per pixel of the finest level; the slide's own mpp if coarser.
        smallest_px: levels are added until the longer side of the last has at most this length.
        tissue: what counts as tissue; the defaults if None.
        workers: threads that read the slide.
        progress: called with (steps done, steps in all), from the calling thread.

    Raises:
        MissingMppError: if the slide's mpp is not known.
        UnreadableSlideError: if its pixels cannot be decoded.
        PyramidError: if something that is no pyramid lies at `out`.
        ValueError: if a setting is impossible.
    """
    settings = PyramidSettings(finest_mpp, smallest_px, tissue or TissueSettings())
    levels = plan_levels(slide, settings)
    out = Path(out).resolve()
    _refuse_foreign(out)
    tick = _counter(count_blocks(slide, levels[0]) + len(levels), progress)
    with whole_folder(out) as folder:
        images = [
            create_array(zarr.open_group(folder), i, (3, *level.shape), ngff.IMAGE_AXES)
            for i, level in enumerate(levels)
        ]
        write_finest(slide, images[0], levels[0], workers=workers, tick=tick)
        for finer, coarser in pairwise(images):
            write_half(finer, coarser)
            tick()
        facts = _write_tissue(folder, slide, levels, images, settings)
        _write_attributes(folder, slide, levels, settings, facts)
        tick()
    return Pyramid.open(out)


def _write_tissue(
    folder: Path,
    slide: Slide,
    levels: tuple[PyramidLevel, ...],
    images: list[zarr.Array[Any]],
    settings: PyramidSettings,
) -> dict[str, Any]:
    """Write `labels/tissue` with as many levels as the image; return what was found."""
    at = tissue_level(levels)
    mask, rgb = find_tissue(images[at], levels[at].mpp, settings.tissue)
    labels = zarr.create_group(
        folder / "labels", attributes=dict(ngff.labels_attributes(["tissue"]))
    )
    attributes = ngff.label_attributes(
        "tissue", [level.mpp for level in levels], slide.mpp, rgba=(0, 255, 0, 96)
    )
    group = labels.create_group("tissue", attributes=dict(attributes))
    arrays = [create_array(group, i, lev.shape, ngff.LABEL_AXES) for i, lev in enumerate(levels)]
    write_labels(arrays, mask, at)
    return {
        "fraction": float(mask.mean()),
        "area_mm2": float(mask.sum() * (levels[at].mpp / 1000) ** 2),
        "dark_field": is_dark_field(rgb),
        "level": at,
    }


def _write_attributes(
    folder: Path,
    slide: Slide,
    levels: tuple[PyramidLevel, ...],
    settings: PyramidSettings,
    tissue: Mapping[str, Any],
) -> None:
    """Say what the image is (OME), and what it was made from and how (Saccade)."""
    made_from: dict[str, Any] = {
        "kind": "pyramid",
        "levels": len(levels),
        "content_hash": slide.content_hash,
        "size_l0": list(slide.size_l0),
        "mpp_l0": list(slide.mpp),
        "background": list(slide.info.background),
        "tissue": dict(tissue),
        "recipe": recipe_of(settings),
        "code_version": version("saccade"),
    }
    image = ngff.image_attributes(slide.name, [level.mpp for level in levels], slide.mpp)
    zarr.open_group(folder).attrs.update({"ome": image["ome"], "saccade": made_from})


def _counter(total: int, progress: Callable[[int, int], None] | None) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return tick


def _refuse_foreign(out: Path) -> None:
    """Never replace what somebody else made."""
    empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not empty:
        try:
            read_facts(out)
        except PyramidError as error:
            raise PyramidError(
                f"{out}: something that is not a pyramid made by Saccade lies here, and will not "
                "be overwritten. Choose another --out, or remove it."
            ) from error
