"""One picture of where a model looked and what it saw there: two panels over the slide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.export.heat import Heat, draw_colour_bar, draw_heat
from saccade.pipeline.export.layout import Box, arrange
from saccade.pipeline.export.page import Page
from saccade.pipeline.export.panels import (
    draw_caption,
    draw_ground,
    draw_header,
    draw_scale_bar,
    extent,
    show_exactly,
)
from saccade.pipeline.files import atomic_path


@dataclass(frozen=True, slots=True, eq=False)
class EvidencePicture:
    """What the picture shows.

    Attributes:
        thumbnail: the whole slide, uint8 (rows, cols, 3).
        size_um: (width, height) of the slide, micrometres.
        left: of the left panel; the slide itself if None.
        right: of the right panel.
        captions: what the two panels show.
        title: the slide's name.
        subtitle: what the model says of it.
    """

    thumbnail: NDArray[np.uint8]
    size_um: tuple[float, float]
    left: Heat | None
    right: Heat
    captions: tuple[str, str]
    title: str
    subtitle: str


def draw_evidence(path: Path, picture: EvidencePicture) -> None:
    """Draw it as a PNG."""
    width_um, height_um = picture.size_um
    page = Page(arrange(height_um / width_um, 0))
    draw_header(page, picture.title, picture.subtitle)
    boxes = page.layout.slide, page.layout.attention
    for box, heat, words in zip(
        boxes, (picture.left, picture.right), picture.captions, strict=True
    ):
        draw_caption(page, box, words)
        _draw_panel(page, box, heat, picture)
    with atomic_path(path) as temporary:
        page.figure.savefig(temporary, format="png", metadata={"Software": "Saccade"})


def _draw_panel(page: Page, box: Box, heat: Heat | None, picture: EvidencePicture) -> None:
    axes = page.axes(box)
    if heat is None:
        axes.imshow(picture.thumbnail, extent=extent((0, 0), picture.size_um), aspect="auto")
        draw_scale_bar(page, box, picture.size_um[0])
    else:
        draw_ground(axes, picture.thumbnail, picture.size_um)
        draw_colour_bar(page, box, draw_heat(axes, heat), heat.scale)
    show_exactly(axes, picture.size_um)
