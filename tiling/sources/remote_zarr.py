"""A Zarr hierarchy on a server, as zarr reads it: one object or range at a time, read only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype

from saccade.tiling.counting import Tally
from saccade.tiling.errors import SlideNotFoundError
from saccade.tiling.remote import Stamp, Url
from saccade.tiling.sources.remote_ranges import AT_ONCE, ranges_of


class RemoteStore(Store):
    """Reads below a URL; an object that is not there is what zarr takes for an empty chunk.

    zarr's own store for URLs would read the same bytes, but over HTTP it does not try again, takes
    a whole object for a part of it, counts nothing, and shows signatures in its errors.

    Args:
        url: of the group or array.
        tally: where requests and bytes are counted.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = False
    supports_partial_writes = False

    def __init__(self, url: Url, tally: Tally) -> None:
        super().__init__(read_only=True)
        self._url, self._tally = url, tally
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="zarr")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteStore) and self._url == other._url

    def __repr__(self) -> str:
        return f"RemoteStore({self._url})"

    def close(self) -> None:
        """End the threads that wait for the server."""
        self._pool.shutdown(cancel_futures=True)
        super().close()

    def read(self, key: str, part: ByteRequest | None = None) -> bytes | None:
        """Return an object or a part of it; None if there is no such object."""
        ranges = ranges_of(self._url.joined(key), self._tally)
        try:
            if isinstance(part, RangeByteRequest):
                return ranges.fetch([(part.start, part.end - part.start)])[0]
            if isinstance(part, SuffixByteRequest):
                return ranges.suffix(part.suffix)
            data = ranges.whole()
        except SlideNotFoundError:
            return None
        return data[part.offset :] if isinstance(part, OffsetByteRequest) else data

    def stamp(self, key: str) -> Stamp:
        """The version of an object."""
        return ranges_of(self._url.joined(key), self._tally).stamp()

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """As zarr asks for it."""
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self._pool, self.read, key, byte_range)
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Several at once."""
        return list(await asyncio.gather(*(self.get(k, prototype, r) for k, r in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self.read, key) is not None

    async def set(self, key: str, value: Buffer) -> None:
        """Refused."""
        raise PermissionError("a remote slide is only read")

    async def delete(self, key: str) -> None:
        """Refused."""
        raise PermissionError("a remote slide is only read")

    def list(self) -> AsyncIterator[str]:
        """Refused: a web server does not say what lies in a folder."""
        raise NotImplementedError

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Refused, too."""
        raise NotImplementedError

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Refused, too."""
        raise NotImplementedError
