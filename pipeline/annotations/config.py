"""The section `annotations` of a training run's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from saccade.pipeline.config_checks import require

SUFFIXES = {"instances": "_instances.png", "labels": "_labels.png", "outlines": ".geojson"}


@dataclass(frozen=True, slots=True)
class AnnotationsConfig:
    """Where it is written down what is truly there.

    Attributes:
        kind: `instances`, images that number the objects, all of one class; `labels`, images of
            class numbers; `outlines`, GeoJSON as QuPath exports it.
        folder: that holds `<slide><suffix>`.
        suffix: ending of the files' names, PNG or TIFF for images. `_instances.png`, `_labels.png`
            or `.geojson` if None, as the kind is.
        classes: names, the background first; in an image of class numbers the first is 0, and in
            GeoJSON they are the names of the classifications.
        unannotated: what lies outside all outlines: `background`, or `ignored` if nobody looked
            there.
    """

    kind: Literal["instances", "labels", "outlines"] = "instances"
    folder: str = "annotations"
    suffix: str | None = None
    classes: tuple[str, ...] = ("background", "object")
    unannotated: Literal["background", "ignored"] = "background"

    def __post_init__(self) -> None:
        names = self.classes
        require(
            2 <= len(names) <= 255 and len(set(names)) == len(names) and all(names),
            "annotations.classes must be 2 to 255 different names, the background first; got "
            f"{list(names)}.",
        )
        require(
            self.kind != "instances" or len(names) == 2,
            "annotations.kind instances has objects of one class: annotations.classes must be the "
            f"background and that class; got {list(names)}.",
        )
        require(
            self.unannotated == "background" or self.kind == "outlines",
            "annotations.unannotated ignored goes with outlines; images say it for each pixel, by "
            "class 255.",
        )

    def file_of(self, slide: str) -> str:
        """Name of the file of a slide."""
        return f"{slide}{SUFFIXES[self.kind] if self.suffix is None else self.suffix}"
