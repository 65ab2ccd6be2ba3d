"""Annotations say what lies under the centre of each pixel: held against looking pixel by pixel."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile
from numpy.typing import NDArray
from PIL import Image

from saccade.pipeline.annotations.config import AnnotationsConfig
from saccade.pipeline.annotations.open_truth import open_truth
from saccade.pipeline.annotations.outlines import inside_rings
from saccade.pipeline.annotations.truth import IGNORED, Centres, SlideTruth
from saccade.pipeline.errors import ConfigError, TargetError
from saccade.tiling import open_slide

SIZE_L0 = (60, 40)
CLASSES = ("background", "tumour", "stroma")
WINDOWS = [
    (0.0, 0.0, (60, 40), 0.5),
    (-7.0, 13.0, (31, 17), 0.5),
    (3.25, -2.5, (20, 30), 0.5),
    (5.0, 2.0, (15, 11), 1.5),  # three pixels in one
    (-4.0, -4.0, (33, 27), 1.0),  # centres on edges
    (1.5, 0.5, (23, 19), 0.73),
    (20.0, 20.0, (40, 40), 0.2),
    (100.0, 0.0, (5, 5), 0.5),
]


def truth_of(folder: Path, kind: Any, **options: Any) -> SlideTruth:
    slide = open_slide(np.zeros((*SIZE_L0[::-1], 3), np.uint8), mpp=0.5)
    return open_truth(AnnotationsConfig(kind=kind, folder=str(folder), **options), "s", slide)


def centre(corner: float, number: int, mpp: float) -> float:
    """Of a pixel of the window, in level-0 pixels of 0.5 um."""
    return corner + (number + 0.5) * mpp / 0.5


def under(image: NDArray[Any], x_l0: float, y_l0: float, beyond: int) -> int:
    """What an image that covers the slide has at a place."""
    row = math.floor(y_l0 * image.shape[0] / SIZE_L0[1] + 1e-9)
    col = math.floor(x_l0 * image.shape[1] / SIZE_L0[0] + 1e-9)
    if 0 <= row < image.shape[0] and 0 <= col < image.shape[1]:
        return int(image[row, col])
    return beyond


def save(path: Path, image: NDArray[Any]) -> None:
    if path.suffix == ".tif":
        tifffile.imwrite(path, image, tile=(16, 16))
    else:
        Image.fromarray(image).save(path)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("shape", [(40, 60), (20, 30), (10, 20), (13, 19), (80, 120)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_images_of_any_size_show_what_lies_under_each_centre(
    window: Any, shape: tuple[int, int], suffix: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    classes = rng.choice([0, 1, 2, IGNORED], shape).astype(np.uint8)
    numbers = rng.integers(0, 300, shape).astype(np.uint16)
    save(tmp_path / f"s_labels{suffix}", classes)
    save(tmp_path / f"s_instances{suffix}", numbers)
    labelled = truth_of(tmp_path, "labels", suffix=f"_labels{suffix}", classes=CLASSES)
    numbered = truth_of(tmp_path, "instances", suffix=f"_instances{suffix}")
    x, y, (width, height), mpp = window

    seen = labelled.labels(*window)
    instances, objects = numbered.instances(*window), numbered.labels(*window)

    for row in range(height):
        for col in range(width):
            at = centre(x, col, mpp), centre(y, row, mpp)
            assert seen[row, col] == under(classes, *at, beyond=IGNORED)
            number = under(numbers, *at, beyond=-1)
            assert instances[row, col] == max(number, 0)
            assert objects[row, col] == (IGNORED if number < 0 else number > 0)


def test_a_centre_on_an_edge_is_on_it_whatever_rounding_says() -> None:
    """A pixel spans six of level 0, or 5.999999999999999; its centre is where the fourth begins."""
    assert Centres.of((0, 0), (2, 1), (0.6 / 0.1, 6)).cols.tolist() == [3, 9]


def feature(name: str | None, *rings: Any) -> dict[str, Any]:
    said = {} if name is None else {"classification": {"name": name}}
    geometry = {"type": "Polygon", "coordinates": [list(map(list, ring)) for ring in rings]}
    return {"type": "Feature", "geometry": geometry, "properties": said}


def write_outlines(path: Path, *features: dict[str, Any]) -> None:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))


TUMOUR = [(4.3, 3.1), (50.2, 7.7), (44.9, 36.4), (9.8, 30.2)]
HOLE = [(15.1, 12.2), (29.7, 11.3), (26.4, 23.9)]
STROMA = [(20.4, 8.3), (40.1, 9.9), (35.6, 33.2)]
OUTSIDE = [(48.5, -10.0), (80.0, -10.0), (80.0, 20.0)]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("unannotated", ["background", "ignored"])
def test_outlines_hold_the_centres_inside_them(
    window: Any, unannotated: Any, tmp_path: Path
) -> None:
    write_outlines(
        tmp_path / "s.geojson",
        feature("stroma", STROMA),  # smaller, and so on top, whatever the order
        feature("tumour", TUMOUR, HOLE),
        feature("Ignore*", OUTSIDE),
    )
    truth = truth_of(tmp_path, "outlines", classes=CLASSES, unannotated=unannotated)
    shapes = [
        (2, shapely.Polygon(STROMA)),
        (IGNORED, shapely.Polygon(OUTSIDE)),
        (1, shapely.Polygon(TUMOUR, [HOLE])),
    ]
    x, y, (width, height), mpp = window

    seen = truth.labels(*window)

    for row in range(height):
        for col in range(width):
            at = centre(x, col, mpp), centre(y, row, mpp)
            inside = [number for number, area in shapes if area.contains(shapely.Point(at))]
            wanted = [*inside, 0 if unannotated == "background" else IGNORED][0]
            if not (0 <= at[0] < SIZE_L0[0] and 0 <= at[1] < SIZE_L0[1]):
                wanted = IGNORED
            assert seen[row, col] == wanted, (row, col)


def test_areas_that_share_edges_share_no_pixel_and_leave_none_out() -> None:
    """Also where edges run through centres, drawn in either sense."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        knots = np.sort(rng.integers(0, 21, 4)) / 2
        across = [(x, float(rng.integers(-4, 25)) / 2) for x in (0.0, *knots, 10.0)]
        above = [(0.0, -9.0), *across, (10.0, -9.0)]
        below = [(0.0, 19.0), *across, (10.0, 19.0)]
        both = [
            inside_rings([np.array(each[:: rng.choice([-1, 1])])], (10, 10))
            for each in (above, below)
        ]
        assert (both[0] ^ both[1]).all()


