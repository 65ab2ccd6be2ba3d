"""Images that are black nearly everywhere, kept as the pixels that are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class SparseImages:
    """Square grey images, uint8 (width, width); black pixels take no memory.

    Args:
        width: pixels a side.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._found: list[tuple[NDArray[np.int32], NDArray[np.uint8]]] = []

    def add(self, image: NDArray[np.uint8]) -> None:
        """Keep one more image."""
        flat = image.ravel()
        where = np.flatnonzero(flat).astype(np.int32)
        self._found.append((where, flat[where]))

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        where, values = self._found[number]
        flat = np.zeros(self._width**2, np.uint8)
        flat[where] = values
        return flat.reshape(self._width, self._width)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All images as four plain arrays, for a file; image i ends where `ends[i]` says."""
        where, values = ([each[i] for each in self._found] for i in (0, 1))
        return {
            "width": np.array(self._width),
            "ends": np.cumsum([len(each) for each in where]),
            "where": np.concatenate(where),
            "values": np.concatenate(values),
        }

    @classmethod
    def load(cls, path: Path, kind: str) -> SparseImages:
        """Read `high` or `low` images of a part of the set, as `mega_mnist_set.py` writes them."""
        with np.load(path) as file:
            images = cls(int(file[f"{kind}_width"]))
            ends = file[f"{kind}_ends"][:-1]
            where, values = (np.split(file[f"{kind}_{key}"], ends) for key in ("where", "values"))
        images._found = list(zip(where, values, strict=True))
        return images
