"""Areas that people outlined: each is an object, and the smaller lies on top of the larger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.annotations.config import AnnotationsConfig
from saccade.pipeline.annotations.geojson import Outline, Ring, read_classified
from saccade.pipeline.annotations.truth import IGNORED, Centres, TrueObjects, within
from saccade.pipeline.errors import TargetError


class OutlinedAreas:
    """The truth of a slide with outlines.

    Areas are numbered from the largest to the smallest. Where several overlap, the smallest counts.

    Args:
        outlines: the areas.
        numbers: of their classes; `IGNORED` for areas that do not count.
        size_l0: (width, height) of the slide.
        slide_mpp: (x, y) micrometres per level-0 pixel.
        classes: how many there are.
        unannotated: class of what lies outside all outlines.
    """

    def __init__(
        self,
        outlines: Sequence[Outline],
        numbers: Sequence[int],
        size_l0: tuple[int, int],
        slide_mpp: tuple[float, float],
        *,
        classes: int,
        unannotated: int = 0,
    ) -> None:
        self.classes = classes
        self._size_l0, self._slide_mpp = size_l0, slide_mpp
        order = np.argsort([-each.area for each in outlines], kind="stable")
        self._rings = [outlines[i].rings for i in order]
        boxes = np.array([_bounds(rings) for rings in self._rings], np.float64).reshape(-1, 4)
        self.objects = TrueObjects(np.array(numbers, np.uint8)[order], boxes)
        self._class_of = np.concatenate([[unannotated], self.objects.classes]).astype(np.uint8)

    def downsample(self, mpp: float) -> tuple[float, float]:
        """See `SlideTruth.downsample`."""
        return mpp / self._slide_mpp[0], mpp / self._slide_mpp[1]

    def labels(
        self, x_l0: float, y_l0: float, size_px: tuple[int, int], mpp: float
    ) -> NDArray[np.uint8]:
        """See `SlideTruth.labels`."""
        downsample = self.downsample(mpp)
        found = self._class_of[self.instances(x_l0, y_l0, size_px, mpp)]
        inside = Centres.of((x_l0, y_l0), size_px, downsample).inside(self._size_l0[::-1])
        known = np.full_like(found, IGNORED)
        known[inside] = found[inside]
        return known

    def instances(
        self, x_l0: float, y_l0: float, size_px: tuple[int, int], mpp: float
    ) -> NDArray[np.int32]:
        """See `SlideTruth.instances`; areas of the background have a number, too."""
        corner, step = np.array([x_l0, y_l0]), np.array(self.downsample(mpp))
        end = corner + step * size_px
        boxes = self.objects.boxes_l0
        near = (boxes[:, :2] < end).all(axis=1) & (boxes[:, 2:] > corner).all(axis=1)
        found = within(size_px, 0)
        for place in np.flatnonzero(near):
            rings = [(ring - corner) / step for ring in self._rings[place]]
            found[inside_rings(rings, (size_px[1], size_px[0]))] = place + 1
        return found


def outlined_areas(
    path: Path,
    config: AnnotationsConfig,
    size_l0: tuple[int, int],
    slide_mpp: tuple[float, float],
) -> OutlinedAreas:
    """Read a GeoJSON file.

    A classification is one of `classes`, or begins with `Ignore`, as QuPath names what does not
    count. An outline without one is of the only class beside the background, if there is only one.

    Raises:
        TargetError: if it is no GeoJSON, or an outline is of no class of the settings.
    """
    outlines = read_classified(path)
    numbers = [_number(path, each.name, config.classes) for each in outlines]
    return OutlinedAreas(
        outlines,
        numbers,
        size_l0,
        slide_mpp,
        classes=len(config.classes),
        unannotated=0 if config.unannotated == "background" else IGNORED,
    )


def inside_rings(rings: Sequence[Ring], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Which pixels of (rows, cols) have their centre inside an odd number of rings.

    Each edge changes inside and outside for all pixels of a row that lie right of where it crosses
    the line of their centres. Areas that share an edge so never share a pixel, and leave none out.

    Args:
        rings: corners (x, y) in pixels, whose edges lie on whole numbers; closed or not.
        shape: of the result.
    """
    rows, cols = shape
    one = np.concatenate(rings)
    other = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    # Downwards, whoever drew it: so neighbours agree to the last bit where it crosses a line.
    upwards = (one[:, 1] > other[:, 1])[:, None]
    start, end = np.where(upwards, other, one), np.where(upwards, one, other)
    first, last = (
        np.ceil(each[:, 1] - 0.5).clip(0, rows).astype(np.int64) for each in (start, end)
    )
    crossed = last - first  # rows whose centres the edge passes
    edge = np.repeat(np.arange(len(start)), crossed)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + first[edge]
    (x, y), (dx, dy) = start[edge].T, (end - start)[edge].T
    crossing = x + (row + 0.5 - y) / dy * dx
    col = np.ceil(crossing - 0.5).clip(0, cols).astype(np.int64)
    changes = np.zeros((rows, cols + 1), np.int32)
    np.add.at(changes, (row, col), 1)
    inside: NDArray[np.bool_] = changes[:, :cols].cumsum(axis=1) % 2 == 1
    return inside


def _number(path: Path, name: str | None, classes: Sequence[str]) -> int:
    if name is None and len(classes) == 2:
        return 1
    if name is not None and name in classes:
        return list(classes).index(name)
    if name is not None and name.startswith("Ignore"):
        return IGNORED
    found = "an outline without a classification" if name is None else f"the class {name!r}"
    raise TargetError(
        f"{path.name}: holds {found}; wanted one of annotations.classes, {', '.join(classes)}, or "
        "a name that begins with Ignore."
    )


def _bounds(rings: Sequence[Ring]) -> NDArray[np.float64]:
    corners = np.concatenate(rings)
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])
