"""Slides that stay open between reads: a bounded number, lent to any thread."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Lock

from saccade.tiling import Slide, open_slide
from saccade.tiling.counting import ReadCount
from saccade.tiling.remote import Place


@dataclass(frozen=True, slots=True)
class SlideRef:
    """A slide by its path or URL, with the mpp that the sheet or the user gave."""

    path: Place
    mpp: float | None = None

    def open(self) -> Slide:
        """Open the slide."""
        return open_slide(self.path, mpp=self.mpp)


class _Lent:
    """A slide and how many threads are reading it."""

    def __init__(self, ref: SlideRef) -> None:
        self._ref = ref
        self._opening = Lock()
        self.slide: Slide | None = None
        self.readers = 0

    def open(self) -> Slide:
        """The slide, opened by the thread that comes first."""
        with self._opening:
            if self.slide is None:
                self.slide = self._ref.open()
            return self.slide


class OpenSlides:
    """Keeps the slides open that were read last.

    Args:
        most: slides that stay open while nobody reads them; those that are being read stay open
            whatever their number.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._given_back = Condition()
        self._lent: OrderedDict[SlideRef, _Lent] = OrderedDict()
        self._closed = ReadCount()

    @contextmanager
    def borrow(self, ref: SlideRef) -> Iterator[Slide]:
        """Lend a slide, opened if it is not open; until it comes back nobody closes it.

        Raises:
            SlideError: if it cannot be opened.
        """
        with self._given_back:
            lent = self._lent.setdefault(ref, _Lent(ref))
            lent.readers += 1
        try:
            yield lent.open()
        finally:
            with self._given_back:
                lent.readers -= 1
                self._lent.move_to_end(ref)
                self._close_idle()
                self._given_back.notify_all()

    def counts(self) -> ReadCount:
        """What all slides together had decoded so far."""
        with self._given_back:
            slides = [lent.slide for lent in self._lent.values() if lent.slide is not None]
            return sum((slide.counts() for slide in slides), self._closed)

    def close(self) -> None:
        """Close all slides, once nobody reads them any more.

        Whoever stops threads that read cannot be sure that they have ended: an interrupt may have
        come between starting a thread and noting that it was started.
        """
        with self._given_back:
            self._given_back.wait_for(lambda: not any(k.readers for k in self._lent.values()))
            self._most = 0
            self._close_idle()

    def _close_idle(self) -> None:
        """Close slides beyond those that may stay open, the longest unread first."""
        for ref in [ref for ref, lent in self._lent.items() if not lent.readers]:
            slide = self._lent[ref].slide
            if slide is None:
                del self._lent[ref]  # it could not be opened
            elif len(self._lent) > self._most:
                del self._lent[ref]
                self._closed += slide.counts()
                slide.close()
