"""Two stains on glass: how much of each becomes which colour.

A pixel of a slide in the making is a pair of bytes, hematoxylin and eosin, in hundredths of an
amount of stain. Light passes both after the law of Beer and Lambert, so that the colour is
`glass * exp(-(h * hematoxylin + e * eosin))` with one absorption per colour channel; the vectors
start from Ruifrok and Johnston, "Quantification of histochemical staining by color
deconvolution", 2001.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_HEMATOXYLIN = (0.68, 0.72, 0.32)
_EOSIN = (0.08, 0.95, 0.42)
_GLASS = (242.0, 240.0, 243.0)
_LEVELS_PER_AMOUNT = 100.0


@dataclass(frozen=True, slots=True)
class Stain:
    """The dyes of one slide.

    Attributes:
        hematoxylin: absorption of an amount of one, in red, green and blue.
        eosin: likewise.
        glass: colour of the light that passes empty glass, 0 to 255.
    """

    hematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    glass: tuple[float, float, float]

    def __post_init__(self) -> None:
        if min(self.hematoxylin) < 0 or min(self.eosin) < 0:
            raise ValueError(f"stains absorb light, they do not emit it; got {self}.")
        if not 0 < min(self.glass) <= max(self.glass) <= 255:
            raise ValueError(f"the glass must lie within 0 and 255, got {self.glass}.")

    def table(self) -> NDArray[np.uint32]:
        """Return the colour of every pair of bytes, indexed by `h + 256 * e`.

        A colour is packed into 32 bits, red in the lowest byte: taking whole words is several
        times faster than taking rows of three.
        """
        levels = np.arange(256) / _LEVELS_PER_AMOUNT
        light = np.exp(
            -levels[None, :, None] * np.array(self.hematoxylin)
            - levels[:, None, None] * np.array(self.eosin)
        )
        rgb = np.rint(light * np.array(self.glass)).astype(np.uint32).reshape(-1, 3)
        return np.asarray(rgb[:, 0] | rgb[:, 1] << 8 | rgb[:, 2] << 16, np.uint32)

    def slopes(self) -> NDArray[np.float32]:
        """Return how red and green change with a level of each stain, relative to themselves.

        Shape (2, 2): colours (red, green) by stains (hematoxylin, eosin).
        """
        rows = [(self.hematoxylin[i], self.eosin[i]) for i in (0, 1)]
        return -np.array(rows, np.float32) / np.float32(_LEVELS_PER_AMOUNT)


def draw_stain(rng: np.random.Generator) -> Stain:
    """Draw the dyes of a slide; no two slides of a laboratory look quite the same."""

    def vary(vector: tuple[float, float, float], spread: float) -> tuple[float, float, float]:
        strength = rng.uniform(1 - spread, 1 + spread)
        red, green, blue = (v * strength * rng.uniform(0.93, 1.07) for v in vector)
        return red, green, blue

    glass = rng.uniform(-3, 3)
    return Stain(
        hematoxylin=vary(_HEMATOXYLIN, 0.12),
        eosin=vary(_EOSIN, 0.2),
        glass=(_GLASS[0] + glass, _GLASS[1] + glass, _GLASS[2] + glass),
    )


def colours(stains: NDArray[np.uint8], table: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Turn amounts of stain, shape (rows, cols, 2), into RGB, shape (rows, cols, 3)."""
    pairs = np.ascontiguousarray(stains).view("<u2")[..., 0]
    packed = table.take(pairs).astype("<u4", copy=False)
    return np.ascontiguousarray(packed.view(np.uint8).reshape(*pairs.shape, 4)[..., :3])
