"""Patches of a class map as QuPath annotations: outline, class with its colour, exact area."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import mapping

from saccade.pipeline.export.class_colours import classification, colours_of
from saccade.pipeline.export.geojson import plain_coordinates
from saccade.pipeline.segment.areas import Places
from saccade.pipeline.segment.class_map import BLOCK_PX, ClassMap
from saccade.pipeline.segment.shapes import Drawing
from saccade.pipeline.stages.patches import Patch, patches
from saccade.pipeline.stages.tile_plan import Window

_NAMESPACE = uuid5(NAMESPACE_URL, "saccade:annotation")


class Annotations:
    """The patches of all classes but the background, and but those that are split into objects.

    Args:
        of: the class map.
        places: regions, to count patches by.
        drawing: how outlines are drawn.
        slide_id: content hash of the slide; with class and outline, it makes the id of a patch.
        block_px: side of the blocks that the map is gone through in; nothing depends on it but
            memory and the order.

    Attributes:
        counts: int64 (regions, classes), patches that were gone through so far, each in the
            regions that hold a point inside of it.
    """

    def __init__(
        self,
        of: ClassMap,
        places: Places,
        drawing: Drawing,
        *,
        slide_id: str,
        block_px: int = BLOCK_PX,
    ) -> None:
        self._of, self._places, self._drawing = of, places, drawing
        self._slide_id, self._block_px = slide_id, block_px
        self.counts = np.zeros((len(places.names), len(of.classes)), np.int64)

    def patches(self) -> Iterator[list[Patch]]:
        """The patches that are large enough, some at a time."""
        for some in patches(self._blocks()):
            large = [each for each in some if each.cells >= self._drawing.least_cells]
            for label in {each.label for each in large}:
                shapes = np.array([each.shape for each in large if each.label == label], object)
                points = shapely.get_coordinates(shapely.point_on_surface(shapes))
                self.counts[:, label] += self._places.counted(points)
            if large:
                yield large

    def features(self) -> Iterator[dict[str, Any]]:
        """A feature for each patch, as GeoJSON has it."""
        colours, numbers = colours_of(self._of.classes[1:]), np.zeros(len(self._of.classes), int)
        for some in self.patches():
            shapes = self._drawing.drawn(np.array([each.shape for each in some], object))
            for patch, shape in zip(some, shapes, strict=True):
                name = self._of.classes[patch.label]
                numbers[patch.label] += 1
                yield {
                    "type": "Feature",
                    "id": str(uuid5(_NAMESPACE, f"{self._slide_id}/{name}/{shape.wkt}")),
                    "geometry": {
                        "type": shape.geom_type,
                        "coordinates": plain_coordinates(mapping(shape)["coordinates"]),
                    },
                    "properties": {
                        "objectType": "annotation",
                        "name": f"{name} {numbers[patch.label]}",
                        "isLocked": True,
                        "classification": classification(name, colours[name]),
                        "measurements": {
                            "area mm2": float(f"{patch.cells * self._of.cell_mm2:.6g}")
                        },
                    },
                }

    def _blocks(self) -> Iterator[tuple[Window, NDArray[np.uint8]]]:
        """The labels that are outlined, block by block."""
        for window in self._of.windows(self._block_px):
            part = self._of.read(window)
            labels = np.where(part.counts, part.labels, 0).astype(np.uint8)
            if self._of.instances is not None:
                labels[labels == self._of.instances] = 0
            if labels.any():
                yield window, labels
