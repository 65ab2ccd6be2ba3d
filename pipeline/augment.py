"""Random changes of tiles that leave their label as it is."""

from __future__ import annotations

import torch
from torch import Tensor

_STAIN_GAIN = 0.2  # standard deviation of the log of each channel's optical density
_DARKEST = 1 / 255


def augment_tiles(tiles: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, flip and restain each tile at random.

    Args:
        tiles: uint8 (n, 3, side, side).
        generator: on the CPU; the same one gives the same tiles.

    Returns:
        float (n, 3, side, side) in [0, 1].
    """
    return restain(dihedral(tiles, generator).float() / 255, generator)


def dihedral(tiles: Tensor, generator: torch.Generator) -> Tensor:
    """Give each square tile one of the eight symmetries of the square."""
    choices = torch.randint(8, (len(tiles),), generator=generator).tolist()
    return torch.stack(
        [
            torch.rot90(tile.flip(-1) if choice >= 4 else tile, choice % 4, (-2, -1))
            for tile, choice in zip(tiles, choices, strict=True)
        ]
    )


def restain(tiles: Tensor, generator: torch.Generator) -> Tensor:
    """Make the stain of each tile stronger or weaker, each channel by a factor of its own.

    Stain adds up in optical density (Beer and Lambert), so it is scaled there: white stays white.
    Without it a model of few slides learns their colours instead of their tissue.
    """
    gain = torch.exp(_STAIN_GAIN * torch.randn(len(tiles), 3, 1, 1, generator=generator))
    return tiles.clamp(min=_DARKEST) ** gain
