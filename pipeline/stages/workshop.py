"""The folder beside a field in which it is made, and from which a killed run goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saccade.pipeline.files import write_json
from saccade.pipeline.lock import exclusive

_IDENTITY = "identity.json"


@contextmanager
def workshop(out: Path, identity: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the folder, with what an earlier run of the same identity left there.

    It is kept if the block fails or the process dies, and removed when the block ends well.

    Args:
        out: of the field.
        identity: all that the result depends on; what was made from anything else is thrown away.
    """
    folder = out.with_name(f".{out.name}.work")
    with exclusive(folder):
        if _identity_of(folder) != json.loads(json.dumps(identity)):
            _clear(folder)
            write_json(folder / _IDENTITY, identity)
        yield folder
        shutil.rmtree(folder)


def _identity_of(folder: Path) -> Any:
    try:
        return json.loads((folder / _IDENTITY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _clear(folder: Path) -> None:
    """Remove everything but the lock, which is held."""
    for found in folder.iterdir():
        if found.is_dir():
            shutil.rmtree(found)
        elif found.name != ".lock":
            found.unlink()
