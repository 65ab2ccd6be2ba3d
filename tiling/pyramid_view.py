"""Looking at a pyramid: one slide's thumbnails and tissue, at any scale it was built for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from saccade.tiling import jpeg_codec
from saccade.tiling.area import area_mean, nearest
from saccade.tiling.errors import PyramidError
from saccade.tiling.grid import CellGrid
from saccade.tiling.pyramid_levels import Codec, PyramidLevel, PyramidSettings
from saccade.tiling.slide import Slide
from saccade.tiling.tissue import TISSUE_VERSION, TissueSettings

PYRAMID_VERSION = 1
"""Raised whenever the same slide and settings would give other pixels or another layout."""

TISSUE_PATH = "labels/tissue"

_SAME_MPP = 1 + 1e-6
_MOST_ENLARGED = 4.0  # a slide coarser than that shows nothing that a view would look for

jpeg_codec.register()  # level 0 of a full pyramid may need it


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A whole slide at one scale.

    Attributes:
        pixels: uint8 (rows, cols, 3).
        tissue: float32 (rows, cols), how much of each pixel is tissue.
        mpp: micrometres per pixel.
        grid: where the pixels lie on level 0.

    Raises:
        ValueError: if the shapes differ.
    """

    pixels: NDArray[np.uint8]
    tissue: NDArray[np.float32]
    mpp: float
    grid: CellGrid

    def __post_init__(self) -> None:
        if not self.pixels.shape == (*self.tissue.shape, 3) == (*self.grid.shape, 3):
            raise ValueError(
                f"pixels {self.pixels.shape}, tissue {self.tissue.shape} and grid "
                f"{self.grid.shape} must agree."
            )


@dataclass(frozen=True, slots=True)
class Pyramid:
    """A pyramid on disk; holds facts only, so it travels to other processes freely.

    Attributes:
        path: the OME-Zarr folder.
        levels: finest first; each is half the one before.
        content_hash: of the slide it was made from.
        size_l0: (width, height) of the slide.
        mpp_l0: (x, y) micrometres per pixel of the slide.
        tissue_fraction: how much of the slide is tissue.
        recipe: settings and versions it was made with.
    """

    path: Path
    levels: tuple[PyramidLevel, ...]
    content_hash: str
    size_l0: tuple[int, int]
    mpp_l0: tuple[float, float]
    tissue_fraction: float
    recipe: Mapping[str, Any] = field(hash=False)

    @classmethod
    def open(cls, path: Path) -> Pyramid:
        """Open a pyramid that `build_pyramid` made.

        Raises:
            PyramidError: if there is none, or it is damaged.
        """
        facts = read_facts(path)
        try:
            return cls(
                path=path,
                levels=tuple(_open_level(path, number) for number in range(facts["levels"])),
                content_hash=facts["content_hash"],
                size_l0=(facts["size_l0"][0], facts["size_l0"][1]),
                mpp_l0=(facts["mpp_l0"][0], facts["mpp_l0"][1]),
                tissue_fraction=facts["tissue"]["fraction"],
                recipe=facts["recipe"],
            )
        except (OSError, KeyError, IndexError, TypeError, ValueError) as error:
            raise PyramidError(
                f"{path}: this pyramid is damaged ({error!r}). Delete it and build it again: "
                f"saccade pyramid SLIDE --out {path}"
            ) from error

    def matches(
        self,
        slide: Slide,
        *,
        finest_mpp: float = 4.0,
        smallest_px: int = 512,
        tissue: TissueSettings | None = None,
        full: bool = False,
        codec: Codec = "auto",
    ) -> bool:
        """Whether `build_pyramid` with these arguments would make the same again."""
        tissue = tissue or TissueSettings()
        settings = PyramidSettings(finest_mpp, smallest_px, tissue, full, codec)
        return (
            self.recipe == recipe_of(settings)
            and (self.size_l0, self.mpp_l0) == (slide.size_l0, slide.mpp)
            and self.content_hash == slide.content_hash  # last: it may read the whole file
        )

    def read(self, level: int) -> NDArray[np.uint8]:
        """Pixels of a level, (rows, cols, 3)."""
        return self._rows(level, 0, self.levels[level].shape[0])

    def tissue(self, level: int) -> NDArray[np.bool_]:
        """Tissue mask of a level, (rows, cols)."""
        return self._tissue_rows(level, 0, self.levels[level].shape[0]).astype(bool)

    def view(self, mpp: float) -> View:
        """Show the whole slide at exactly `mpp`, each pixel the mean of the area it covers.

        Pixels that reach beyond the slide show the mean of what is there. A slide that is itself
        coarser than `mpp` is enlarged: each pixel shows what its centre lies in.

        Raises:
            PyramidError: if `mpp` is finer than the pyramid though the slide is not as coarse, or
                if the slide would have to be enlarged more than 4 times.
            ValueError: if `mpp` is not positive and finite.
        """
        if not 0 < mpp < math.inf:
            raise ValueError(f"mpp must be positive, got {mpp}.")
        level = self._level_for(mpp)
        finer = self.levels[level]
        ratio = mpp / finer.mpp_xy[1], mpp / finer.mpp_xy[0]
        grid = CellGrid.covering(self.size_l0, (mpp / self.mpp_l0[0], mpp / self.mpp_l0[1]))
        if min(ratio) < 1 - 1e-6:
            return View(
                nearest(self.read(level), grid.shape, ratio),
                nearest(self.tissue(level).astype(np.float32), grid.shape, ratio),
                mpp,
                grid,
            )
        if max(ratio) < _SAME_MPP:
            pixels, tissue = self.read(level), self.tissue(level).astype(np.float32)
            return View(pixels, tissue, mpp, grid)
        mean, tissue = (
            area_mean(partial(read, level), finer.shape, grid.shape, ratio)
            for read in (self._rows, self._tissue_rows)
        )
        return View(np.rint(mean).astype(np.uint8), np.clip(tissue, 0, 1), mpp, grid)

    def tissue_share(self, side_um: float) -> NDArray[np.float32]:
        """How much of each square of that side is tissue, (rows, cols), by the finest level.

        Squares lie side by side from the slide's corner; of those that reach beyond the slide, it
        is how much of what is there.
        """
        finest = self.levels[0]
        ratio = side_um / finest.mpp_xy[1], side_um / finest.mpp_xy[0]
        cell_l0 = side_um / self.mpp_l0[0], side_um / self.mpp_l0[1]
        shape = CellGrid.covering(self.size_l0, cell_l0).shape
        if min(ratio) < 1:
            return nearest(self.tissue(0).astype(np.float32), shape, ratio)
        share = area_mean(partial(self._tissue_rows, 0), finest.shape, shape, ratio)
        return np.clip(share, 0, 1)

    def _level_for(self, mpp: float) -> int:
        """The level of that scale, else one of at most half its pixel size, as far as there is.

        Pixels only a little smaller than those wanted would blur: each mean would take in, in
        part, what lies outside its area.
        """
        if self.levels[0].mpp > mpp * _MOST_ENLARGED:
            raise PyramidError(
                f"{self.path}: a view at {mpp:g} um/px was asked for, but the finest there is has "
                f"{self.levels[0].mpp:g} um/px, and the slide {max(self.mpp_l0):g} um/px. Ask for "
                "a coarser view, or if the slide's own value is wrong, give the right one (--mpp)."
            )
        as_fine_as_the_slide = self.levels[0].mpp <= max(self.mpp_l0) * _SAME_MPP
        if self.levels[0].mpp > mpp * _SAME_MPP and not as_fine_as_the_slide:
            raise PyramidError(
                f"{self.path}: a view at {mpp:g} um/px was asked for, but the pyramid begins at "
                f"{self.levels[0].mpp:g} um/px. Ask for a coarser view, or build the pyramid with "
                f"finest_mpp={mpp:g}."
            )
        same = [
            i for i, level in enumerate(self.levels) if math.isclose(level.mpp, mpp, rel_tol=1e-6)
        ]
        finer = [i for i, level in enumerate(self.levels) if level.mpp <= mpp / 2 * _SAME_MPP]
        return (same or finer or [0])[-1]

    def _rows(self, level: int, first: int, last: int) -> NDArray[np.uint8]:
        pixels = np.asarray(_open_array(self.path, str(level))[:, first:last], np.uint8)
        return np.ascontiguousarray(np.moveaxis(pixels, 0, 2))

    def _tissue_rows(self, level: int, first: int, last: int) -> NDArray[np.uint8]:
        return np.asarray(_open_array(self.path, f"{TISSUE_PATH}/{level}")[first:last], np.uint8)


