"""Parts of tiles that an encoder looked at, and where on the slide these lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.tiling.places import Places

_CORNERS = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """What was cut out of each tile, by an affine map from the cut to the tile.

    In both, -1 and 1 are the outer edges of the first and the last pixel. A cut may reach beyond
    its tile, where nothing was read.

    Attributes:
        places: the tiles.
        where: float64 (n, 2, 3), maps (x, y, 1) of a cut to (x, y) of its tile.

    Raises:
        ValueError: if there is not one map for each tile, or a number is not finite.
    """

    places: Places
    where: NDArray[np.float64]

    def __post_init__(self) -> None:
        where = np.array(self.where, np.float64)
        if where.shape != (len(self.places), 2, 3) or not np.isfinite(where).all():
            raise ValueError(
                f"{len(self.places)} tiles need maps of the shape ({len(self.places)}, 2, 3), all "
                f"of finite numbers; got the shape {where.shape}."
            )
        where.setflags(write=False)
        object.__setattr__(self, "where", where)

    @property
    def outlines(self) -> NDArray[np.float64]:
        """(n, 4, 2) corners (x, y) as shares of a tile's sides, from the cut's upper left on."""
        linear, shift = self.where[:, :, :2], self.where[:, None, :, 2]
        corners: NDArray[np.float64] = (_CORNERS @ linear.transpose(0, 2, 1) + shift + 1) / 2
        return corners

    @property
    def outlines_l0(self) -> NDArray[np.float64]:
        """(n, 4, 2) corners (x, y) in level-0 pixels, in the same order."""
        offsets: NDArray[np.float64] = self.outlines * np.array(self.places.side_l0)
        return self.places.corners_l0[:, None] + offsets

    @property
    def columns(self) -> Mapping[str, NDArray[np.float64]]:
        """What is known of each cut, by name; lengths in level-0 pixels.

        `cut_x_l0` and `cut_y_l0` are its centre, `cut_width_l0` and `cut_height_l0` the lengths of
        its sides, `cut_turn_deg` by how much its upper side is turned, clockwise as seen.
        """
        corners = self.outlines_l0
        x, y = corners.mean(axis=1).T
        across, down = corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]
        return {
            "cut_x_l0": x,
            "cut_y_l0": y,
            "cut_width_l0": np.hypot(*across.T),
            "cut_height_l0": np.hypot(*down.T),
            "cut_turn_deg": np.degrees(np.arctan2(across[:, 1], across[:, 0])),
        }
