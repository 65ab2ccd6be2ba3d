"""Everything that OpenSlide opens: the scanners' own formats, DICOM, pyramidal TIFF."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openslide
from PIL import Image

from saccade.tiling.errors import UnreadableSlideError
from saccade.tiling.slide import RGB, Level, SlideInfo
from saccade.tiling.units import recorded_mpp


class OpenSlideSource:
    """Reads a file through OpenSlide.

    Tiles are read once each, in places far from one another: OpenSlide's cache of decoded tiles
    would cost more than it saves, and is off.

    Raises:
        openslide.OpenSlideError: if OpenSlide refuses the file.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._slide = openslide.OpenSlide(path)
        self._slide.set_cache(openslide.OpenSlideCache(0))
        self.info = _info(self._slide)

    def pitch_px(self, level: int) -> float:
        """One level-0 pixel: that is how OpenSlide is told where to begin."""
        return 1 / self.info.levels[level].downsample

    def read_level(self, level: int, x_px: float, y_px: float, size_px: tuple[int, int]) -> RGB:
        """Read with `read_region`; unscanned pixels get the background colour."""
        downsample = self.info.levels[level].downsample
        corner_l0 = round(x_px * downsample), round(y_px * downsample)
        try:
            region = self._slide.read_region(corner_l0, level, size_px)
        except openslide.OpenSlideError as error:
            raise UnreadableSlideError(
                f"{self._name}: the pixels at {corner_l0} of level {level} cannot be decoded "
                f"({error}). The file is damaged: copy it again from where it came."
            ) from error
        return _over(region, self.info.background)

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
