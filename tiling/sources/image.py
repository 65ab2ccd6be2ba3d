"""A plain PNG, JPEG or BMP, decoded whole: fine for a photograph, and refused beyond that."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from saccade.tiling.colour import over_white, to_rgb, to_uint8
from saccade.tiling.errors import UnreadableSlideError
from saccade.tiling.source import RGB, Level, SlideInfo
from saccade.tiling.sources.array import ArraySource

MOST_PIXELS = 2**27  # 134 megapixels: 0.4 GB as RGB, twice that while it is decoded


def open_image(path: Path) -> ArraySource:
    """Open an image file as a slide of one level.

    Dots per inch of a picture say how to print it, not what was under the microscope: they are
    no mpp.

    Raises:
        UnreadableSlideError: if it cannot be decoded, or has more than `MOST_PIXELS` pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's own, lower size limit, and odd metadata
            image = Image.open(path, formats=("PNG", "JPEG", "BMP"))
        with image:
            _refuse_large(image, path)
            pixels = _rgb(image)
            icc_profile = image.info.get("icc_profile")
    except Image.DecompressionBombError as error:
        raise _too_large(path, str(error)) from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableSlideError(
            f"{path.name}: an image whose pixels cannot be decoded ({error}). "
            "The file is damaged or cut short: copy it again from where it came."
        ) from error
    rows, cols, _ = pixels.shape
    info = SlideInfo(
        levels=(Level(cols, rows, 1.0),), reader="image", icc_profile=icc_profile or None
    )
    return ArraySource(pixels, info)


def _refuse_large(image: Image.Image, path: Path) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise _too_large(path, f"{image.width} x {image.height} pixels")


def _too_large(path: Path, found: str) -> UnreadableSlideError:
    return UnreadableSlideError(
        f"{path.name}: a plain image is decoded whole, which is allowed up to {MOST_PIXELS} "
        f"pixels; found {found}. Convert it to a tiled TIFF, for example: "
        f"vips tiffsave {path.name} slide.tif --tile --pyramid --compression jpeg"
    )


def _rgb(image: Image.Image) -> RGB:
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip
        grey = np.asarray(image).astype(np.uint16)
        return to_rgb(to_uint8(grey, 16)[..., None])
    if image.has_transparency_data:
        return over_white(np.asarray(image.convert("RGBA")))
    return np.asarray(image.convert("RGB"))
