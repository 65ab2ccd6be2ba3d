"""Everything that OpenSlide opens: the scanners' own formats, DICOM, pyramidal TIFF."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide
from PIL import Image

from saccade.tiling.counting import ReadCount, Tally
from saccade.tiling.errors import UnreadableSlideError
from saccade.tiling.source import RGB, Level, SlideInfo, Source
from saccade.tiling.units import recorded_mpp

_SIDES = ("width", "height")


class OpenSlideSource(Source):
    """Reads a file through OpenSlide.

    Tiles are read once each, in places far from one another: OpenSlide's cache of decoded tiles
    would cost more than it saves, and is off.

    Raises:
        openslide.OpenSlideError: if OpenSlide refuses the file.
    """

    def __init__(self, path: Path) -> None:
        self._name, self._path = path.name, path
        self._slide = _opened(path)
        self.info = _info(self._slide)
        self._tile_sizes = [
            _tile_size(self._slide, level) for level in range(len(self.info.levels))
        ]
        self._tally = Tally()

    def reopen(self) -> None:
        """Open the file anew: after an error OpenSlide refuses whatever it is asked for."""
        self._slide.close()
        self._slide = _opened(self._path)

    def pitch_px(self, level: int) -> float:
        """One level-0 pixel: that is how OpenSlide is told where to begin."""
        return 1 / self.info.levels[level].downsample

    def tile_px(self, level: int) -> tuple[int, int]:
        """What OpenSlide says of the level."""
        return self._tile_sizes[level]

    def read_level(self, level: int, x_px: float, y_px: float, size_px: tuple[int, int]) -> RGB:
        """Read with `read_region`; unscanned pixels get the background colour."""
        downsample = self.info.levels[level].downsample
        corner_l0 = round(x_px * downsample), round(y_px * downsample)
        try:
            with self._tally.timed(*self._tiles_under(level, x_px, y_px, size_px)):
                region = self._slide.read_region(corner_l0, level, size_px)
        except openslide.OpenSlideError as error:
            raise UnreadableSlideError(
                f"{self._name}: the pixels at {corner_l0} of level {level} cannot be decoded "
                f"({error}). The file is damaged: copy it again from where it came."
            ) from error
        return _over(region, self.info.background)

    def _tiles_under(
        self, level: int, x_px: float, y_px: float, size_px: tuple[int, int]
    ) -> tuple[int, int]:
        """(tiles, pixels in them) under a rectangle, as far as it lies on the level."""
        tile, shape = self._tile_sizes[level], self.info.levels[level]
        across = _touched(x_px, size_px[0], tile[0], shape.width)
        down = _touched(y_px, size_px[1], tile[1], shape.height)
        return across * down, across * down * tile[0] * tile[1]

    def counts(self) -> ReadCount:
        """Tiles under what was read, and the time it took; the bytes are not known."""
        return self._tally.count

    def associated_images(self) -> Mapping[str, RGB]:
        """Label, macro and thumbnail images, as far as they can be decoded."""
        try:
            return {
                name: _over(image, self.info.background)
                for name, image in self._slide.associated_images.items()
            }
        except openslide.OpenSlideError as error:
            raise UnreadableSlideError(
                f"{self._name}: an associated image cannot be decoded ({error})."
            ) from error

    def close(self) -> None:
        """Release the file."""
        self._slide.close()


def _opened(path: Path) -> openslide.OpenSlide:
    slide = openslide.OpenSlide(path)
    slide.set_cache(openslide.OpenSlideCache(0))
    return slide


def _tile_size(slide: openslide.OpenSlide, level: int) -> tuple[int, int]:
    """(width, height) of a level's tiles; of the level where it is not told."""
    whole = slide.level_dimensions[level]
    told = [slide.properties.get(f"openslide.level[{level}].tile-{side}") for side in _SIDES]
    width, height = (int(text or side) for text, side in zip(told, whole, strict=True))
    return width, height


def _touched(start: float, length: int, tile: int, whole: int) -> int:
    first, last = max(start, 0), min(start + length, whole)
    return max(0, math.ceil(last / tile) - math.floor(first / tile))


def _over(region: Image.Image, background: tuple[int, int, int]) -> RGB:
    """RGBA on the background colour, as (rows, cols, 3)."""
    alpha = region.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return np.ascontiguousarray(np.asarray(region)[..., :3])
    flat = Image.new("RGB", region.size, background)
    flat.paste(region, mask=alpha)
    return np.asarray(flat)


def _info(slide: openslide.OpenSlide) -> SlideInfo:
    facts = slide.properties
    vendor = facts.get(openslide.PROPERTY_NAME_VENDOR)
    return SlideInfo(
        levels=tuple(
            Level(width, height, float(downsample))
            for (width, height), downsample in zip(
                slide.level_dimensions, slide.level_downsamples, strict=True
            )
        ),
        reader="openslide",
        mpp=recorded_mpp(
            _positive(facts.get(openslide.PROPERTY_NAME_MPP_X)),
            _positive(facts.get(openslide.PROPERTY_NAME_MPP_Y)),
        ),
        vendor=vendor,
        objective_power=_positive(facts.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER)),
        bounds_l0=_bounds(facts),
        background=_colour(facts.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR)),
        icc_profile=_icc_profile(slide),
        associated_names=tuple(slide.associated_images),
    )


def _positive(text: str | None) -> float | None:
    """A number that says something; scanners write 0 or nothing where they know nothing."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


def _bounds(facts: Mapping[str, str]) -> tuple[int, int, int, int] | None:
    names = ("X", "Y", "WIDTH", "HEIGHT")
    values = [facts.get(getattr(openslide, f"PROPERTY_NAME_BOUNDS_{name}")) for name in names]
    if any(value is None for value in values):
        return None
    x, y, width, height = (int(value or 0) for value in values)
    return x, y, width, height


def _colour(text: str | None) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex((text or "#FFFFFF").lstrip("#"))
    return red, green, blue


def _icc_profile(slide: openslide.OpenSlide) -> bytes | None:
    """The profile's bytes, unparsed: a damaged profile is no reason to refuse a slide."""
    try:
        return openslide.lowlevel.read_icc_profile(slide._osr)  # no public way
    except openslide.OpenSlideError:
        return None
