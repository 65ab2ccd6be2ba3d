"""A pyramid made in parcels, by processes that share nothing but a file system.

A parcel is so large that it fills whole files of the finest level. Whoever makes it opens the
slide, reads its blocks, and writes the files that are complete within it. The rest, which is its
part of the coarser levels, is handed back, and climbs on in one process as the pixels of a block
would. So the bytes are those of a pass in one process, and a parcel may be made twice.

Memory of a process: two blocks, the files that a parcel fills, and what is left of it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import zarr

from saccade.tiling.crew import Crew
from saccade.tiling.errors import PyramidError
from saccade.tiling.pyramid_blocks import blocks_of
from saccade.tiling.pyramid_levels import Cut, PyramidSettings, Shape, plan_levels
from saccade.tiling.pyramid_pass import (
    Blocks,
    Climber,
    Found,
    Window,
    count_blocks,
    windows_in_z_order,
)
from saccade.tiling.shards import ShardedArray, remove_partial_shards
from saccade.tiling.slide import Slide
from saccade.tiling.threads import in_turn

_ENOUGH = 64  # parcels, for any number of processes to share


@dataclass(frozen=True, slots=True)
class Parcels:
    """Makes parcels of a pyramid, in any process.

    Attributes:
        slide: pickled: it travels as its path or URL.
        settings: of the pyramid.
        folder: that it is made in, with arrays for all levels.
    """

    slide: bytes
    settings: PyramidSettings
    folder: Path

    def __call__(self, window: Window) -> Found:
        """Write what is complete within a window of the finest level; return the rest.

        Raises:
            SlideError: if the slide cannot be read here, or is another one.
        """
        slide: Slide = pickle.loads(self.slide)
        with slide:
            levels = plan_levels(slide, self.settings)
            shapes = [level.shape for level in levels]
            arrays = self._arrays(slide.name, shapes)
            blocks, cut = blocks_of(slide, levels, self.settings)
            climber = Climber(shapes, arrays, cut.codec)
            windows = _within(window, blocks.block)
            for found in in_turn(lambda part: climber.climb(blocks.read(part)), windows, 1):
                climber.settle(found)
            return climber.take_rest(window)

    def _arrays(self, name: str, shapes: Sequence[Shape]) -> list[ShardedArray]:
        group = zarr.open_group(self.folder, mode="r")
        images = [group[str(number)] for number in range(len(shapes))]
        arrays = [ShardedArray(image) for image in images if isinstance(image, zarr.Array)]
        if [array.shape[1:] for array in arrays] != list(shapes):
            raise PyramidError(
                f"{name}: is another slide here than where the pyramid was begun. All workers "
                "have to see the same file under its path."
            )
        return arrays


def run_parcels(
    slide: Slide,
    settings: PyramidSettings,
    folder: Path,
    climber: Climber,
    windows: Sequence[Window],
    crew: Crew,
    tick: Callable[[], None],
) -> None:
    """Make every parcel once somewhere, and all levels of them; `tick` after each."""
    work = Parcels(pickle.dumps(slide), settings, folder)
    for found in crew(work, windows):
        climber.settle(found)
        tick()
    remove_partial_shards(folder)


def parcel_windows(blocks: Blocks, cut: Cut) -> list[Window]:
    """Parcels that cover a slide: blocks that fill whole files of the finest level.

    The larger they are, the less is left of each to travel; of a large slide there are so many that
    they go round among many processes.
    """
    file = cut.shard if cut.jpeg_shard is None else cut.jpeg_shard
    rows, cols = (block * -(-side // block) for block, side in zip(blocks.block, file, strict=True))
    while count_blocks(blocks.shape, (2 * rows, 2 * cols)) >= _ENOUGH:
        rows, cols = 2 * rows, 2 * cols
    return windows_in_z_order(blocks.shape, (rows, cols))


def _within(window: Window, block: Shape) -> list[Window]:
    """The blocks of a parcel."""
    rows, cols = window
    shape = rows.stop - rows.start, cols.stop - cols.start
    return [
        (
            slice(rows.start + part[0].start, rows.start + part[0].stop),
            slice(cols.start + part[1].start, cols.start + part[1].stop),
        )
        for part in windows_in_z_order(shape, block)
    ]
