"""The files that masks leave in a slide's folder, but their field and their record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.export.gallery import Gallery, draw_gallery
from saccade.pipeline.export.geojson import write_tiles_geojson
from saccade.pipeline.export.ometiff import write_heatmap
from saccade.pipeline.mask.masks import TileMasks
from saccade.pipeline.stages.algebra import coarsened
from saccade.pipeline.stages.field import Field
from saccade.tiling import Slide
from saccade.tiling.places import Places

RECORD = "mask.record.json"
FILES = ("mask.zarr", "mask.ome.tif", "mask.geojson", "mask.png", RECORD)
MASK = (
    "Feature mask of Saccade: how much the attention modules of the encoder make features stronger "
    "at each place, as a mean over the channels. Of no class, and no probability. 0 where no tile "
    "was read. Research use only."
)
SHOWN = 12  # tiles of the picture
_MOST_CELLS = 4096  # of a side of the heatmap, which has to fit into memory


@dataclass(frozen=True, slots=True)
class Found:
    """What is kept of the masks beside their field.

    Attributes:
        places: the tiles.
        channels: names of the masks by the size of their cells, the finest first.
        means: float32 (n, channels), over each tile.
        shown: the tiles with most attention, most first.
    """

    places: Places
    channels: tuple[str, ...]
    means: NDArray[np.float32]
    shown: Sequence[TileMasks]

    @property
    def columns(self) -> Mapping[str, NDArray[Any]]:
        """What is known of each tile, by name; its order is that of the draw, or row by row."""
        order = np.arange(1, len(self.places) + 1)
        return {"order": order} | {name: self.means[:, i] for i, name in enumerate(self.channels)}


def most_attended(places: Places) -> NDArray[np.intp]:
    """Numbers of the tiles to be shown: those with most attention, ties in their order."""
    return np.argsort(-places.probability, kind="stable")[:SHOWN]


def write_masks(out: Path, name: str, slide: Slide, field: Field, found: Found) -> None:
    """Write heatmap, tiles for QuPath, and the picture.

    Args:
        out: folder of the slide.
        name: of the slide.
        slide: itself.
        field: as it was written.
        found: what was kept beside it.
    """
    shown = coarsened(field, -(-max(field.grid.shape) // _MOST_CELLS))
    write_heatmap(
        out / "mask.ome.tif",
        np.asarray(shown.values),
        shown.grid,
        slide_mpp=slide.mpp,
        channel_names=list(field.channels),
        name=f"{name} feature mask",
        description=MASK,
    )
    write_tiles_geojson(
        out / "mask.geojson", found.places, found.columns, slide_id=slide.content_hash
    )
    draw_gallery(out / "mask.png", _gallery(name, found))


def _gallery(name: str, found: Found) -> Gallery:
    places = found.places
    cells = [
        f"cells of {each.removeprefix('mask_').removesuffix('px')} px" for each in found.channels
    ]
    return Gallery(
        title=name,
        subtitle=f"feature masks of {len(places)} tiles of {places.side_px} px at {places.mpp:g} "
        f"µm/px; shown: the {len(found.shown)} with most attention",
        tiles=[each.pixels for each in found.shown],
        maps=[each.maps for each in found.shown],
        notes=[
            f"tile {each.number + 1}, attention {places.probability[each.number]:.3g}"
            for each in found.shown
        ],
        captions=cells,
        scale="Feature mask: where the encoder makes features stronger. Of no class, and no "
        "probability.",
    )