def recipe_of(settings: PyramidSettings) -> dict[str, Any]:
    """All that the pixels depend on besides the slide; equal recipes give equal pyramids."""
    wanted = asdict(settings)
    for name in ("finest_mpp",) if settings.full else ("full", "codec"):
        del wanted[name]  # without meaning, so no reason to build anything anew
    return {**wanted, "version": PYRAMID_VERSION, "tissue_version": TISSUE_VERSION}


def read_facts(path: Path) -> dict[str, Any]:
    """What a pyramid says about itself.

    Raises:
        PyramidError: if `path` is no pyramid made by Saccade.
    """
    try:
        document = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        facts = document["attributes"]["saccade"]
        if facts["kind"] == "pyramid":
            return dict(facts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PyramidError(_no_pyramid(path)) from error
    raise PyramidError(_no_pyramid(path))


def _no_pyramid(path: Path) -> str:
    return (
        f"{path}: a pyramid made by Saccade was wanted, but there is none. "
        f"Make it: saccade pyramid SLIDE --out {path}"
    )


def _open_level(path: Path, number: int) -> PyramidLevel:
    """Shape and mpp as the OME metadata have them."""
    group = zarr.open_group(path, mode="r")
    array = _open_array(path, str(number))
    ome: Any = group.attrs["ome"]
    dataset = ome["multiscales"][0]["datasets"][number]
    rows, cols = array.shape[1:]
    if _open_array(path, f"{TISSUE_PATH}/{number}").shape != (rows, cols):
        raise ValueError(f"tissue of level {number} differs in shape")
    y, x = dataset["coordinateTransformations"][0]["scale"][-2:]
    return PyramidLevel((rows, cols), (x, y))


def _open_array(path: Path, name: str) -> zarr.Array[Any]:
    array: zarr.Array[Any] = zarr.open_array(path / name, mode="r")
    return array
