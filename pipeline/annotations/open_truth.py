"""From a slide's name to its truth."""

from __future__ import annotations

from pathlib import Path

from saccade.pipeline.annotations.config import AnnotationsConfig
from saccade.pipeline.annotations.images import InstanceImage, LabelImage, NumberImage
from saccade.pipeline.annotations.outlines import outlined_areas
from saccade.pipeline.annotations.truth import SlideTruth
from saccade.pipeline.errors import TargetError
from saccade.tiling import Slide


def annotation_path(config: AnnotationsConfig, slide: str) -> Path:
    """The file with the annotations of a slide.

    Raises:
        TargetError: if there is none.
    """
    path = Path(config.folder) / config.file_of(slide)
    if not path.is_file():
        raise TargetError(
            f"{slide}: has no annotations; wanted {path.name} in {path.parent}, as "
            "annotations.folder and annotations.suffix say."
        )
    return path


def open_truth(config: AnnotationsConfig, name: str, slide: Slide) -> SlideTruth:
    """What is known of a slide.

    Args:
        config: kind, place and classes of the annotations.
        name: of the slide, in the sheet.
        slide: itself, for its size and scale.

    Raises:
        TargetError: if there is no file, or it cannot be read.
        MissingMppError: if the slide's own mpp is not known.
    """
    path = annotation_path(config, name)
    if config.kind == "outlines":
        return outlined_areas(path, config, slide.size_l0, slide.mpp)
    image = NumberImage(path)
    if config.kind == "instances":
        return InstanceImage(image, slide.size_l0, slide.mpp)
    return LabelImage(image, slide.size_l0, slide.mpp, classes=len(config.classes))
