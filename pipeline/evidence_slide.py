"""Evidence of one slide: from features of its tiles to maps of what a model made of them.

evidence.zarr         attention logits and log classes, with their affine to level 0
evidence.ome.tif      attention, class maps and evidence as layers with physical pixel size
evidence.png          attention and the class map of the predicted class, for a person
evidence.json         label and probabilities, and what the layers are
evidence.record.json  what ran; written last, so that its presence says that the rest is there
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from saccade.pipeline.bags.feature_file import TileFeatures, read_features
from saccade.pipeline.bags.model_file import load_bag_model
from saccade.pipeline.bags.reading import read_maps
from saccade.pipeline.config import PyramidConfig
from saccade.pipeline.errors import FeaturesError
from saccade.pipeline.evidence_files import FILES, RECORD, Judged, write_evidence
from saccade.pipeline.files import write_json
from saccade.pipeline.lock import exclusive
from saccade.pipeline.model_file import weights_hash
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.record import Record, Stopwatch
from saccade.pipeline.thumbnails import ensure_pyramid
from saccade.tiling import Slide
from saccade.tiling.hashing import file_hash


def find_evidence(
    slide_ref: SlideRef,
    features_path: Path,
    model_path: Path,
    out: Path,
    *,
    name: str | None = None,
    device: str = "cpu",
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Judge one slide by the features of its tiles, and write maps of what that rests on.

    A pyramid of this slide that lies in `out` is used, else one is built.

    Args:
        slide_ref: the slide.
        features_path: of its tiles, on one grid.
        model_path: that `saccade train` wrote with `kind: features`.
        out: folder of results; those of a prediction may lie there, too.
        name: of the slide; its file's name if not given.
        device: cpu, cuda, cuda:1.
        force: find it again even if `out` holds this very result.
        progress: called with (done, all) while the pyramid is built.

    Returns:
        Whether anything had to be done: False if `out` holds this very result already.

    Raises:
        SlideError: if the slide cannot be read or has no mpp.
        FeaturesError: if the features cannot be read, are of another kind than those that the
            model was trained on, or lie on no grid or beyond the slide.
        ModelFileError: if the model cannot be read.
    """
    watch = Stopwatch()
    with slide_ref.open() as slide, exclusive(out, "evidence"):
        made_from = {
            "slide": slide.content_hash,
            "slide_mpp": slide.mpp,
            "features": file_hash(features_path) if features_path.is_file() else None,
            "model": weights_hash(model_path),
            "device": torch.device(device).type,
        }
        record = Record(step="evidence", inputs=made_from)
        complete = all((out / each).exists() for each in FILES)
        if complete and record.matches(out / RECORD) and not force:
            return False
        model, card = load_bag_model(model_path, device)
        name = name or slide.name
        features = read_features(features_path)
        card.check(features, name)
        _check_place(features, slide, name)
        tiles = features.gridded(name)
        maps = read_maps(model, features.features, tiles.cells)
        (out / RECORD).unlink(missing_ok=True)
        pyramid = ensure_pyramid(slide, out / "pyramid.zarr", PyramidConfig(), progress=progress)
        judged = Judged(name, tiles, maps, card.classes, card.model.head)
        provenance = {**made_from, "slide_name": name, "code": record.code}
        write_evidence(out, slide, pyramid, judged, provenance)
        cost = watch.cost(tiles_judged=len(features))
        write_json(out / RECORD, Record(record.step, record.inputs, cost).as_dict())
        return True


def _check_place(features: TileFeatures, slide: Slide, name: str) -> None:
    """Refuse tiles that are not of this slide, as far as their places tell."""
    if (features.corners_l0 >= np.array(slide.size_l0)).any():
        raise FeaturesError(
            f"{name}: has {slide.size_l0} pixels, and its features tiles as far as "
            f"{tuple(features.corners_l0.max(axis=0).tolist())}; are they of another slide?"
        )
