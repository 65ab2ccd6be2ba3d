"""The parts of a pass: the order of blocks, and masks that are written for every level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from saccade.tiling.pyramid_levels import PyramidLevel
from saccade.tiling.pyramid_pass import Window, windows_in_z_order
from saccade.tiling.pyramid_tissue import find_tissue, write_masks
from saccade.tiling.shards import ShardedArray
from saccade.tiling.tissue import TissueSettings, tissue_mask
from tests.slides import tissue_like


def corner(window: Window, block: tuple[int, int]) -> tuple[int, int]:
    return window[0].start // block[0], window[1].start // block[1]


@pytest.mark.parametrize("shape", [(100, 100), (1, 1), (17, 230), (320, 40)])
def test_blocks_cover_all_once(shape: tuple[int, int]) -> None:
    seen = np.zeros(shape, int)
    for window in windows_in_z_order(shape, (16, 24)):
        seen[window] += 1

    assert (seen == 1).all()


def test_four_neighbours_come_before_the_next_four() -> None:
    """So a level above waits for no more than a few parts at a time."""
    block = 16, 24
    places = [corner(window, block) for window in windows_in_z_order((128, 192), block)]

    for count in (2, 4):
        for start in range(0, 64, count**2):
            part = places[start : start + count**2]
            assert len({(row // count, col // count) for row, col in part}) == 1


def test_masks_are_repeated_and_halved_whatever_the_chunks(tmp_path: Path) -> None:
    """Chunks of 48 do not begin between the pixels of a mask 32 times as large."""
    mask = np.random.default_rng(0).random((7, 9)) < 0.5
    mask[2:5, 3:8] = True
    shapes = [(7 * 32 - 5, 9 * 32 - 31)]
    while len(shapes) < 7:
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    assert shapes[5] == mask.shape
    arrays = [
        zarr.create_array(
            tmp_path / str(i), shape=shape, dtype="uint8", chunks=(48, 48), shards=(96, 96)
        )
        for i, shape in enumerate(shapes)
    ]

    write_masks([ShardedArray(array) for array in arrays], mask, 5)

    for i, (rows, cols) in enumerate(shapes[:6]):
        times = 2 ** (5 - i)
        larger = mask.repeat(times, axis=0).repeat(times, axis=1)[:rows, :cols]
        assert (np.asarray(arrays[i][:]) == larger).all()
    assert np.asarray(arrays[6][:])[1, 2] == (mask[2:4, 4:6].mean() >= 0.5)


def test_tissue_is_looked_for_in_square_pixels() -> None:
    square = tissue_like(300, 200)
    wide = np.ascontiguousarray(square.repeat(2, axis=1))
    settings = TissueSettings()

    found = find_tissue(wide, PyramidLevel((200, 600), (4.0, 8.0)), settings)

    assert found.any()
    assert (found == tissue_mask(square, 8.0, settings=settings).repeat(2, axis=1)).all()
