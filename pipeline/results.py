"""The files that a prediction leaves in a slide's folder.

prediction.json    what was predicted, tiles and pixels read
attention.ome.tif  heatmap with physical pixel size
attention.geojson  the tiles that were read, as QuPath tile objects
tiles.csv          every tile that was read: place, probability, weight, evidence
features.h5        features and places of the tiles, as CLAM and TRIDENT lay them out
attention.png      thumbnail, heatmap, tiles and the strongest of them, for a person
record.json        what ran; written last, so that its presence says that the rest is there
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.export.features import write_features_h5
from saccade.pipeline.export.geojson import write_tiles_geojson
from saccade.pipeline.export.ometiff import write_heatmap
from saccade.pipeline.export.picture import Overview, draw_overview
from saccade.pipeline.export.tables import write_tiles_csv
from saccade.pipeline.files import write_json
from saccade.pipeline.model_file import ModelCard
from saccade.pipeline.prediction import Prediction
from saccade.pipeline.record import RECORD
from saccade.pipeline.tasks.choose import described
from saccade.pipeline.thumbnails import read_thumbnail
from saccade.tiling import Slide
from saccade.tiling.pyramid_view import Pyramid

FILES = (
    "prediction.json",
    "attention.ome.tif",
    "attention.geojson",
    "tiles.csv",
    "features.h5",
    "attention.png",
    RECORD,
)
ATTENTION = (
    "Attention of Saccade over the slide: the chance of each cell to be drawn first; sums to 1 "
    "over the slide, 0 outside the tissue. Research use only."
)
INTERVALS = (
    "The chance of the draw alone: where all tiles of the slide would put the outcome. Nothing "
    "of what the model may have wrong."
)
STRONGEST = 6  # tiles shown beside the overview


def is_complete(out: Path) -> bool:
    """Whether a prediction's files are all there."""
    return all((out / name).is_file() for name in FILES)


def write_results(
    out: Path,
    name: str,
    slide: Slide,
    pyramid: Pyramid,
    prediction: Prediction,
    card: ModelCard,
    *,
    doubts: Sequence[str] = (),
) -> None:
    """Write all files of a prediction but its record.

    Args:
        out: folder of the slide.
        name: of the slide.
        slide: itself.
        pyramid: its thumbnails.
        prediction: what was seen.
        card: of the model.
        doubts: reasons to trust the prediction less, a sentence each.
    """
    columns = tile_columns(prediction)
    write_tiles_csv(out / "tiles.csv", prediction.places, columns, grid=prediction.grid)
    write_tiles_geojson(
        out / "attention.geojson", prediction.places, columns, slide_id=slide.content_hash
    )
    write_heatmap(
        out / "attention.ome.tif",
        prediction.attention,
        prediction.grid,
        slide_mpp=slide.mpp,
        channel_names=["attention"],
        name=f"{name} attention",
        description=ATTENTION,
    )
    write_features_h5(
        out / "features.h5",
        prediction.features,
        prediction.places,
        slide,
        encoder=card.model.encoder,
    )
    draw_overview(out / "attention.png", _overview(name, slide, pyramid, prediction))
    write_json(
        out / "prediction.json",
        {
            **_summary(name, slide, prediction),
            **_certainty(prediction, card),
            "doubts": list(doubts),
        },
    )


def tile_columns(prediction: Prediction) -> dict[str, NDArray[Any]]:
    """What is known of each tile, by name: its weight, its evidence for each output, its rank.

    Where the encoder looked at a part of it, also where that lies.
    """
    evidence = {
        f"evidence_{name}": prediction.evidence[:, i]
        for i, name in enumerate(prediction.task.names)
    }
    rank = np.empty(len(prediction.weight), np.int64)
    rank[prediction.strongest_first] = np.arange(1, len(rank) + 1)
    cut = {} if prediction.cuts is None else prediction.cuts.columns
    return {"weight": prediction.weight, **evidence, "rank": rank, **cut}


def _summary(name: str, slide: Slide, prediction: Prediction) -> dict[str, Any]:
    width, height = slide.size_l0
    side, mpp = prediction.places.side_l0, slide.mpp
    cell = prediction.grid.cell_l0
    return {
        "slide": name,
        "content_hash": slide.content_hash,
        "bounds_l0": slide.info.bounds_l0,
        "task": described(prediction.task),
        **prediction.task.summary(prediction.read),
        "tiles_read": len(prediction.places),
        # Overlaps count twice: this is what was read, not what was covered.
        "share_of_level_0_read": len(prediction.places) * side[0] * side[1] / (width * height),
        "tissue_mm2": float(prediction.valid.sum() * cell[0] * mpp[0] * cell[1] * mpp[1] / 1e6),
        "slide_mpp": mpp,
        "cell_l0": cell,
        "attention": ATTENTION,
        "note": "Research use only.",
    }


def _certainty(prediction: Prediction, card: ModelCard) -> dict[str, Any]:
    intervals = prediction.intervals
    return {
        "intervals_95": None
        if intervals is None
        else {
            each: [float(n) for n in ends]
            for each, ends in zip(prediction.task.names, intervals, strict=True)
        },
        "intervals_cover": INTERVALS,
        "mode": prediction.mode,
        "draws": prediction.draws,
        "ended": prediction.ended,
        "attention_read": min(1.0, float(prediction.places.probability.sum())),
        "temperature": card.temperature,
        "calibration": card.calibration,
    }


def _overview(name: str, slide: Slide, pyramid: Pyramid, prediction: Prediction) -> Overview:
    order = prediction.strongest_first
    mpp, places, grid = np.array(slide.mpp), prediction.places, prediction.grid
    corners_um = places.corners_l0[order] * mpp
    sides_um = np.broadcast_to(np.array(places.side_l0) * mpp, corners_um.shape)
    thumbnail = read_thumbnail(pyramid)
    width, height = slide.size_l0
    strongest = order[:STRONGEST]
    return Overview(
        thumbnail=thumbnail,
        thumbnail_mpp=(width * mpp[0] / thumbnail.shape[1], height * mpp[1] / thumbnail.shape[0]),
        attention=prediction.attention,
        cell_um=(grid.cell_l0[0] * mpp[0], grid.cell_l0[1] * mpp[1]),
        tissue=prediction.valid,
        boxes_um=np.concatenate([corners_um, sides_um], axis=1),
        title=name,
        subtitle=_subtitle(prediction),
        tiles=prediction.tiles[strongest],
        tile_notes=tuple(
            prediction.task.note(prediction.evidence[i, prediction.leading]) for i in strongest
        ),
        cuts=None if prediction.cuts is None else prediction.cuts.outlines[strongest],
    )


def _subtitle(prediction: Prediction) -> str:
    """What people read, with intervals where there are any."""
    words = prediction.task.words(prediction.read)
    if prediction.intervals is None:
        return "   ".join(words)
    ends = [f" ({prediction.task.ends(low, high)})" for low, high in prediction.intervals]
    said = [word + end for word, end in zip(words, ends, strict=True)]
    return "   ".join([*said, "in brackets: by the chance of the draw alone"])
