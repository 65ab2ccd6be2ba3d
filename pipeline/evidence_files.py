"""The files that evidence leaves in a slide's folder, but its record.

What is kept is attention before the softmax and log classes: the same in any part of a slide. What
is shown follows from them over the whole of it.
"""

from __future__ import annotations

from collections.abc import Mapping
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


def evidence_field(
    tiles: GriddedTiles,
    maps: SlideMaps,
    classes: tuple[str, ...],
    slide: Slide,
    provenance: Mapping[str, Any],
) -> Field:
    """What is kept: attention logits, and log classes where the head gives them."""
    channels, values = ["attention logit"], [maps.attention_logits]
    if maps.log_classes is not None:
        channels += [f"log class: {name}" for name in classes]
        values += list(maps.log_classes)
    return Field(
        values=np.stack([_on_grid(each, tiles) for each in values]).astype(np.float32),
        valid=np.isfinite(_on_grid(maps.attention_logits, tiles)),
        grid=tiles.grid,
        slide_mpp=slide.mpp,
        kind="logit",
        channels=tuple(channels),
        provenance={"stage": "evidence", **provenance},
    )


def write_evidence(
    out: Path,
    name: str,
    slide: Slide,
    pyramid: Pyramid,
    tiles: GriddedTiles,
    maps: SlideMaps,
    classes: tuple[str, ...],
    *,
    head: str,
    provenance: Mapping[str, Any],
) -> None:
    """Write field, heatmap, picture and numbers.

    Args:
        out: folder of the slide.
        name: of the slide.
        slide: itself.
        pyramid: its thumbnails.
        tiles: where its tiles lie.
        maps: what was found of them.
        classes: names.
        head: name of the model's head.
        provenance: what the result was made from.
    """
    write_field(out / "evidence.zarr", evidence_field(tiles, maps, classes, slide, provenance))
    layers = _layers(maps, classes)
    write_heatmap(
        out / "evidence.ome.tif",
        np.stack([_on_grid(each, tiles) for each in layers.values()]),
        tiles.grid,
        slide_mpp=slide.mpp,
        channel_names=list(layers),
        name=f"{name} evidence",
        description=" ".join([*LAYERS.values(), NOTE]),
    )
    draw_evidence(out / "evidence.png", _picture(name, slide, pyramid, tiles, maps, classes))
    write_json(
        out / "evidence.json",
        {
            "slide": name,
            "content_hash": slide.content_hash,
            "label": classes[int(maps.probabilities.argmax())],
            "probabilities": dict(zip(classes, maps.probabilities.tolist(), strict=True)),
            "head": head,
            "tiles": len(tiles.cells),
            "cell_l0": tiles.grid.cell_l0,
            "layers": {each: LAYERS[each.partition(":")[0]] for each in layers},
            "note": NOTE,
        },
    )


def _layers(maps: SlideMaps, classes: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
    """What is shown, by name."""
    layers = {"attention": maps.attention}
    if maps.log_classes is not None and maps.evidence is not None:
        for number, each in enumerate(classes):
            layers[f"class map: {each}"] = np.exp(maps.log_classes[number])
        for number, each in enumerate(classes):
            layers[f"evidence: {each}"] = maps.evidence[number]
    return layers


def _on_grid(values: NDArray[np.float64], tiles: GriddedTiles) -> NDArray[np.float64]:
    """Values of tiles over their grid, NaN where there is no tile."""
    grid = np.full(tiles.grid.shape, np.nan)
    grid[tuple(tiles.cells.T)] = values
    return grid


def _picture(
    name: str,
    slide: Slide,
    pyramid: Pyramid,
    tiles: GriddedTiles,
    maps: SlideMaps,
    classes: tuple[str, ...],
) -> EvidencePicture:
    mpp = np.array(slide.mpp)
    width_um, height_um = np.array(slide.size_l0) * mpp
    predicted = int(maps.probabilities.argmax())
    label = classes[predicted]

    def heat(values: NDArray[np.float64], scale: str) -> Heat:
        cell, corner = np.array(tiles.grid.cell_l0) * mpp, np.array(tiles.grid.origin_l0) * mpp
        return Heat(
            _on_grid(values, tiles),
            (float(cell[0]), float(cell[1])),
            (float(corner[0]), float(corner[1])),
            scale,
        )

    attention = heat(
        maps.attention * len(tiles.cells),
        "times the share that each tile would have of even shares",
    )
    chances = zip(classes, maps.probabilities, strict=True)
    shown: tuple[Heat | None, Heat, tuple[str, str]] = (
        None,
        attention,
        ("Slide", "Attention: did it count?"),
    )
    if maps.log_classes is not None:
        likeness = heat(np.exp(maps.log_classes[predicted]), "0 = not like it, 1 = like it")
        captions = "Attention: did it count?", f"Class map: how like {label} is it?"
        shown = (attention, likeness, captions)
    return EvidencePicture(
        thumbnail=read_thumbnail(pyramid),
        size_um=(float(width_um), float(height_um)),
        left=shown[0],
        right=shown[1],
        captions=shown[2],
        title=name,
        subtitle="   ".join(f"{each} {p:.1%}" for each, p in chances),
    )
