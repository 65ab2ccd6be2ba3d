"""Objects and patches of a class map, whatever blocks it is gone through in."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from saccade.pipeline.objects.batch import ObjectBatch
from saccade.pipeline.objects.store import joined
from saccade.pipeline.segment.annotations import Annotations
from saccade.pipeline.segment.areas import Places, areas_of
from saccade.pipeline.segment.class_map import ClassMap
from saccade.pipeline.segment.objects import AREA, ObjectFinder, Size
from saccade.pipeline.segment.shapes import Drawing
from saccade.pipeline.segment.splitting import split_of
from saccade.pipeline.segment.where import Where
from saccade.pipeline.stages.field import Field
from saccade.pipeline.stages.limit import AllOf, Limit
from saccade.pipeline.stages.region_of_interest import Region, Within
from saccade.tiling.grid import CellGrid
from tests.segment_model import SMALL

MPP = 0.5
CELL_L0 = (2.0005, 2.0005)  # real scanners write such levels
ROWS, COLS = 300, 400
BLOCKS = (64, 100, 512)


def class_map(labels: NDArray[np.integer], regions: Sequence[Region] = ()) -> ClassMap:
    """A field that is sure of its classes, 0.9 each."""
    values = np.full((3, *labels.shape), 0.05, np.float16)
    np.put_along_axis(values, labels[None].astype(int), np.float16(0.9), axis=0)
    grid = CellGrid((labels.shape[0], labels.shape[1]), CELL_L0)
    field = Field(
        values=values,
        valid=np.ones(labels.shape, bool),
        grid=grid,
        slide_mpp=(MPP / CELL_L0[0],) * 2,
        kind="probability",
        channels=SMALL.classes,
    )
    limit = Limit(np.ones((1, 1), bool), max(labels.shape))
    union = shapely.union_all([each.shape for each in regions])
    counts = Within(union, grid) if regions else AllOf(())
    return ClassMap(field, SMALL, Where(limit, counts, tuple(regions)))


def discs(centres: NDArray[np.integer], radius: float, label: int = 2) -> NDArray[np.uint8]:
    labels = np.zeros((ROWS, COLS), np.uint8)
    rows, cols = np.ogrid[:ROWS, :COLS]
    for row, col in centres:
        labels[np.hypot(rows + 0.5 - row, cols + 0.5 - col) < radius] = label
    return labels


def objects_of(of: ClassMap, block: int, **size: int) -> tuple[ObjectBatch, NDArray[np.int64]]:
    split = split_of(SMALL)
    assert split is not None
    finder = ObjectFinder(
        of,
        split,
        Places(of.where.regions, of.field.grid),
        Drawing(of.field.grid, 0.0),
        Size(4, block, **size),
    )
    return joined(list(finder.batches())), finder.counts


def annotations_of(of: ClassMap, **drawing: float) -> Iterator[dict[str, object]]:
    places = Places(of.where.regions, of.field.grid)
    form = Drawing(of.field.grid, **{"simplify_px": 0.0, **drawing})
    return Annotations(of, places, form, slide_id="s").features()


def apart(centres: Iterable[tuple[int, int]], least: float) -> NDArray[np.int64]:
    """Those of some places that lie apart from all before."""
    kept: list[tuple[int, int]] = []
    for row, col in centres:
        if all(np.hypot(row - r, col - c) > least for r, c in kept):
            kept.append((row, col))
    return np.array(kept)


ON_CORNERS = apart(
    [
        *product(range(64, ROWS, 64), range(64, COLS, 64)),
        *product(range(100, ROWS, 100), range(100, COLS, 100)),
        *((50, row) for row in range(20, COLS, 30)),
        *((100, col) for col in range(20, COLS, 30)),
    ],
    least=17,
)


@pytest.mark.parametrize("block", BLOCKS)
def test_objects_on_the_corners_and_edges_of_blocks_count_once(block: int) -> None:
    labels = discs(ON_CORNERS, 7)
    _, wanted = ndimage.label(labels)

    found, counts = objects_of(class_map(labels), block)

    assert len(found) == counts[0] == wanted == len(ON_CORNERS)
    assert found.measurements[AREA].sum() == pytest.approx((labels == 2).sum() * MPP**2, rel=1e-6)
    np.testing.assert_allclose(found.scores, 0.9, atol=1e-3)


def test_touching_objects_are_parted_alike_in_all_blocks() -> None:
    """Chains across seams, of discs that overlap."""
    chain = np.array([(64 + 10 * i % 90, 40 + 12 * i) for i in range(25)])
    of = class_map(discs(chain, 8))

    outcomes = [objects_of(of, block)[0] for block in BLOCKS]

    assert len({len(each) for each in outcomes}) == 1
    assert 20 <= len(outcomes[0]) <= 25
    areas = [np.sort(each.measurements[AREA]) for each in outcomes]
    np.testing.assert_array_equal(areas[0], areas[1])
    np.testing.assert_array_equal(areas[0], areas[2])


def test_an_area_that_is_too_long_is_split_in_pieces_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("saccade.pipeline.segment.objects.PIECE_PX", 100)
    monkeypatch.setattr("saccade.pipeline.segment.objects.MARGIN_PX", 32)
    chain = np.array([(150, 20 + 13 * i) for i in range(28)])
    of = class_map(discs(chain, 8))

    whole, pieces = objects_of(of, 64)[0], objects_of(of, 64, longest_px=200)[0]

    assert len(whole) == len(pieces) == 28
    assert pieces.measurements[AREA].sum() == whole.measurements[AREA].sum()


def test_an_object_belongs_to_the_region_that_holds_its_centre() -> None:
    labels = discs(np.array([(20, 50), (50, 99), (80, 101), (150, 50)]), 7)
    left = Region("left", shapely.box(0, 0, 100 * CELL_L0[0], 100 * CELL_L0[1]))

    found, counts = objects_of(class_map(labels, [left]), 64)

    assert counts.tolist() == [2, 2]
    assert len(found) == 2


@pytest.mark.parametrize("block", BLOCKS)
def test_areas_are_those_of_the_cells(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.pipeline.segment.class_map.BLOCK_PX", block)
    labels = discs(np.array([(60, 80), (200, 250)]), 50, label=1)
    regions = [
        Region("all of it", shapely.box(0, 0, 1000, 1000)),
        Region("the left", shapely.box(0, 0, 200 * CELL_L0[0], 1000)),
    ]
    of = class_map(labels, regions)

    areas = areas_of(of, Places(regions, of.field.grid))

    assert areas.names == ("all", "all of it", "the left")
    for row, cols in enumerate((COLS, COLS, 200)):
        wanted = np.bincount(labels[:, :cols].ravel(), minlength=3)
        np.testing.assert_array_equal(areas.cells[row], wanted)
    np.testing.assert_allclose(areas.small.values[1], np.where(labels == 1, 0.9, 0.05), atol=1e-3)


def shape_of(feature: dict[str, object]) -> shapely.Geometry:
    return shapely.geometry.shape(feature["geometry"])


def test_an_outline_is_exact_and_says_so() -> None:
    labels = discs(np.array([(150, 200)]), 120, label=1) - discs(
        np.array([(150, 200)]), 60, label=1
    )

    (feature,) = annotations_of(class_map(labels))

    shape = shape_of(feature)
    cells = np.count_nonzero(labels)
    assert len(shape.interiors) == 1
    assert shape.area == pytest.approx(cells * CELL_L0[0] * CELL_L0[1], rel=1e-5)
    properties = feature["properties"]
    assert properties["measurements"] == {"area mm2": pytest.approx(cells * MPP**2 / 1e6, rel=1e-5)}
    assert properties["classification"]["name"] == "gland"
    assert len(properties["classification"]["color"]) == 3


def test_simpler_outlines_stay_near_and_valid() -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(ROWS, COLS)), 4)
    of = class_map((noise > 0).astype(np.uint8))

    exact, simple = (
        [shape_of(each) for each in annotations_of(of, simplify_px=px)] for px in (0.0, 1.5)
    )

    assert shapely.is_valid(simple).all()
    near = 1.5 * CELL_L0[0] + 0.01
    for before, after in zip(exact, simple, strict=True):
        assert before.boundary.within(after.boundary.buffer(near))
    assert sum(map(shapely.get_num_coordinates, simple)) < 0.5 * sum(
        map(shapely.get_num_coordinates, exact)
    )


def test_specks_and_pinholes_are_left_out() -> None:
    labels = discs(np.array([(100, 100)]), 40, label=1)
    labels[100, 100] = labels[250, 250] = 0
    labels[10:12, 10:12] = 1

    (feature,) = annotations_of(class_map(labels), least_cells=10.0)

    assert not shape_of(feature).interiors
    assert len(list(annotations_of(class_map(labels)))) == 2
