"""Files of targets: points, images of maps, outlines. Nothing in them is ever executed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.pipeline.annotations.geojson import polygons_of
from saccade.pipeline.errors import TargetError
from saccade.pipeline.saliency.targets import Outline

SUFFIXES = {
    "fixations": (".csv",),
    "density": (".png", ".tif", ".tiff"),
    "annotations": (".geojson",),
}


def find_target(folder: Path, slide: str, kind: str) -> Path:
    """The file with the target of a slide.

    Raises:
        TargetError: if there is none.
    """
    wanted = [folder / f"{slide}{suffix}" for suffix in SUFFIXES[kind]]
    for path in wanted:
        if path.is_file():
            return path
    names = " or ".join(path.name for path in wanted)
    raise TargetError(f"{slide}: has no target in {folder}; wanted {names}.")


def read_points(path: Path) -> NDArray[np.float64]:
    """Points where people looked: a CSV table with the columns `x_l0` and `y_l0`.

    Returns:
        (n, 2), in level-0 pixels.

    Raises:
        TargetError: if the file has no such columns, or anything but numbers in them.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            points = [(float(row["x_l0"]), float(row["y_l0"])) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise TargetError(
            f"{path.name}: wanted a CSV table with the columns x_l0 and y_l0, numbers in level-0 "
            f"pixels ({type(error).__name__}: {error})."
        ) from error
    return np.array(points, np.float64).reshape(-1, 2)


def read_density(path: Path) -> NDArray[np.float32]:
    """An image of a map, the brighter the more; (rows, cols).

    Raises:
        TargetError: if it cannot be read, or has colours.
    """
    try:
        with Image.open(path) as image:
            if len(image.getbands()) != 1 or image.mode == "P":
                raise TargetError(
                    f"{path.name}: wanted a grey image, one value a pixel; it is {image.mode}."
                )
            return np.asarray(image, np.float32)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise TargetError(f"{path.name}: cannot be read as an image ({error}).") from error


def read_outlines(path: Path) -> list[list[Outline]]:
    """The polygons of a GeoJSON file, as QuPath writes it: each outline with those of its holes.

    Returns:
        In level-0 pixels. Lines and points, which hold no area, are passed over.

    Raises:
        TargetError: if it is no GeoJSON, or holds no polygon.
    """
    try:
        found = list(polygons_of(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise TargetError(
            f"{path.name}: cannot be read as GeoJSON ({type(error).__name__}: {error})."
        ) from error
    if not found:
        raise TargetError(f"{path.name}: holds no polygon; wanted outlines of areas.")
    return found
