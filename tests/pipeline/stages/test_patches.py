"""Patches of a map that comes in blocks are those of the map at once."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from saccade.pipeline.stages.patches import Patch, patches
from saccade.pipeline.stages.tile_plan import TilePlan, Window

Labels = np.ndarray
MAPS = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.integers(0, 3)
)


def in_blocks(labels: Labels, block: int) -> Iterator[tuple[Window, Labels]]:
    for tile in TilePlan(labels.shape, block, 0, 1).tiles():
        if labels[tile.core.slices].any():
            yield tile.core, labels[tile.core.slices]


def found(labels: Labels, block: int) -> list[Patch]:
    return [each for some in patches(in_blocks(labels, block)) for each in some]


def painted(shapes: list[Patch], of: Labels) -> set[tuple[int, bytes]]:
    """Each patch as the cells it covers."""
    rows, cols = np.indices(of.shape)
    return {
        (each.label, shapely.contains_xy(each.shape, cols + 0.5, rows + 0.5).tobytes())
        for each in shapes
    }


def connected(labels: Labels) -> set[tuple[int, bytes]]:
    """The same, by SciPy over the whole map."""
    wanted = set()
    for label in np.unique(labels[labels > 0]):
        numbers, count = ndimage.label(labels == label)
        wanted |= {(int(label), (numbers == i + 1).tobytes()) for i in range(count)}
    return wanted


@given(MAPS, st.integers(1, 6))
def test_blocks_give_each_patch_once_and_exactly(labels: Labels, block: int) -> None:
    shapes = found(labels, block)

    assert painted(shapes, labels) == connected(labels)
    assert len(shapes) == len(connected(labels))
    for each in shapes:
        assert each.shape.geom_type == "Polygon"
        assert each.shape.is_valid
        assert each.shape.area == each.cells
        assert labels[each.first] == each.label


@pytest.mark.parametrize("block", [64, 100, 256])
def test_a_blob_over_many_blocks_is_one_polygon(block: int) -> None:
    rows, cols = np.ogrid[:500, :600]
    distance = np.hypot(rows - 250, cols - 300)
    ring = ((distance < 240) & (distance > 100)).astype(np.uint8)

    (patch,) = found(ring, block)

    assert patch.cells == patch.shape.area == ring.sum()
    assert len(patch.shape.interiors) == 1
    whole = found(ring, 1024)[0].shape
    assert patch.shape.equals(whole)
    assert shapely.get_num_coordinates(patch.shape) <= shapely.get_num_coordinates(whole) + 2


def test_a_band_that_is_left_out_parts_what_lies_above_and_below() -> None:
    labels = np.ones((12, 4), np.uint8)
    blocks = [(window, part) for window, part in in_blocks(labels, 4) if window.top != 4]
    assert [each.cells for some in patches(blocks) for each in some] == [16, 16]


def test_memory_is_that_of_a_band_whatever_the_height() -> None:
    """Dots everywhere, of which those on seams wait for the next band."""

    def dots(rows: int) -> Iterator[tuple[Window, Labels]]:
        block = np.zeros((64, 64), np.uint8)
        block[::4, ::4] = 1
        for tile in TilePlan((rows, 256), 64, 0, 1).tiles():
            yield tile.core, block

    peaks = []
    for rows in (128, 768):
        tracemalloc.start()
        assert sum(len(some) for some in patches(dots(rows))) == rows // 4 * 64
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
