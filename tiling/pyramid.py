"""A pyramid: multi-resolution thumbnails of one slide and its tissue, as OME-Zarr on disk.

`build_pyramid` is the only place that looks at the whole slide; whatever wants to see the whole
slide later looks at the pyramid. Tiles are read from the original file; its level 0 is copied only
for those who ask for a full pyramid, to have the slide as OME-Zarr.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import zarr

from saccade.tiling import ngff
from saccade.tiling.crew import Crew
from saccade.tiling.errors import PyramidError
from saccade.tiling.pyramid_blocks import blocks_of
from saccade.tiling.pyramid_levels import (
    Codec,
    Cut,
    PyramidLevel,
    PyramidSettings,
    create_image,
    create_mask,
    plan_levels,
    tissue_level,
)
from saccade.tiling.pyramid_parcels import parcel_windows, run_parcels
from saccade.tiling.pyramid_pass import Climber, run_pass, windows_in_z_order
from saccade.tiling.pyramid_tissue import find_tissue, pixels_of, write_masks
from saccade.tiling.pyramid_view import Pyramid, View, read_facts, recipe_of
from saccade.tiling.shards import ShardedArray
from saccade.tiling.slide import Slide
from saccade.tiling.tissue import TissueSettings, is_dark_field
from saccade.tiling.whole_folder import whole_folder

__all__ = ["Codec", "Pyramid", "PyramidLevel", "PyramidSettings", "View", "build_pyramid"]


def build_pyramid(
    slide: Slide,
    out: Path,
    *,
    finest_mpp: float = 4.0,
    smallest_px: int = 512,
    tissue: TissueSettings | None = None,
    full: bool = False,
    codec: Codec = "auto",
    workers: int = 2,
    crew: Crew | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Pyramid:
    """Make the pyramid of a slide: thumbnails from `finest_mpp` on, and where its tissue is.

    The slide is read once, block by block, at the coarsest of its own levels that serves; all
    further levels are made of it in memory. Memory stays below about 60 MB a worker plus 150 MB,
    however large the slide. The result does not depend on `workers` or `crew`. It appears at `out`
    whole or not at all.

    A full pyramid is the slide as OME-Zarr: its level 0 is the slide's, the others are 2, 4, 8 ...
    times as coarse. JPEG tiles are copied as they are, and level 1 is what the decoder makes of
    them at half the size, which differs from means by about one grey level (50 dB); all else is
    exact 2 x 2 means. zarr-python reads copied tiles with imagecodecs; tensorstore and zarrs have
    no codec for them and need `codec="zstd"`, at several times the size.

    Args:
        slide: with known mpp.
        out: the OME-Zarr folder to make; an older pyramid there is replaced.
        finest_mpp: micrometres per pixel of the finest level; the slide's own mpp if coarser.
            Without meaning with `full`.
        smallest_px: levels are added until the longer side of the last has at most this length.
        tissue: what counts as tissue; the defaults if None.
        full: begin with the slide's level 0 itself.
        codec: of level 0 of a full pyramid: "jpeg" copies the slide's JPEG tiles, "zstd" stores
            pixels, "auto" copies where there are tiles to be copied.
        workers: threads that read the slide.
        crew: other processes that read it instead, each with the slide's file and `out` under
            the same paths.
        progress: called with (steps done, steps in all), from the calling thread.

    Raises:
        MissingMppError: if the slide's mpp is not known.
        UnreadableSlideError: if its pixels cannot be decoded.
        PyramidError: if something that is no pyramid lies at `out`, or there are no JPEG tiles
            to be copied.
        ValueError: if a setting is impossible.
    """
    settings = PyramidSettings(finest_mpp, smallest_px, tissue or TissueSettings(), full, codec)
    levels = plan_levels(slide, settings)
    out = Path(out).resolve()
    _refuse_foreign(out)
    blocks, cut = blocks_of(slide, levels, settings)
    windows = windows_in_z_order(blocks.shape, blocks.block)
    if crew is not None:
        windows = parcel_windows(blocks, cut)
    tick = _counter(len(windows) + 1, progress)
    with whole_folder(out) as folder:
        group, shapes = zarr.open_group(folder), [level.shape for level in levels]
        images = [create_image(group, i, shape, cut) for i, shape in enumerate(shapes)]
        arrays = [ShardedArray(image) for image in images]
        climber = Climber(shapes, arrays, cut.codec)
        if crew is None:
            run_pass(blocks, windows, climber, workers=workers, tick=tick)
        else:
            run_parcels(slide, settings, folder, climber, windows, crew, tick)
        facts = _write_tissue(folder, slide, levels, images, cut, settings)
        _write_attributes(folder, slide, levels, cut, settings, facts)
        tick()
    return Pyramid.open(out)


def _write_tissue(
    folder: Path,
    slide: Slide,
    levels: tuple[PyramidLevel, ...],
    images: list[zarr.Array[Any]],
    cut: Cut,
    settings: PyramidSettings,
) -> dict[str, Any]:
    """Write `labels/tissue` with as many levels as the image; return what was found."""
    at = tissue_level(levels)
    rgb = pixels_of(images[at])
    mask = find_tissue(rgb, levels[at], settings.tissue)
    labels = zarr.create_group(
        folder / "labels", attributes=dict(ngff.labels_attributes(["tissue"]))
    )
    attributes = ngff.label_attributes(
        "tissue", [level.mpp_xy for level in levels], slide.mpp, rgba=(0, 255, 0, 96)
    )
    group = labels.create_group("tissue", attributes=dict(attributes))
    arrays = [create_mask(group, i, level.shape, cut) for i, level in enumerate(levels)]
    write_masks([ShardedArray(array) for array in arrays], mask, at)
    return {
        "fraction": float(mask.mean()),
        "area_mm2": float(mask.sum() * math.prod(um / 1000 for um in levels[at].mpp_xy)),
        "dark_field": is_dark_field(rgb),
        "level": at,
    }


def _write_attributes(
    folder: Path,
    slide: Slide,
    levels: tuple[PyramidLevel, ...],
    cut: Cut,
    settings: PyramidSettings,
    tissue: Mapping[str, Any],
) -> None:
    """Say what the image is (OME), and what it was made from and how (Saccade)."""
    made_from: dict[str, Any] = {
        "kind": "pyramid",
        "levels": len(levels),
        "level_0": {
            "is": "slide" if settings.full else "thumbnail",
            "codec": "zstd" if cut.jpeg_tile is None else "jpeg",
        },
        "content_hash": slide.content_hash,
        "size_l0": list(slide.size_l0),
        "mpp_l0": list(slide.mpp),
        "background": list(slide.info.background),
        "tissue": dict(tissue),
        "recipe": recipe_of(settings),
        "code_version": version("saccade"),
    }
    image = ngff.image_attributes(slide.name, [level.mpp_xy for level in levels], slide.mpp)
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
