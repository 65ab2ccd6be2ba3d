"""The journey of one slide: from its file to a prediction, a heatmap, and the tiles behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from saccade.pipeline.config import PyramidConfig
from saccade.pipeline.errors import ConfigError, ResultsError
from saccade.pipeline.files import write_json
from saccade.pipeline.lock import exclusive
from saccade.pipeline.look import Subject
from saccade.pipeline.model_file import ModelCard, load_model, weights_hash
from saccade.pipeline.options import PredictOptions
from saccade.pipeline.prediction import Prediction, predict_subject
from saccade.pipeline.reading import SlideRef, TileReader
from saccade.pipeline.record import RECORD, RECORD_OF_EMBEDDING, Record, Stopwatch
from saccade.pipeline.results import is_complete, write_results
from saccade.pipeline.thumbnails import ensure_pyramid
from saccade.tiling import Slide

_COARSER = 1.25  # from here on, enlarged tiles are a reason for doubt

Progress = Callable[[int, int], None]


def predict_slide(
    slide_ref: SlideRef,
    model_path: Path,
    out: Path,
    options: PredictOptions,
    *,
    name: str | None = None,
    pyramid_path: Path | None = None,
    progress: Progress | None = None,
) -> bool:
    """Predict one slide and write everything there is to see of it into `out`.

    A pyramid of this slide that lies there is used, else one is built.

    Args:
        slide_ref: the slide.
        model_path: that `train` wrote.
        out: folder of results.
        options: how to draw tiles, and what to do it with.
        name: of the slide; its file's name without suffix if not given.
        pyramid_path: of the slide's pyramid; `out / "pyramid.zarr"` if not given.
        progress: called with (done, all) while the pyramid is built.

    Returns:
        Whether anything had to be done: False if `out` holds this very prediction already.

    Raises:
        SlideError: if the slide cannot be read, has no mpp or no tissue.
        ModelFileError: if the model cannot be read.
        ResultsError: if `out` holds an embedding.
        ConfigError: if the options ask for what the model cannot say.
        RegionError: if the prior is of another slide, or has nothing on the tissue.
    """
    watch = Stopwatch()
    if (out / RECORD_OF_EMBEDDING).exists():
        raise ResultsError(
            f"{out}: holds what `saccade embed` made, whose features.h5 would be lost; choose "
            "another --out."
        )
    with slide_ref.open() as slide, exclusive(out):
        record = Record(
            step="predict",
            inputs={
                "slide": slide.content_hash,
                "slide_mpp": slide.mpp,
                "model": weights_hash(model_path),
                **options.inputs,
            },
        )
        if record.matches(out / RECORD) and is_complete(out) and not options.force:
            return False
        model, card = load_model(model_path, options.device)
        _check_options(options, card)
        pyramid = ensure_pyramid(
            slide,
            pyramid_path or out / "pyramid.zarr",
            PyramidConfig(finest_mpp=card.finest_mpp),
            progress=progress,
        )
        name, tiles = name or slide.name, card.tiles
        subject = Subject.seen(
            slide_ref,
            slide,
            pyramid,
            view=card.view,
            tiles=tiles,
            stride=model.attention.stride,
            name=name,
        )
        if options.prior is not None:
            subject = options.prior.shown_to(subject, slide.content_hash)
        with TileReader(size_px=tiles.size_px, mpp=tiles.mpp, workers=options.workers) as reader:
            prediction = predict_subject(model, card, subject, reader, options)
            decoded, waited = reader.counts(), reader.waited_seconds
        # First, or a run killed now would leave a record of files that are no longer there.
        (out / RECORD).unlink(missing_ok=True)
        doubts = [*_of_the_scale(slide, card), *_of_the_draw(prediction)]
        write_results(out, name, slide, pyramid, prediction, card, doubts=doubts)
        cost = watch.cost(
            tiles_read=len(prediction.places),
            waited_seconds=round(waited, 3),
            source_tiles_decoded=decoded.tiles,
            compressed_bytes_read=decoded.compressed_bytes,
            pixels_decoded=decoded.pixels,
            requests=decoded.requests,
        )
        write_json(out / RECORD, Record(record.step, record.inputs, cost).as_dict())
        return True


def _check_options(options: PredictOptions, card: ModelCard) -> None:
    if options.until_sure is not None and not card.task.alternatives:
        raise ConfigError(
            "until-sure reads until it is sure of a class, and the model's task is "
            f"{card.task.kind}, which names none. Leave it out: the interval says how far chance "
            "may have moved the outcome, and --tiles or --repeats make it narrower."
        )


def _of_the_scale(slide: Slide, card: ModelCard) -> list[str]:
    """Reasons to trust the prediction less: tiles that are not what the model learned from."""
    coarser = max(slide.mpp) / card.tiles.mpp
    if coarser <= _COARSER:
        return []
    return [
        f"The slide has {max(slide.mpp):g} um/px, and the model looks at tiles of "
        f"{card.tiles.mpp:g} um/px: they were enlarged {coarser:.3g} times, and show less than "
        "what it was trained on."
    ]


def _of_the_draw(prediction: Prediction) -> list[str]:
    """Reasons to trust the prediction less: tiles that could have been others."""
    if prediction.ended == "budget":
        return [
            "The tiles that were allowed ended before the outcome was sure: allow more with "
            "--tiles, or take it as undecided."
        ]
    if prediction.sure or prediction.ended == "all read":
        return []
    return [
        "Other tiles, drawn from the same attention, could have named "
        f"{prediction.task.alternatives}: draw more "
        "with --tiles or --repeats, or read until it is sure with --until-sure 0."
    ]
