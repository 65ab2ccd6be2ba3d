"""Byte ranges over HTTP. Every answer is checked: the range asked for, of the same file.

The web server is asked directly, through the session that fsspec keeps for the process: fsspec
itself takes a whole file for an answer to a request for a part of it, does not try again, and does
not notice that the file became another.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import aiohttp
import fsspec
from fsspec.asyn import sync

from saccade.tiling.counting import ReadCount, Tally
from saccade.tiling.errors import SlideError, SlideNotFoundError, UnreadableSlideError
from saccade.tiling.remote import Stamp, Url
from saccade.tiling.sources.remote_ranges import AT_ONCE, Range

A = TypeVar("A")
T = TypeVar("T")

PAUSES = (0.25, 1.0, 3.0)  # seconds before each further attempt
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=60)
_PASSING = {408, 425, 429, 500, 502, 503, 504}  # may go away by itself
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class HttpRanges:
    """A file of a web server.

    Errors are raised without their cause: the words of aiohttp would show the signature of a
    signed address.
    """

    def __init__(self, url: Url, tally: Tally) -> None:
        self._url, self._tally = url, tally
        self._stamp: Stamp | None = None

    def begin(self, count: int) -> tuple[Stamp, bytes]:
        """One request says what the file is, and whether ranges of it can be had."""
        stamp, data = _sync(self._get, f"bytes=0-{count - 1}")
        self._stamp = stamp
        return stamp, data

    def fetch(self, ranges: Sequence[Range]) -> list[bytes]:
        """Return the bytes of several ranges; `AT_ONCE` are under way at a time."""
        return _sync(self._gather, ranges)

    def whole(self) -> bytes:
        """Return all bytes."""
        return _sync(self._get, None)[1]

    def suffix(self, count: int) -> bytes:
        """Return the last bytes."""
        return _sync(self._get, f"bytes=-{count}")[1]

    def stamp(self) -> Stamp:
        """Ask for a byte; not every server that gives a file answers HEAD for it."""
        return _sync(self._get, "bytes=0-0")[0]

    async def _gather(self, ranges: Sequence[Range]) -> list[bytes]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(offset: int, count: int) -> bytes:
            async with gate:
                stamp, data = await self._get(f"bytes={offset}-{offset + count - 1}")
            self._refuse_another(stamp)
            if len(data) != count:
                raise self._error(f"bytes {offset} to {offset + count - 1}", "fewer of them")
            return data

        tasks = [asyncio.ensure_future(one(*each)) for each in ranges]
        try:
            return await asyncio.gather(*tasks)
        finally:  # where one failed, nobody waits for the others
            for task in tasks:
                task.cancel()

    async def _get(self, wanted: str | None) -> tuple[Stamp, bytes]:
        """Ask until there is an answer, or the pauses are used up."""
        for pause in (*PAUSES, None):
            try:
                return await self._ask(wanted)
            except _PassingError as failure:
                if pause is None:
                    attempts = f"{len(PAUSES) + 1} attempts: {failure}"
                    raise self._error(wanted, attempts, "Check the connection") from None
                await asyncio.sleep(pause)
        raise AssertionError("the last pause is None")

    async def _ask(self, wanted: str | None) -> tuple[Stamp, bytes]:
        filesystem = _filesystem()
        session = await filesystem.set_session()
        options = dict(filesystem.kwargs)  # what the user's fsspec configuration adds
        part = {} if wanted is None else {"Range": wanted}
        headers = {**options.pop("headers", {}), "Accept-Encoding": "identity", **part}
        self._tally.add(ReadCount(requests=1))
        try:
            target = filesystem.encode_url(self._url.text)
            async with session.get(target, headers=headers, **options) as response:
                self._check_status(response.status, wanted)
                data = await response.read()
                facts = response.headers
        except SlideError:
            raise
        except (aiohttp.InvalidURL, aiohttp.ClientConnectorCertificateError) as error:
            raise self._error(wanted, type(error).__name__, "Check the address") from None
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError, too
            raise _PassingError(type(error).__name__) from None
        self._tally.add(ReadCount(compressed_bytes=len(data)))
        return self._stamp_of(facts, len(data), wanted), data

    def _check_status(self, status: int, wanted: str | None) -> None:
        if status == (200 if wanted is None else 206):
            return
        if status in _PASSING:
            raise _PassingError(f"status {status}")
        if status in (404, 410):
            raise SlideNotFoundError(f"{self._url}: there is no such file. Check the address.")
        if status in (401, 403):
            advice = "Check your rights to it; signed addresses end after a while"
            raise self._error(wanted, f"a refusal (status {status})", advice)
        if status == 416:
            raise self._error(wanted, "none: the file is empty, or shorter than it was")
        if status == 200:
            found = "the whole file: the server does not give parts of it (no range requests)"
            raise self._error(wanted, found)
        raise self._error(wanted, f"status {status}")

    def _stamp_of(self, facts: Mapping[str, str], count: int, wanted: str | None) -> Stamp:
        etag, modified = facts.get("ETag", ""), facts.get("Last-Modified", "")
        if wanted is None:
            return Stamp(count, etag, modified)
        told = _CONTENT_RANGE.fullmatch(facts.get("Content-Range", ""))
        begin = re.fullmatch(r"bytes=(\d+)-\d+", wanted)
        if told is None or (begin and begin[1] != told[1]):
            raise self._error(wanted, "an answer that does not say which bytes it has")
        return Stamp(int(told[3]), etag, modified)

    def _refuse_another(self, stamp: Stamp) -> None:
        if self._stamp is not None and self._stamp.differs(stamp):
            raise UnreadableSlideError(
                f"{self._url.name}: wanted is the file as it was when it was opened; found that "
                f"{self._url} has changed since. Open it again."
            )

    def _error(
        self, wanted: str | None, found: str, advice: str = "Copy the file here first"
    ) -> UnreadableSlideError:
        what = (wanted or "all bytes").replace("=", " ")
        return UnreadableSlideError(
            f"{self._url.name}: wanted {what} of {self._url}; found {found}. {advice}."
        )


class _PassingError(Exception):
    """A failure that may be over at the next attempt."""


def _sync(work: Callable[[A], Coroutine[Any, Any, T]], argument: A) -> T:
    """Have fsspec's thread do the work, and wait for it."""
    done: T = sync(_filesystem().loop, work, argument)
    return done


def _filesystem() -> Any:
    """The process' own: fsspec makes another after a fork.

    Proxies and passwords come from the environment and .netrc, where other programs have them.
    """
    options = {"trust_env": True, "timeout": _TIMEOUT}
    return fsspec.filesystem("http", encoded=True, client_kwargs=options)
