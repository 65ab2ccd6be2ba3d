"""Recorded lengths as micrometres, and nothing that a file does not say."""

from __future__ import annotations

import math

_MICROMETRES = {
    "m": 1e6,
    "meter": 1e6,
    "cm": 1e4,
    "centimeter": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "\u00b5m": 1.0,  # micro sign
    "\u03bcm": 1.0,  # Greek mu, which looks the same
    "um": 1.0,
    "micron": 1.0,
    "micrometer": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "pm": 1e-6,
    "picometer": 1e-6,
    "\u00c5": 1e-4,
    "angstrom": 1e-4,
    "in": 25400.0,
    "inch": 25400.0,
}

_SCREENS_UM = (25400 / 72, 25400 / 96)


def micrometres(length: float, unit: str | None) -> float | None:
    """Micrometres, or None for a unit that is no length ("pixel", "reference frame", none)."""
    factor = _MICROMETRES.get(unit) if unit is not None else None
    return None if factor is None else length * factor


def recorded_mpp(x: float | None, y: float | None) -> tuple[float, float] | None:
    """(x, y) if both are sizes that a pixel can have, else None.

    Programs write 72 or 96 dots per inch, a screen's, where nobody told them the scale: such a
    value is no record of anything.

    >>> recorded_mpp(0.25, 0.25)
    (0.25, 0.25)
    >>> recorded_mpp(25400 / 72, 25400 / 72) is None
    True
    """
    if x is None or y is None or not (0 < x < math.inf and 0 < y < math.inf):
        return None
    screen = any(abs(x / size - 1) < 1e-4 and abs(y / size - 1) < 1e-4 for size in _SCREENS_UM)
    return None if screen else (x, y)
