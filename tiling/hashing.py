"""Content hashes: the name of what was read, whatever the file is called and wherever it lies."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def file_hash(path: Path) -> str:
    """`sha256:...` of a file's bytes, or of a folder's: sorted relative paths and their bytes.

    A MIRAX file (.mrxs) is hashed with the folder beside it, where its pixels lie. The hash is
    kept under `$XDG_CACHE_HOME/saccade/hashes` and counts as long as paths, sizes and times of
    change are the same; a cache that cannot be written costs time and nothing else.
    """
    place = path.resolve()
    state = _state(place)
    kept = _kept_at(place)
    try:
        entry = json.loads(kept.read_text())
        if entry["state"] == state:
            return str(entry["hash"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or not ours: it is made again
    found = _hash_of(place)
    _keep(kept, {"path": str(place), "state": state, "hash": found})
    return found


def array_hash(pixels: NDArray[np.uint8]) -> str:
    """`sha256:...` of an array's shape and values."""
    digest = hashlib.sha256(repr((pixels.shape, pixels.dtype.str)).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return f"sha256:{digest.hexdigest()}"


def _hash_of(place: Path) -> str:
    if place.is_file() and _companion(place) is None:
        return f"sha256:{_digest(place).hex()}"
    whole = hashlib.sha256()
    for name, file in _files(place):
        whole.update(name.encode() + b"\0" + _digest(file))
    return f"sha256:{whole.hexdigest()}"


def _digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _files(place: Path) -> Iterator[tuple[str, Path]]:
    """The files a slide consists of, by their names in it, always in the same order."""
    folder: Path | None = place
    if place.is_file():
        yield "", place
        folder = _companion(place)
    if folder is not None:
        inside = (file for file in folder.rglob("*") if file.is_file())
        yield from sorted((file.relative_to(folder).as_posix(), file) for file in inside)


def _companion(place: Path) -> Path | None:
    folder = place.with_suffix("")
    return folder if place.suffix.lower() == ".mrxs" and folder.is_dir() else None


def _state(place: Path) -> str:
    """What changes when the files do: their names, sizes and times of change."""
    stats = [(name, file.stat()) for name, file in _files(place)]
    facts = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _kept_at(place: Path) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    name = hashlib.sha256(str(place).encode()).hexdigest()[:32]
    return Path(os.path.expanduser(base)) / "saccade" / "hashes" / f"{name}.json"  # noqa: PTH111


def _keep(kept: Path, entry: dict[str, str]) -> None:
    """Write beside and rename, so that a reader never sees half an entry."""
    beside = kept.with_name(f"{kept.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(entry))
        beside.replace(kept)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
