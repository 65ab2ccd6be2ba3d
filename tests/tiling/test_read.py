"""What `Slide.read` promises beyond one reader: exactness, geometry, bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
import slides
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from saccade.tiling import raster_reading
from saccade.tiling.open import open_slide
from saccade.tiling.slide import Slide
from saccade.tiling.source import Level, SlideInfo
from saccade.tiling.sources.array import ArraySource

RGB = NDArray[np.uint8]
MPP = 0.5


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lossless pyramid whose levels are 2.0022 and 4.0045 times smaller."""
    pixels = slides.tissue_like(1001, 777)
    path = tmp_path_factory.mktemp("slide") / "odd.tif"
    return slides.write_pyramid_tiff(path, pixels, compression="deflate", tile=128)


@pytest.fixture(scope="module")
def even(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lossless pyramid whose levels are exactly 2 and 4 times smaller."""
    pixels = slides.tissue_like(1024, 768)
    path = tmp_path_factory.mktemp("slide") / "even.tif"
    return slides.write_pyramid_tiff(path, pixels, compression="deflate", tile=128)


@pytest.mark.parametrize("name", ["odd", "even"])
@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("corner_l0", [(0, 0), (128, 64), (301, 203), (-16, -8), (-97, 601)])
def test_a_level_at_its_own_scale_is_what_openslide_gives(
    name: str, level: int, corner_l0: tuple[int, int], request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(name)
    with open_slide(path) as slide, openslide.OpenSlide(path) as peer:
        found = slide.read(*corner_l0, (120, 90), MPP * slide.levels[level].downsample)
        region = peer.read_region(corner_l0, level, (120, 90))
        wanted = Image.new("RGB", region.size, (255, 255, 255))
        wanted.paste(region, mask=region)
        assert np.array_equal(found, np.asarray(wanted))


class Slope(ArraySource):
    """Red rises with x, green with y, at the same places of level 0 on every level."""

    def __init__(self, size: tuple[int, int], downsamples: tuple[float, ...]) -> None:
        shapes = [(round(size[0] / factor), round(size[1] / factor)) for factor in downsamples]
        levels = [Level(*shape, f) for shape, f in zip(shapes, downsamples, strict=True)]
        self._images = [self._image(size, level) for level in levels]
        super().__init__(
            self._images[0], SlideInfo(levels=tuple(levels), reader="array", mpp=(MPP, MPP))
        )

    @staticmethod
    def _image(size: tuple[int, int], level: Level) -> RGB:
        x = (np.arange(level.width) + 0.5) * level.downsample
        y = (np.arange(level.height) + 0.5) * level.downsample
        red, green = np.meshgrid(30 + 200 * x / size[0], 30 + 200 * y / size[1])
        return np.stack([red, green, red], axis=2).round().clip(0, 255).astype(np.uint8)

    def read_level(self, level: int, x_px: float, y_px: float, size_px: tuple[int, int]) -> RGB:
        x, y = int(x_px), int(y_px)
        return self._images[level][y : y + size_px[1], x : x + size_px[0]]


SLOPE = Slide(Slope((200, 200), (1.0, 2.0005, 4.003)), np.zeros((1, 1, 3), np.uint8))


@given(
    x_l0=st.floats(20, 90),
    y_l0=st.floats(20, 90),
    factor=st.floats(0.3, 9),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_read_shows_the_place_it_was_asked_for(
    x_l0: float, y_l0: float, factor: float
) -> None:
    size = max(1, int(60 / factor))
    found = SLOPE.read(x_l0, y_l0, size, MPP * factor)
    centres = (np.arange(size) + 0.5) * factor
    # One grey level is one pixel of level 0 here; stored and read values are rounded to one each.
    assert np.abs(found[..., 0] - (30 + x_l0 + centres)).max() <= 1.25
    assert np.abs(found[..., 1] - (30 + y_l0 + centres)[:, None]).max() <= 1.25


def test_anisotropic_pixels() -> None:
    pixels = slides.gradient(400, 200)
    info = SlideInfo(levels=(Level(400, 200, 1.0),), reader="array", mpp=(0.25, 0.5))
    slide = Slide(ArraySource(pixels, info), pixels)
    found = slide.read(40, 20, 50, 1.0)  # a pixel is 4 wide and 2 high
    wanted = pixels[20:120, 40:240].reshape(50, 2, 50, 4, 3).mean(axis=(1, 3))
    assert np.abs(found - wanted).max() <= 0.5


@pytest.mark.parametrize("factor", [1.0, 2.0, 1.37, 2.9, 7.3, 40.5])
@pytest.mark.parametrize("kind", ["array", "openslide"])
def test_blocks_give_what_one_go_gives(
    factor: float, kind: str, even: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = slides.tissue_like(1024, 768)
    with open_slide(pixels if kind == "array" else even, mpp=MPP) as slide:
        size = round(1100 / factor), round(800 / factor)
        at_once = slide.read(-31.6, -17.2, size, MPP * factor)
        monkeypatch.setattr(raster_reading, "_MOST_PIXELS", 100 * 100)
        in_blocks = slide.read(-31.6, -17.2, size, MPP * factor)
    assert np.abs(at_once.astype(int) - in_blocks).max() <= 1


def test_blocks_of_a_level_between_whole_pixels(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_slide(odd) as slide:
        mpp = MPP * slide.levels[1].downsample
        at_once = slide.read(0, 0, (500, 388), mpp)
        monkeypatch.setattr(raster_reading, "_MOST_PIXELS", 100 * 100)
        in_blocks = slide.read(0, 0, (500, 388), mpp)
    away = np.abs(at_once.astype(int) - in_blocks)
    assert away.mean() < 0.5  # OpenSlide interpolates where a block begins between two pixels


class Watched(ArraySource):
    """Remembers how much was asked for at once."""

    most = 0

    def read_level(self, level: int, x_px: float, y_px: float, size_px: tuple[int, int]) -> RGB:
        self.most = max(self.most, size_px[0] * size_px[1])
        return super().read_level(level, x_px, y_px, size_px)


@pytest.mark.parametrize("size", [1, 3, 64, 300])
def test_no_read_asks_for_much_at_once(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raster_reading, "_MOST_PIXELS", 64 * 64)
    pixels = slides.gradient(1200, 1200)
    source = Watched(pixels)
    found = Slide(source, pixels, mpp=MPP).read(0, 0, size, MPP * 1200 / size)
    assert 0 < source.most <= 64 * 64
    centres = 10 + 235 * (np.arange(size) + 0.5) / size
    inner = slice(1, -1) if size == 64 else slice(None)  # blocks of 18.75: the filter sees the edge
    assert np.abs(found[inner, inner, 0] - centres[inner]).max() <= 1.5
    assert np.abs(found[inner, inner, 1] - centres[inner, None]).max() <= 1.5


@pytest.mark.parametrize("size", [0, -1, (4, 0)])
def test_no_size_is_refused(size: int | tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        SLOPE.read(0, 0, size, MPP)


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan")])
def test_no_scale_is_refused(mpp: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        SLOPE.read(0, 0, 4, mpp)


@pytest.mark.parametrize("place", [(float("nan"), 0.0), (0.0, float("inf"))])
def test_no_place_is_refused(place: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        SLOPE.read(*place, 4, MPP)


def test_numpy_numbers_do(odd: Path) -> None:
    with open_slide(odd) as slide:
        size = np.int64(16)
        found = slide.read(np.float32(3), np.int64(4), size, np.float64(0.5))  # type: ignore[arg-type]
        assert np.array_equal(found, slide.read(3, 4, 16, 0.5))


@pytest.mark.parametrize(
    ("downsample", "level"), [(0.5, 0), (1, 0), (1.9, 0), (2, 1), (3.9, 1), (4.5, 2), (100, 2)]
)
def test_the_coarsest_level_that_is_fine_enough(downsample: float, level: int) -> None:
    assert SLOPE.level_for(downsample) == level
