"""Reading the tiles of several slides at once, in threads, from a bounded number of open files."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from saccade.tiling import Slide, open_slide
from saccade.tiling.counting import ReadCount
from saccade.tiling.errors import SlideError
from saccade.tiling.remote import Place

_PIECE = 8  # tiles a job: small enough that two slides keep many threads busy


@dataclass(frozen=True, slots=True)
class SlideRef:
    """A slide by its path or URL, with the mpp that the sheet or the user gave."""

    path: Place
    mpp: float | None = None

    def open(self) -> Slide:
        """Open the slide."""
        return open_slide(self.path, mpp=self.mpp)


@dataclass(frozen=True, slots=True)
class TileRequest:
    """Tiles wanted of one slide: upper-left corners (x, y) (n, 2) in level-0 pixels."""

    slide: SlideRef
    corners_l0: NDArray[np.int64]


class TileReader:
    """Reads tiles with `workers` threads; keeps at most `max_open` slides open.

    The tiles come in the order asked for, whatever the number of workers.
    """

    def __init__(self, *, size_px: int, mpp: float, workers: int, max_open: int = 64) -> None:
        self._size_px, self._mpp, self._max_open = size_px, mpp, max_open
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="tiles")
        self._slides: OrderedDict[SlideRef, Slide] = OrderedDict()
        self._closed = ReadCount()

    def __enter__(self) -> TileReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        for slide in self._slides.values():
            slide.close()

    def read(self, requests: Sequence[TileRequest]) -> list[NDArray[np.uint8] | SlideError]:
        """Read all requests; a slide that fails gives its error and costs nobody else.

        Returns:
            For each request uint8 (n, size_px, size_px, 3), or the error of its slide.
        """
        jobs = [self._start(request) for request in requests]
        tiles = [job if isinstance(job, SlideError) else _gather(job) for job in jobs]
        self._close_oldest()
        return tiles

    def counts(self) -> ReadCount:
        """What all slides together had decoded so far."""
        return sum((slide.counts() for slide in self._slides.values()), self._closed)

    def _start(self, request: TileRequest) -> list[Future[NDArray[np.uint8]]] | SlideError:
        try:
            slide = self._slide(request.slide)
        except SlideError as error:
            return error
        pieces = range(0, len(request.corners_l0), _PIECE)
        return [
            self._pool.submit(
                slide.read_tiles, request.corners_l0[i : i + _PIECE], self._size_px, self._mpp
            )
            for i in pieces
        ]

    def _slide(self, ref: SlideRef) -> Slide:
        if ref not in self._slides:
            self._slides[ref] = ref.open()
        self._slides.move_to_end(ref)
        return self._slides[ref]

    def _close_oldest(self) -> None:
        while len(self._slides) > self._max_open:
            _, slide = self._slides.popitem(last=False)
            self._closed += slide.counts()
            slide.close()


def _gather(jobs: Sequence[Future[NDArray[np.uint8]]]) -> NDArray[np.uint8] | SlideError:
    wait(jobs)  # all of them: after a failure too, nobody may close a slide that is being read
    try:
        return np.concatenate([job.result() for job in jobs])
    except SlideError as error:
        return error
