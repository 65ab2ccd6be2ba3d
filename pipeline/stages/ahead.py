"""Reading the next tiles of a scene while the network has the last ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from saccade.pipeline.stages.scene import Pixels, Scene
from saccade.pipeline.stages.tile_plan import Tile

Batch = tuple[Tile, ...]


def read_ahead(
    scene: Scene, batches: Sequence[Batch], *, workers: int, ahead: int
) -> Iterator[tuple[Batch, Pixels]]:
    """Read batches of equally large tiles, in order, in threads.

    Memory: the batch that is handed out, and at most `ahead` more.

    Yields:
        Tiles, and their pixels (tiles, rows, cols, channels).
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="scene")
    begun: deque[tuple[Batch, list[Future[Pixels]]]] = deque()
    try:
        for batch in batches:
            begun.append((batch, [pool.submit(scene.read, tile.read) for tile in batch]))
            if len(begun) > ahead:
                yield _finished(*begun.popleft())
        while begun:
            yield _finished(*begun.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(batch: Batch, jobs: list[Future[Pixels]]) -> tuple[Batch, Pixels]:
    return batch, np.stack([job.result() for job in jobs])
