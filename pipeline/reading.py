"""Reading the tiles of several slides at once, in threads, ahead of whoever wants them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.open_slides import OpenSlides, SlideRef
from saccade.tiling.counting import ReadCount
from saccade.tiling.errors import SlideError

__all__ = ["SlideRef", "TileReader", "TileRequest", "Tiles"]

Tiles = NDArray[np.uint8] | SlideError
"""uint8 (n, side, side, 3), or why there are none."""


@dataclass(frozen=True, slots=True)
class TileRequest:
    """Tiles wanted of one slide: upper-left corners (x, y) (n, 2) in level-0 pixels."""

    slide: SlideRef
    corners_l0: NDArray[np.int64]


class Wants(Protocol):
    """Something that tiles are read for."""

    @property
    def requests(self) -> Sequence[TileRequest]:
        """The tiles."""


W = TypeVar("W", bound=Wants)

_Begun = deque[tuple[W, list[Future[Tiles]]]]
"""Batches whose tiles are being read."""


class TileReader:
    """Reads tiles with `workers` threads; keeps at most `max_open` slides open between reads.

    The tiles come in the order asked for, whatever the number of workers. Source tiles that
    several tiles of a request share are decoded once.

    Attributes:
        size_px: side of a tile.
        waited_seconds: how long callers have waited for tiles so far.
    """

    def __init__(self, *, size_px: int, mpp: float, workers: int, max_open: int = 64) -> None:
        self.size_px, self._mpp, self._workers = size_px, mpp, workers
        self._slides = OpenSlides(max_open)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="tiles")
        self.waited_seconds = 0.0

    def __enter__(self) -> TileReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._slides.close()

    def read(self, requests: Sequence[TileRequest]) -> list[Tiles]:
        """Read all requests; a slide that fails gives its error and costs nobody else.

        Returns:
            For each request uint8 (n, size_px, size_px, 3), or the error of its slide.
        """
        jobs = self._start(requests)
        try:
            return self._wait(jobs)
        finally:
            _drop(jobs)

    def ahead(
        self, batches: Iterable[W], depth: int
    ) -> Generator[tuple[W, list[Tiles]], None, None]:
        """Read for one batch after the other, each before it is asked for.

        A batch is taken from `batches` when the one `depth` before it is asked for, by the thread
        that asks: what it depends on is a matter of order, never of timing. Its tiles are read
        while the caller works on those before it. Close the generator (`contextlib.closing`)
        where it may be left early; then nothing is being read any more.

        Args:
            batches: what tiles are wanted for.
            depth: batches that are read, or have been, and are not yet asked for; 0 to read when
                asked.

        Yields:
            The batches in their order, with what `read` gives for their requests.
        """
        todo, begun = iter(batches), _Begun[W]()
        try:
            while True:
                for batch in islice(todo, depth + 1 - len(begun)):
                    begun.append((batch, self._start(batch.requests)))
                if not begun:
                    return
                yield self._first(begun)
        finally:
            _drop(job for _, jobs in begun for job in jobs)

    def counts(self) -> ReadCount:
        """What all slides together had decoded so far."""
        return self._slides.counts()

    def _start(self, requests: Sequence[TileRequest]) -> list[Future[Tiles]]:
        """A job for each request; where that leaves threads idle, jobs have several."""
        each, more = divmod(self._workers, max(1, len(requests)))
        return [
            self._pool.submit(self._read, request, max(1, each + (i < more)))
            for i, request in enumerate(requests)
        ]

    def _read(self, request: TileRequest, workers: int) -> Tiles:
        try:
            with self._slides.borrow(request.slide) as slide:
                return slide.read_tiles(
                    request.corners_l0, self.size_px, self._mpp, workers=workers
                )
        except SlideError as error:
            return error

    def _first(self, begun: _Begun[W]) -> tuple[W, list[Tiles]]:
        """Take the first batch out, once it is read: who stops waiting has to find it there."""
        batch, jobs = begun[0]
        tiles = self._wait(jobs)
        begun.popleft()
        return batch, tiles

    def _wait(self, jobs: Sequence[Future[Tiles]]) -> list[Tiles]:
        start = time.perf_counter()
        try:
            return [job.result() for job in jobs]
        finally:
            self.waited_seconds += time.perf_counter() - start


def _drop(jobs: Iterable[Future[Tiles]]) -> None:
    """Cancel what has not begun, and wait for what has: nobody may close what is being read."""
    wait([job for job in jobs if not job.cancel()])
