"""Everything there is for one slide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from saccade.pipeline.errors import ModelFileError
from saccade.pipeline.export.bundle import export_results
from saccade.pipeline.options import PredictOptions
from saccade.pipeline.predict import predict_slide
from saccade.pipeline.reading import SlideRef

MODEL = "model.safetensors"


def run_slide(
    slide: SlideRef,
    models: Path,
    out: Path,
    options: PredictOptions,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Thumbnails, prediction and files for QuPath of one slide.

    Args:
        slide: the slide.
        models: folder of a training run; its `model.safetensors` predicts.
        out: folder of results.
        options: tiles, seed, device.
        progress: called with (done, all) while the pyramid is built.

    Raises:
        SlideError: if the slide cannot be read, has no mpp or no tissue.
        ModelFileError: if the folder holds no model.
    """
    if not (models / MODEL).is_file():
        raise ModelFileError(f"{models}: holds no {MODEL}; wanted the --out of `saccade train`.")
    predict_slide(slide, models / MODEL, out, options, progress=progress)
    export_results(out, "qupath")
