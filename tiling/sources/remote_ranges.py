"""Byte ranges of a remote file: what a protocol has to offer, and which one serves a URL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from saccade.tiling.counting import Tally
from saccade.tiling.errors import UnreadableSlideError
from saccade.tiling.remote import Stamp, Url

Range = tuple[int, int]
"""(offset, count) in bytes."""

AT_ONCE = 16  # requests under way: enough to hide the way to the server, polite to it


class Ranges(Protocol):
    """A remote file. All of it may be called from any thread; requests and bytes are counted.

    Every method raises SlideNotFoundError if nothing is there, and UnreadableSlideError if the
    server refuses, cannot be reached after a few attempts, or has another version than before.
    """

    def begin(self, count: int) -> tuple[Stamp, bytes]:
        """What the file is, and its first bytes; reads that follow are of this very version."""

    def fetch(self, ranges: Sequence[Range]) -> list[bytes]:
        """The bytes of several ranges inside the file, many of them at once."""

    def whole(self) -> bytes:
        """All bytes."""

    def suffix(self, count: int) -> bytes:
        """The last bytes."""

    def stamp(self) -> Stamp:
        """What the file is now."""


def ranges_of(url: Url, tally: Tally) -> Ranges:
    """The protocol of a URL.

    Raises:
        UnreadableSlideError: if no protocol is known by that name, or its package is missing.
    """
    try:
        if url.is_web:
            from saccade.tiling.sources.http_ranges import HttpRanges  # aiohttp is an extra

            return HttpRanges(url, tally)
        from saccade.tiling.sources.fsspec_ranges import FsspecRanges

        return FsspecRanges(url, tally)
    except ImportError as error:
        package = f" ({error.name} is missing)" if error.name else ""
        raise UnreadableSlideError(
            f"{url.name}: wanted is the package that speaks {url.scheme}://; found none{package}. "
            "Install it: pip install 'saccade[remote]' for s3 and https, the fsspec package of "
            "the protocol (gcsfs, adlfs) for others."
        ) from error
    except ValueError as error:  # of fsspec, for a protocol that it never heard of
        raise UnreadableSlideError(
            f"{url.name}: wanted is a protocol that fsspec knows; found {url.scheme}://. "
            "Check the address, or copy the file here first."
        ) from error
