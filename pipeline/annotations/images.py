"""Images of class numbers or of numbered objects, of any size, that cover a slide."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from saccade.pipeline.annotations.truth import IGNORED, Centres, TrueObjects, within
from saccade.pipeline.errors import TargetError

_TIFF = (".tif", ".tiff")
_BROKEN = (OSError, ValueError, Image.DecompressionBombError, tifffile.TiffFileError)


class NumberImage:
    """An image with one whole number a pixel: PNG is held in memory, of TIFF windows are read.

    Args:
        path: of the file; a TIFF is read fast if it is tiled.

    Raises:
        TargetError: if it cannot be read, or has colours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pixels = None if path.suffix.lower() in _TIFF else self._whole()
        self.shape: tuple[int, int] = self._shape()

    def window(self, rows: slice, cols: slice) -> NDArray[np.integer[Any]]:
        """Some rows and columns."""
        if self._pixels is not None:
            return self._pixels[rows, cols]
        try:
            with tifffile.TiffFile(self.path) as tif:
                opened: Any = zarr.open(tif.aszarr(series=0, level=0), mode="r")
                return np.asarray(opened[rows, cols])
        except _BROKEN as error:
            raise self._broken(error) from error

    def _whole(self) -> NDArray[np.integer[Any]]:
        try:
            with Image.open(self.path) as image:
                pixels = np.asarray(image)
        except _BROKEN as error:
            raise self._broken(error) from error
        if pixels.dtype == bool:
            pixels = pixels.astype(np.uint8)
        self._require_numbers(pixels.shape, pixels.dtype)
        return pixels

    def _shape(self) -> tuple[int, int]:
        if self._pixels is not None:
            return self._pixels.shape
        try:
            with tifffile.TiffFile(self.path) as tif:
                level = tif.series[0].levels[0]
                self._require_numbers(level.shape, level.dtype)
                rows, cols = level.shape
                return rows, cols
        except (*_BROKEN, IndexError) as error:
            raise self._broken(error) from error

    def _require_numbers(self, shape: tuple[int, ...], dtype: Any) -> None:
        if len(shape) != 2 or not np.issubdtype(dtype, np.integer):
            raise TargetError(
                f"{self.path.name}: wanted one whole number a pixel, found {dtype} of shape "
                f"{shape}. Save it as a grey image of 8 or 16 bits."
            )

    def _broken(self, error: Exception) -> TargetError:
        return TargetError(f"{self.path.name}: cannot be read as an image ({error}).")


class _ImageTruth:
    """What images of either kind share.

    Args:
        image: that covers the slide, whatever its size.
        size_l0: (width, height) of the slide.
        slide_mpp: (x, y) micrometres per level-0 pixel.
    """

    def __init__(
        self, image: NumberImage, size_l0: tuple[int, int], slide_mpp: tuple[float, float]
    ) -> None:
        self._image, self._slide_mpp = image, slide_mpp
        width, height = size_l0
        self._image_px = width / image.shape[1], height / image.shape[0]

    def downsample(self, mpp: float) -> tuple[float, float]:
        """See `SlideTruth.downsample`."""
        return mpp / self._slide_mpp[0], mpp / self._slide_mpp[1]

    def _numbers(
        self,
        corner_l0: tuple[float, float],
        size_px: tuple[int, int],
        mpp: float,
        *,
        beyond: int,
        of: NumberImage | NDArray[np.int32] | None = None,
    ) -> NDArray[np.int32]:
        """What the image says under the centres of a window, and `beyond` outside it."""
        step = self.downsample(mpp)
        centres = Centres.of(corner_l0, size_px, step, image_px=self._image_px)
        found, known = within(size_px, beyond), centres.inside(self._image.shape)
        rows, cols = centres.rows[known[0]], centres.cols[known[1]]
        if not len(rows) or not len(cols):
            return found
        part = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
        source = self._image if of is None else of
        seen = source.window(*part) if isinstance(source, NumberImage) else source[part]
        found[known] = seen[np.ix_(rows - rows[0], cols - cols[0])]
        return found

    def _boxes_l0(self, numbered: NDArray[np.integer[Any]], most: int) -> NDArray[np.float64]:
        """Edges of what has each number; none of what has no pixel."""
        boxes = np.zeros((most, 4))
        for number, slices in enumerate(ndimage.find_objects(numbered, max_label=most)):
            if slices is not None:
                rows, cols = slices
                boxes[number] = cols.start, rows.start, cols.stop, rows.stop
        return boxes * (self._image_px * 2)