def test_a_centre_on_an_outline_belongs_to_what_begins_there() -> None:
    square = np.array([(0.5, 0.5), (2.5, 0.5), (2.5, 2.5), (0.5, 2.5)])

    assert np.argwhere(inside_rings([square], (4, 4))).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_instances_of_outlines_have_their_boxes_and_classes(tmp_path: Path) -> None:
    write_outlines(tmp_path / "s.geojson", feature("stroma", STROMA), feature("tumour", TUMOUR))
    truth = truth_of(tmp_path, "outlines", classes=CLASSES)

    assert truth.objects.classes.tolist() == [1, 2]
    assert truth.objects.boxes_l0.tolist() == [[4.3, 3.1, 50.2, 36.4], [20.4, 8.3, 40.1, 33.2]]
    numbers = truth.instances(0, 0, SIZE_L0, 0.5)
    assert set(np.unique(numbers)) == {0, 1, 2}
    np.testing.assert_array_equal(numbers, truth.labels(0, 0, SIZE_L0, 0.5))


def test_connected_pixels_of_a_class_are_an_object(tmp_path: Path) -> None:
    classes = np.zeros((20, 30), np.uint8)
    classes[2:5, 3:7], classes[5:8, 7:9], classes[2:4, 7:12] = 1, 1, 2
    classes[10:, 20:] = IGNORED
    save(tmp_path / "s_labels.png", classes)
    truth = truth_of(tmp_path, "labels", classes=CLASSES)

    assert truth.objects.classes.tolist() == [1, 1, 2]
    # Pixels of the image are two of the slide.
    assert truth.objects.boxes_l0.tolist() == [[6, 4, 14, 10], [14, 10, 18, 16], [14, 4, 24, 8]]
    numbers = truth.instances(0, 0, SIZE_L0, 0.5)[::2, ::2]
    assert [numbers[2, 3], numbers[5, 7], numbers[2, 7], numbers[15, 25]] == [1, 2, 3, 0]


def test_numbered_objects_have_their_boxes(tmp_path: Path) -> None:
    numbers = np.zeros((40, 60), np.uint16)
    numbers[3:9, 10:30], numbers[20:, 50:] = 3, 1
    save(tmp_path / "s_instances.png", numbers)

    objects = truth_of(tmp_path, "instances").objects

    assert objects.classes.tolist() == [1, 1, 1]
    assert objects.boxes_l0.tolist() == [[50, 20, 60, 40], [0, 0, 0, 0], [10, 3, 30, 9]]


def test_an_outline_without_a_name_is_of_the_only_class(tmp_path: Path) -> None:
    write_outlines(tmp_path / "s.geojson", feature(None, STROMA))

    assert truth_of(tmp_path, "outlines").objects.classes.tolist() == [1]
    with pytest.raises(TargetError, match="an outline without a classification; wanted one of"):
        truth_of(tmp_path, "outlines", classes=CLASSES)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"s: has no annotations; wanted s\.geojson in"):
        truth_of(tmp_path, "outlines")
    write_outlines(tmp_path / "s.geojson", feature("necrosis", STROMA))
    with pytest.raises(TargetError, match="the class 'necrosis'; wanted one of"):
        truth_of(tmp_path, "outlines", classes=CLASSES)
    (tmp_path / "s.geojson").write_text("{}")
    with pytest.raises(TargetError, match="cannot be read as GeoJSON"):
        truth_of(tmp_path, "outlines")
    save(tmp_path / "s_instances.png", np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(TargetError, match="wanted one whole number a pixel"):
        truth_of(tmp_path, "instances")
    for name in ("s_labels.png", "s_labels.tif"):
        (tmp_path / name).write_text("no image")
        with pytest.raises(TargetError, match="cannot be read as an image"):
            truth_of(tmp_path, "labels", suffix=name[1:])


def test_a_number_that_is_no_class_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "s_labels.png", np.full((40, 60), 3, np.uint8))

    with pytest.raises(TargetError, match="holds the number 3; wanted classes from 0 to 2"):
        truth_of(tmp_path, "labels", classes=CLASSES).labels(0, 0, SIZE_L0, 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("background",)}, "2 to 255 different names"),
        ({"classes": ("a", "a"), "kind": "labels"}, "2 to 255 different names"),
        ({"classes": CLASSES}, "kind instances has objects of one class"),
        ({"unannotated": "ignored"}, "unannotated ignored goes with outlines"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AnnotationsConfig(**change)
