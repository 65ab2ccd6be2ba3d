"""The files that evidence leaves in a slide's folder, but its record.

What is kept is attention before the softmax and log classes: the same in any part of a slide. What
is shown follows from them over the whole of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.bags.reading import SlideMaps
from saccade.pipeline.export.evidence_picture import EvidencePicture, draw_evidence
from saccade.pipeline.export.heat import Heat
from saccade.pipeline.export.ometiff import write_heatmap
from saccade.pipeline.files import write_json
from saccade.pipeline.stages.field import Field, write_field
from saccade.pipeline.thumbnails import read_thumbnail
from saccade.tiling import Slide
from saccade.tiling.pyramid_view import Pyramid
from saccade.tiling.regrid import GriddedTiles

RECORD = "evidence.record.json"
FILES = ("evidence.zarr", "evidence.ome.tif", "evidence.png", "evidence.json", RECORD)
LAYERS = {
    "attention": "Did it count: the tile's share in what the slide was judged by; sums to 1 over "
    "the slide.",
    "class map": "How like the class the tile is, whether it counted or not, from 0 to 1; over the "
    "classes it sums to 1 at each tile.",
    "evidence": "Attention times class map: what the tile brought to the class; over the slide it "
    "sums to the probability of the class.",
}
NOTE = "Not calibrated. Research use only."


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What was found of a slide.

    Attributes:
        name: of the slide.
        tiles: where its tiles lie.
        maps: what was found of them.
        classes: names.
        head: name of the model's head.
    """

    name: str
    tiles: GriddedTiles
    maps: SlideMaps
    classes: tuple[str, ...]
    head: str

    @property
    def predicted(self) -> int:
        """Number of the most probable class."""
        return int(self.maps.probabilities.argmax())

    @property
    def kept(self) -> dict[str, NDArray[np.float64]]:
        """What is kept of the tiles, by name."""
        values = {"attention logit": self.maps.attention_logits}
        if self.maps.log_classes is not None:
            named = zip(self.classes, self.maps.log_classes, strict=True)
            values |= {f"log class: {name}": each for name, each in named}
        return values

    @property
    def layers(self) -> dict[str, NDArray[np.float64]]:
        """What is shown of the tiles, by name."""
        layers = {"attention": self.maps.attention}
        if self.maps.log_classes is not None and self.maps.evidence is not None:
            for kind, values in (
                ("class map", np.exp(self.maps.log_classes)),
                ("evidence", self.maps.evidence),
            ):
                named = zip(self.classes, values, strict=True)
                layers |= {f"{kind}: {name}": each for name, each in named}
        return layers

    def on_grid(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of tiles over their grid, NaN where there is no tile."""
        grid = np.full(self.tiles.grid.shape, np.nan)
        grid[tuple(self.tiles.cells.T)] = values
        return grid


def write_evidence(
    out: Path, slide: Slide, pyramid: Pyramid, judged: Judged, provenance: Mapping[str, Any]
) -> None:
    """Write field, heatmap, picture and numbers.

    Args:
        out: folder of the slide.
        slide: itself.
        pyramid: its thumbnails.
        judged: what was found of it.
        provenance: what that was made from.
    """
    write_field(out / "evidence.zarr", _field(judged, slide, provenance))
    layers = judged.layers
    write_heatmap(
        out / "evidence.ome.tif",
        np.stack([judged.on_grid(each) for each in layers.values()]),
        judged.tiles.grid,
        slide_mpp=slide.mpp,
        channel_names=list(layers),
        name=f"{judged.name} evidence",
        description=" ".join([*LAYERS.values(), NOTE]),
    )
    draw_evidence(out / "evidence.png", _picture(judged, slide, pyramid))
    chances = zip(judged.classes, judged.maps.probabilities.tolist(), strict=True)
    write_json(
        out / "evidence.json",
        {
            "slide": judged.name,
            "content_hash": slide.content_hash,
            "label": judged.classes[judged.predicted],
            "probabilities": dict(chances),
            "head": judged.head,
            "tiles": len(judged.tiles.cells),
            "cell_l0": judged.tiles.grid.cell_l0,
            "layers": {each: LAYERS[each.partition(":")[0]] for each in layers},
            "note": NOTE,
        },
    )


def _field(judged: Judged, slide: Slide, provenance: Mapping[str, Any]) -> Field:
    values = np.stack([judged.on_grid(each) for each in judged.kept.values()])
    return Field(
        values=values.astype(np.float32),
        valid=np.isfinite(values[0]),
        grid=judged.tiles.grid,
        slide_mpp=slide.mpp,
        kind="logit",
        channels=tuple(judged.kept),
        provenance={"stage": "evidence", **provenance},
    )


def _picture(judged: Judged, slide: Slide, pyramid: Pyramid) -> EvidencePicture:
    mpp, maps = np.array(slide.mpp), judged.maps
    width_um, height_um = np.array(slide.size_l0) * mpp
    attention = _heat(
        judged,
        mpp,
        maps.attention * len(judged.tiles.cells),
        "times the share that each tile would have of even shares",
    )
    left, right, captions = None, attention, ("Slide", "Attention: did it count?")
    if maps.log_classes is not None:
        likeness = np.exp(maps.log_classes[judged.predicted])
        left, right = attention, _heat(judged, mpp, likeness, "0 = not like it, 1 = like it")
        label = judged.classes[judged.predicted]
        captions = "Attention: did it count?", f"Class map: how like {label} is it?"
    chances = zip(judged.classes, maps.probabilities, strict=True)
    return EvidencePicture(
        thumbnail=read_thumbnail(pyramid),
        size_um=(float(width_um), float(height_um)),
        left=left,
        right=right,
        captions=captions,
        title=judged.name,
        subtitle="   ".join(f"{each} {p:.1%}" for each, p in chances),
    )


def _heat(
    judged: Judged, mpp: NDArray[np.float64], values: NDArray[np.float64], scale: str
) -> Heat:
    cell = np.array(judged.tiles.grid.cell_l0) * mpp
    corner = np.array(judged.tiles.grid.origin_l0) * mpp
    return Heat(
        judged.on_grid(values),
        (float(cell[0]), float(cell[1])),
        (float(corner[0]), float(corner[1])),
        scale,
    )
