"""A colour for each class, the same in every export of a model's objects and regions."""

from __future__ import annotations

from collections.abc import Sequence

Colour = tuple[int, int, int]
"""Red, green and blue, from 0 to 255."""

# Okabe and Ito, "Color Universal Design", 2008: told apart by colour-blind people, too. The order
# puts first what shows best on pink and violet.
_COLOURS: tuple[Colour, ...] = (
    (0, 158, 115),
    (230, 159, 0),
    (0, 114, 178),
    (240, 228, 66),
    (213, 94, 0),
    (86, 180, 233),
    (204, 121, 167),
    (90, 90, 90),
)


def colours_of(classes: Sequence[str]) -> dict[str, Colour]:
    """A colour for each class by its place in the list; they come again after eight."""
    return {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(classes)}


def as_shares(colour: Colour) -> tuple[float, float, float]:
    """A colour as Matplotlib has it, from 0 to 1."""
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def classification(name: str, colour: Colour) -> dict[str, object]:
    """A class as QuPath reads it; without its colour QuPath gives up the whole file.

    QuPath would make a class within a class of a name with a colon, so that becomes a space.
    """
    return {"name": name.replace(":", " "), "color": list(colour)}
