"""Byte ranges of whatever fsspec knows: s3, gs, az and others."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fsspec.core import url_to_fs

from saccade.tiling.counting import ReadCount, Tally
from saccade.tiling.errors import SlideNotFoundError, UnreadableSlideError
from saccade.tiling.remote import Stamp, Url, without_secrets
from saccade.tiling.sources.remote_ranges import AT_ONCE, Range

T = TypeVar("T")

# What stores call the same two things.
_ETAGS = ("ETag", "etag", "md5Hash", "content_md5", "generation")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
_MOST_WORDS = 200  # characters of another library's error


class FsspecRanges:
    """A file of a store. fsspec's packages try again by themselves when the network fails.

    Raises:
        ImportError: if the protocol's package is not installed.
        ValueError: if fsspec does not know the protocol.
    """

    def __init__(self, url: Url, tally: Tally) -> None:
        self._url, self._tally = url, tally
        self._etag = ""
        self._filesystems: dict[int, tuple[Any, str]] = {}
        self._place()

    def _place(self) -> tuple[Any, str]:
        """File system and path; a process of its own has connections of its own."""
        process = os.getpid()
        if process not in self._filesystems:
            filesystem, path = url_to_fs(self._url.text)
            if self._etag and self._url.scheme in ("s3", "s3a"):
                filesystem = _of_version(filesystem, self._etag)
            self._filesystems = {process: (filesystem, path)}
        return self._filesystems[process]

    def begin(self, count: int) -> tuple[Stamp, bytes]:
        """Two requests: what the file is, and its first bytes."""
        stamp = self.stamp()
        if not stamp.size:
            raise UnreadableSlideError(f"{self._url.name}: {self._url} is an empty file.")
        self._etag, self._filesystems = stamp.etag, {}
        (head,) = self.fetch([(0, min(count, stamp.size))])
        return stamp, head

    def stamp(self) -> Stamp:
        """Ask the store what it knows of the file."""
        filesystem, path = self._place()
        facts = self._tried("its size", lambda: filesystem.info(path))
        if facts["type"] == "directory" or facts.get("size") is None:
            raise SlideNotFoundError(f"{self._url}: a folder, no file. Check the address.")
        return Stamp(int(facts["size"]), _told(facts, _ETAGS), _told(facts, _TIMES))

    def fetch(self, ranges: Sequence[Range]) -> list[bytes]:
        """Return the bytes of several ranges; `AT_ONCE` are under way at a time."""
        fetched: list[bytes] = []
        for first in range(0, len(ranges), AT_ONCE):
            fetched += self._together(ranges[first : first + AT_ONCE])
        return fetched

    def _together(self, ranges: Sequence[Range]) -> list[bytes]:
        filesystem, path = self._place()
        starts = [offset for offset, _ in ranges]
        ends = [offset + count for offset, count in ranges]
        what = f"bytes {starts[0]} to {ends[0] - 1}"
        fetched = self._tried(
            what,
            lambda: filesystem.cat_ranges([path] * len(ranges), starts, ends, on_error="raise"),
            requests=len(ranges),
        )
        counts = [count for _, count in ranges]
        if [len(data) for data in fetched] != counts:
            raise self._error(what, "another number of bytes")
        self._tally.add(ReadCount(compressed_bytes=sum(counts)))
        return [bytes(data) for data in fetched]

    def whole(self) -> bytes:
        """Return all bytes."""
        return self._cat("all bytes")

    def suffix(self, count: int) -> bytes:
        """Return the last bytes."""
        return self._cat(f"the last {count} bytes", start=-count)

    def _cat(self, what: str, **part: int) -> bytes:
        filesystem, path = self._place()
        data = bytes(self._tried(what, lambda: filesystem.cat_file(path, **part)))
        self._tally.add(ReadCount(compressed_bytes=len(data)))
        return data

    def _tried(self, what: str, work: Callable[[], T], requests: int = 1) -> T:
        self._tally.add(ReadCount(requests=requests))
        try:
            return work()
        except FileNotFoundError:
            raise SlideNotFoundError(
                f"{self._url}: there is no such file. Check the address."
            ) from None
        # Every store has errors of its own; their cause is cut off, it may show a signature.
        except Exception as error:
            words = " ".join(without_secrets(str(error)).split())[:_MOST_WORDS]
            if "pre-condition" in words:
                raise UnreadableSlideError(
                    f"{self._url.name}: wanted is the file as it was when it was opened; found "
                    f"that {self._url} has changed since. Open it again."
                ) from None
            raise self._error(what, f"{type(error).__name__}: {words}") from None

    def _error(self, what: str, found: str) -> UnreadableSlideError:
        public = " (a public bucket: FSSPEC_S3_ANON=true)" if self._url.scheme == "s3" else ""
        return UnreadableSlideError(
            f"{self._url.name}: wanted {what} of {self._url}; found {found.rstrip('.')}. Check "
            f"the address, the connection and your credentials{public}."
        )


def _of_version(filesystem: Any, etag: str) -> Any:
    """The same S3, which refuses to give anything but this version of a file."""
    options = dict(filesystem.storage_options)
    asked = {**options.pop("s3_additional_kwargs", {}), "IfMatch": etag}
    return type(filesystem)(**options, s3_additional_kwargs=asked, skip_instance_cache=True)


def _told(facts: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((str(facts[name]) for name in names if facts.get(name)), "")
