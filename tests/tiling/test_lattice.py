"""Where tiles are moved to: as little as can be, and what it saves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slides
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from saccade.tiling import Slide, open_slide
from saccade.tiling.lattice import Lattice, Snap
from saccade.tiling.sources.openslide import OpenSlideSource

PIXELS = slides.tissue_like(1024, 768)
MPP = 0.25


@st.composite
def lattices(draw: st.DrawFn) -> Lattice:
    pixel = draw(st.sampled_from([1, 2, 3, 8]))
    whole = st.integers(1, 40).map(lambda n: n * pixel)
    pairs = st.tuples(whole, whole)
    side = st.floats(0.5, 200)
    return Lattice(
        size_l0=draw(st.tuples(st.integers(1, 500), st.integers(1, 500))),
        side_l0=draw(st.tuples(side, side)),
        pixel_l0=pixel,
        source_l0=draw(st.none() | pairs),
        before_l0=draw(st.tuples(*[st.integers(0, 5).map(lambda n: n * pixel)] * 2)),
        span_l0=draw(pairs),
    )


corners = st.lists(st.tuples(st.integers(-300, 700), st.integers(-300, 700)), min_size=1).map(
    np.array
)


def is_inside(lattice: Lattice, at: NDArray[np.int64]) -> NDArray[np.bool_]:
    fits = (at >= 0) & (at + np.array(lattice.side_l0) <= lattice.size_l0)
    return np.asarray(fits)


@given(lattices(), corners)
def test_tiles_begin_at_pixels(lattice: Lattice, at: NDArray[np.int64]) -> None:
    snapped = lattice.snap(at)

    assert snapped.dtype == np.int64
    assert snapped.shape == at.shape
    assert (snapped % lattice.pixel_l0 == 0).all()


@given(lattices(), st.data())
def test_what_lies_inside_the_slide_stays_inside(lattice: Lattice, data: st.DataObject) -> None:
    pairs = zip(lattice.size_l0, lattice.side_l0, strict=True)
    room = [math.floor(size - side) for size, side in pairs]
    assume(min(room) >= 0)
    at = np.array([[data.draw(st.sampled_from([0, n]) | st.integers(0, n)) for n in room]])

    assert is_inside(lattice, at).all()
    assert is_inside(lattice, lattice.snap(at)).all()


@given(lattices(), corners)
def test_to_pixels_a_tile_moves_by_half_of_one(lattice: Lattice, at: NDArray[np.int64]) -> None:
    pixels = Lattice(lattice.size_l0, lattice.side_l0, lattice.pixel_l0)
    moved = np.abs(pixels.snap(at) - at)
    last = at + np.array(lattice.side_l0) + lattice.pixel_l0 > np.array(lattice.size_l0)

    assert (moved[~last] <= lattice.pixel_l0 / 2).all()
    assert (moved < lattice.pixel_l0).all()
    assert np.array_equal(pixels.snap(pixels.snap(at)), pixels.snap(at))


def touched(lattice: Lattice, axis: int, start: int) -> int:
    """Source tiles that the read of a tile touches, along one axis."""
    assert lattice.source_l0 is not None
    first = start - lattice.before_l0[axis]
    source = lattice.source_l0[axis]
    return -(-(first + lattice.span_l0[axis]) // source) - first // source


@given(lattices(), st.integers(-300, 700), st.sampled_from([0, 1]))
def test_to_source_tiles_it_moves_to_the_nearest_place_that_touches_fewest(
    lattice: Lattice, start: int, axis: int
) -> None:
    """Found by trying every pixel."""
    if lattice.source_l0 is None:
        return
    pixels = Lattice(lattice.size_l0, lattice.side_l0, lattice.pixel_l0)
    corner = np.array([[start, start]])
    from_, to = (int(each.snap(corner)[0, axis]) for each in (pixels, lattice))
    source, pixel = lattice.source_l0[axis], lattice.pixel_l0
    inside = bool(is_inside(lattice, corner)[0, axis])
    tried = [
        place
        for place in range(from_ - source, from_ + source + 1, pixel)
        if not inside or is_inside(lattice, np.array([[place, place]]))[0, axis]
    ]
    fewest = -(-lattice.span_l0[axis] // source)
    best = [place for place in tried if touched(lattice, axis, place) == fewest]

    if not best:  # where the slide is too small to have one, the tile stays
        assert to == from_
    else:
        assert touched(lattice, axis, to) == fewest
        assert abs(to - from_) == min(abs(place - from_) for place in best)


@pytest.mark.parametrize(
    "change",
    [
        {"pixel_l0": 0},
        {"side_l0": (64.0, float("nan"))},
        {"source_l0": (255, 256)},
        {"before_l0": (-2, 0)},
        {"before_l0": (0, 3)},
        {"span_l0": (0, 128)},
    ],
)
def test_impossible_lattices_are_refused(change: dict[str, Any]) -> None:
    facts: dict[str, Any] = {
        "size_l0": (1000, 1000),
        "side_l0": (128.0, 128.0),
        "pixel_l0": 2,
        "source_l0": (256, 256),
        "span_l0": (128, 128),
    }
    Lattice(**facts)
    with pytest.raises(ValueError, match=r"lattice|whole pixels"):
        Lattice(**facts | change)


def jpeg(folder: Path, **options: Any) -> Path:
    return slides.write_flat_tiff(
        folder / "a.tiff", PIXELS, compression="jpeg", mpp=MPP, tile=128, **options
    )


def random_corners(n: int) -> NDArray[np.int64]:
    """Tiles of 128 level-0 pixels inside the slide."""
    return np.random.default_rng(0).integers(0, (1024 - 128, 768 - 128), (n, 2))


def pixels_decoded(path: Path, at: NDArray[np.int64], size_px: int, mpp: float) -> int:
    """For each tile by itself, without what is kept of the one before."""
    return sum(_pixels_decoded(path, corner[None], size_px, mpp) for corner in at)


def _pixels_decoded(path: Path, at: NDArray[np.int64], size_px: int, mpp: float) -> int:
    with open_slide(path) as slide:
        slide.raster_for(mpp)  # compares the level with OpenSlide, which decodes a piece
        before = slide.counts()
        slide.read_tiles(at, size_px, mpp)
        return (slide.counts() - before).pixels


def snapped(slide: Slide, at: NDArray[np.int64], size_px: int, mpp: float, snap: Snap) -> Any:
    lattice = slide.lattice_for(size_px, mpp, snap)
    assert lattice is not None
    return lattice.snap(at)


@pytest.mark.parametrize("shrink", [2, 4])
def test_tiles_on_pixels_are_nothing_but_pixels_of_the_smaller_jpeg(
    tmp_path: Path, shrink: int
) -> None:
    at, size, mpp, path = random_corners(20), 128 // shrink, MPP * shrink, jpeg(tmp_path)
    with open_slide(path) as slide:
        on = snapped(slide, at, size, mpp, "pixel")
        raster = slide.raster_for(mpp)
        assert raster.plain(on.astype(float), size, slide.downsample_for(mpp)).all()
    assert np.abs(on - at).max() == shrink // 2
    assert pixels_decoded(path, on, size, mpp) < pixels_decoded(path, at, size, mpp) / 2


@pytest.mark.parametrize("size", [128, 100])
def test_tiles_on_source_tiles_decode_one_each(tmp_path: Path, size: int) -> None:
    at, path = random_corners(30), jpeg(tmp_path)
    with open_slide(path) as slide:
        on = snapped(slide, at, size, MPP, "tile")
    assert pixels_decoded(path, on, size, MPP) == 30 * 128**2
    assert pixels_decoded(path, at, size, MPP) > 2.5 * 30 * 128**2


def test_the_filter_of_an_interpolated_read_fits_too(tmp_path: Path) -> None:
    """At 0.27 um/px pixels are interpolated, and a read takes in more than its tile."""
    at, path = random_corners(30), jpeg(tmp_path)
    with open_slide(path) as slide:
        on = snapped(slide, at, 100, 0.27, "tile")
    # The tile that was compared with OpenSlide may be there already.
    assert 0 <= 30 * 128**2 - pixels_decoded(path, on, 100, 0.27) <= 128**2
    assert pixels_decoded(path, at, 100, 0.27) > 2 * 30 * 128**2


def test_of_a_level_that_is_no_whole_number_smaller_nothing_is_moved(tmp_path: Path) -> None:
    path = slides.write_pyramid_tiff(tmp_path / "a.tiff", slides.tissue_like(1001, 777), mpp=MPP)
    snaps: tuple[Snap, ...] = ("pixel", "tile")
    with open_slide(path) as slide:
        assert slide.levels[1].downsample % 1 != 0
        for snap in snaps:
            assert slide.lattice_for(64, 2 * MPP, snap) is None
            assert slide.lattice_for(64, MPP, snap) is not None


def test_none_moves_nothing(tmp_path: Path) -> None:
    with open_slide(jpeg(tmp_path)) as slide:
        assert slide.lattice_for(64, 2 * MPP, "none") is None


def strips(folder: Path) -> Path:
    return slides.write_flat_tiff(
        folder / "a.tif", PIXELS, compression="deflate", rows_per_strip=32, mpp=MPP
    )


def raw(folder: Path) -> Path:
    return slides.write_flat_tiff(folder / "a.tif", PIXELS, rows_per_strip=32, mpp=MPP)


def ome(folder: Path) -> Path:
    return slides.write_ome_tiff(folder / "a.ome.tif", PIXELS, mpp=MPP, tile=64)


def zarr(folder: Path) -> Path:
    return slides.write_ome_zarr(folder / "a.zarr", PIXELS, mpp=MPP, chunk=96)


def png(folder: Path) -> Path:
    return slides.write_image(folder / "a.png", PIXELS)


@pytest.mark.parametrize(
    ("make", "source"),
    [
        (jpeg, (128, 128)),
        (strips, (1024, 32)),
        (raw, (1024, 768)),
        (ome, (64, 64)),
        (zarr, (96, 96)),
        (png, (1024, 768)),
    ],
)
def test_every_source_says_what_it_decodes_at_once(
    tmp_path: Path, make: Callable[[Path], Path], source: tuple[int, int]
) -> None:
    with open_slide(make(tmp_path), mpp=MPP) as slide:
        lattice = slide.lattice_for(48, MPP, "tile")
        on = snapped(slide, random_corners(10), 48, MPP, "tile")

        assert lattice is not None
        assert lattice.source_l0 == source
        assert slide.read_tiles(on, 48, MPP).shape == (10, 48, 48, 3)


def test_openslide_says_it_too(tmp_path: Path) -> None:
    source = OpenSlideSource(jpeg(tmp_path))
    assert source.tile_px(0) == (128, 128)
    source.close()