class InstanceImage(_ImageTruth):
    """Objects of class 1, by their numbers; 0 is background."""

    classes = 2

    def labels(
        self, x_l0: float, y_l0: float, size_px: tuple[int, int], mpp: float
    ) -> NDArray[np.uint8]:
        """See `SlideTruth.labels`."""
        numbers = self._numbers((x_l0, y_l0), size_px, mpp, beyond=-1)
        return np.where(numbers < 0, IGNORED, numbers > 0).astype(np.uint8)

    def instances(
        self, x_l0: float, y_l0: float, size_px: tuple[int, int], mpp: float
    ) -> NDArray[np.int32]:
        """See `SlideTruth.instances`."""
        return self._numbers((x_l0, y_l0), size_px, mpp, beyond=0)

    @cached_property
    def objects(self) -> TrueObjects:
        """All of them, by number; a number without a pixel has an empty box."""
        whole = self._image.window(slice(None), slice(None)).astype(np.int32)
        boxes = self._boxes_l0(whole, int(whole.max(initial=0)))
        return TrueObjects(np.ones(len(boxes), np.uint8), boxes)


class LabelImage(_ImageTruth):
    """Numbers of classes, 255 where none is known. Touching pixels of a class are one object.

    Args:
        image: that covers the slide.
        size_l0: (width, height) of the slide.
        slide_mpp: (x, y) micrometres per level-0 pixel.
        classes: how many there are.
    """

    def __init__(
        self,
        image: NumberImage,
        size_l0: tuple[int, int],
        slide_mpp: tuple[float, float],
        *,
        classes: int,
    ) -> None:
        super().__init__(image, size_l0, slide_mpp)
        self.classes = classes

    def labels(
        self, x_l0: float, y_l0: float, size_px: tuple[int, int], mpp: float
    ) -> NDArray[np.uint8]:
        """See `SlideTruth.labels`.

        Raises:
            TargetError: also for a number that is no class.
        """
        found = self._numbers((x_l0, y_l0), size_px, mpp, beyond=IGNORED)
        strange = found[(found < 0) | (found >= self.classes) & (found != IGNORED)]
        if strange.size:
            raise TargetError(
                f"{self._image.path.name}: holds the number {strange[0]}; wanted classes from 0 "
                f"to {self.classes - 1}, as annotations.classes names them, and {IGNORED} for what "
                "is not known."
            )
        return found.astype(np.uint8)

    def instances(
        self, x_l0: float, y_l0: float, size_px: tuple[int, int], mpp: float
    ) -> NDArray[np.int32]:
        """See `SlideTruth.instances`; the whole image is looked through once."""
        return self._numbers((x_l0, y_l0), size_px, mpp, beyond=0, of=self._parts[0])

    @property
    def objects(self) -> TrueObjects:
        """The connected parts of each class, pixels that touch by an edge being connected."""
        return self._parts[1]

    @cached_property
    def _parts(self) -> tuple[NDArray[np.int32], TrueObjects]:
        whole = self._image.window(slice(None), slice(None))
        numbered, classes = np.zeros(whole.shape, np.int32), [np.empty(0, np.uint8)]
        for number in range(1, self.classes):
            parts, count = ndimage.label(whole == number)
            numbered += np.where(parts > 0, parts + sum(map(len, classes)), 0).astype(np.int32)
            classes.append(np.full(count, number, np.uint8))
        of_each = np.concatenate(classes)
        return numbered, TrueObjects(of_each, self._boxes_l0(numbered, len(of_each)))
