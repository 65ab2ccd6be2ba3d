"""Numbers by name, one per tile, as every export of tiles takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_columns(columns: Mapping[str, NDArray[Any]], count: int) -> None:
    """Refuse columns that do not say one number per tile.

    Raises:
        ValueError: if a column has no name or not `count` numbers.
    """
    for name, column in columns.items():
        if not name.strip():
            raise ValueError("every column of tiles needs a name, found an empty one.")
        if np.shape(column) != (count,):
            raise ValueError(
                f"column {name!r} needs one number per tile, shape ({count},), "
                f"but has shape {np.shape(column)}."
            )


def plain_number(value: np.generic | float) -> int | float:
    """The Python number that prints shortest: 0.1 for float32 0.1, not 0.10000000149011612.

    >>> plain_number(np.float32(0.1)), plain_number(np.int64(3))
    (0.1, 3)
    """
    if isinstance(value, int | np.integer | np.bool_):
        return int(value)
    return float(str(value))
