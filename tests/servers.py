"""A web server on this machine that counts, and misbehaves where a test asks for it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import unquote


class RangeServer(ThreadingHTTPServer):
    """Serves a folder by ranges.

    Attributes:
        requests, sent: how many requests came, and bytes of files that went out.
        asked: (path, Range header, query) of each request.
        ranges: whether parts of a file are given; else always the whole.
        tells: which of ETag and Last-Modified are sent.
        drop: how many of the next requests end in the middle of the answer.
        status: what is answered to everything, instead of the file.
        delay: seconds before each answer.
    """

    daemon_threads = True
    request_queue_size = 128  # connections at once are what is tested

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.lock = folder, Lock()
        self.ranges, self.tells = True, ("ETag", "Last-Modified")
        self.drop = self.status = 0
        self.delay = 0.0
        self.most_at_once = self._under_way = 0
        self.reset()

    def reset(self) -> None:
        """Count from nothing."""
        self.requests = self.sent = 0
        self.asked: list[tuple[str, str, str]] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    @contextmanager
    def noted(self, path: str, part: str, query: str) -> Iterator[bool]:
        """Count a request; yields whether its answer is to be cut short."""
        with self.lock:
            self.requests += 1
            self.asked.append((path, part, query))
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            dropped, self.drop = self.drop > 0, max(0, self.drop - 1)
        try:
            time.sleep(self.delay)
            yield dropped
        finally:
            with self.lock:
                self._under_way -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may leave; that is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RangeServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        part = self.headers.get("Range", "")
        with self.server.noted(unquote(path), part, query) as dropped:
            self._answer(self.server.folder / unquote(path).lstrip("/"), part, dropped)

    def _answer(self, file: Path, part: str, dropped: bool) -> None:
        if self.server.status or not file.is_file():
            self._head(self.server.status or 404, 0)
            return
        stat = file.stat()
        size = stat.st_size
        begin, end = _span(part, size) if self.server.ranges else (0, size)
        sliced = bool(part) and self.server.ranges
        if sliced and begin >= size:
            self._head(416, 0)
            return
        facts = {"Content-Range": f"bytes {begin}-{end - 1}/{size}"} if sliced else {}
        changed = self.date_time_string(round(stat.st_mtime))
        tells = {"ETag": f'"{stat.st_mtime_ns:x}"', "Last-Modified": changed}
        facts |= {name: tells[name] for name in self.server.tells}
        self._head(206 if sliced else 200, end - begin, facts)
        with file.open("rb") as stream:
            stream.seek(begin)
            body = stream.read(end - begin)
        if dropped:
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        with self.server.lock:  # before it goes out: who has read it may compare
            self.server.sent += len(body)
        self.wfile.write(body)

    def _head(self, status: int, count: int, facts: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(facts or {}), "Content-Length": str(count)}.items():
            self.send_header(name, value)
        self.end_headers()


def _span(part: str, size: int) -> tuple[int, int]:
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", part)
    if found is None:
        return 0, size
    if not found[1]:
        return max(0, size - int(found[2])), size
    return int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)


@contextmanager
def serving(folder: Path) -> Iterator[RangeServer]:
    """A server of a folder, for as long as the `with` lasts."""
    with RangeServer(folder) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
