"""The synthetic cohort: readable, repeatable, and hard from afar in exactly the way it promises."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import openslide
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from saccade.pipeline.demo.draw import Drawing, draw_slide, plan_slide
from saccade.pipeline.demo.layout import Ring
from saccade.pipeline.demo.lesions import inside, lesion_polygons, write_lesions
from saccade.pipeline.demo.slides import CohortFiles, CohortSettings, cohort_rows, make_cohort
from saccade.pipeline.demo.stains import Stain, colours, draw_stain
from saccade.pipeline.demo.textures import enlarge, smooth_noise
from saccade.pipeline.demo.tiff import write_pyramid
from saccade.pipeline.sheet import read_sheet


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> CohortFiles:
    return make_cohort(tmp_path_factory.mktemp("small"), slides=4, size_px=1024, workers=1)


@pytest.fixture(scope="module")
def drawing() -> Drawing:
    """A slide with lesions, large enough that its places have their true size."""
    return draw_slide(0, 3, lesion=True, size_px=4096, mpp=0.5)


@pytest.fixture(scope="module")
def twin() -> Drawing:
    """The same slide, benign."""
    return draw_slide(0, 3, lesion=False, size_px=4096, mpp=0.5)


def rgb_of(drawing: Drawing) -> NDArray[np.uint8]:
    return colours(drawing.stains, drawing.stain.table())


def afar(rgb: NDArray[np.uint8], block_px: int) -> NDArray[np.float64]:
    """Means over blocks: what a low level of a pyramid shows."""
    rows, cols = (n // block_px for n in rgb.shape[:2])
    blocks = rgb[: rows * block_px, : cols * block_px].reshape(rows, block_px, cols, block_px, 3)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float64)


def core_blocks(
    view: NDArray[np.float64], ring: Ring, block_px: int, *, share: float = 0.5
) -> NDArray[np.float64]:
    """Blocks well inside a ring."""
    rows, cols = np.indices(view.shape[:2]) * block_px + block_px / 2
    away = np.hypot(cols - ring.centre_l0[0], rows - ring.centre_l0[1])
    return view[away < share * ring.radii_l0.min()]


# Files


def test_openslide_reads_size_levels_and_mpp(small: CohortFiles) -> None:
    with openslide.OpenSlide(small.slides[0]) as slide:
        assert slide.level_dimensions == ((1024, 1024), (256, 256))
        assert float(slide.properties["openslide.mpp-x"]) == 0.5
        assert float(slide.properties["openslide.mpp-y"]) == 0.5


def test_a_larger_slide_has_levels_1_4_and_16(drawing: Drawing, tmp_path: Path) -> None:
    write_pyramid(tmp_path / "a.tiff", drawing, mpp=0.25)

    with openslide.OpenSlide(tmp_path / "a.tiff") as slide:
        assert slide.level_dimensions == ((4096, 4096), (1024, 1024), (256, 256))
        assert float(slide.properties["openslide.mpp-x"]) == 0.25


@pytest.mark.parametrize("mpp", [0.3, 1.0])
def test_cells_are_drawn_at_other_resolutions_too(mpp: float) -> None:
    seen = draw_slide(0, 0, lesion=True, size_px=2048, mpp=mpp)
    (x, y) = seen.layout.lesions[0].centre_l0
    assert seen.stains[int(y), int(x)].min() > 0


def test_written_colours_are_those_drawn_at_every_level(small: CohortFiles) -> None:
    row = cohort_rows(CohortSettings(slides=4, size_px=1024))[1]
    drawn = draw_slide(0, 1, lesion=row.label == "lesion", size_px=1024, mpp=0.5)
    rgb = rgb_of(drawn)
    with openslide.OpenSlide(small.slides[1]) as slide:
        finest, coarse = (
            np.asarray(slide.read_region((0, 0), level, size).convert("RGB"), float)
            for level, size in enumerate(slide.level_dimensions)
        )
    # The glass adds up to three levels of stain to every pixel; JPEG does the rest.
    assert np.abs(afar(finest, 16) - afar(rgb, 16)).mean() < 4
    assert np.abs(coarse - afar(rgb, 4)).mean() < 5
    assert np.corrcoef(coarse.ravel(), afar(rgb, 4).ravel())[0, 1] > 0.98


def test_pink_tissue_and_violet_places_on_bright_glass(drawing: Drawing) -> None:
    rgb = rgb_of(drawing)
    depth = enlarge(drawing.layout.depth_l0, 0, 0, (4096, 4096))
    glass, tissue = rgb[depth < -40].mean(axis=0), rgb[depth > 40].mean(axis=0)
    assert glass.min() > 225
    assert tissue[0] > tissue[2] > tissue[1]
    for ring in drawing.layout.foci:
        red, green, blue = core_blocks(afar(rgb, 8), ring, 8).mean(axis=0)
        assert blue > red > green


def test_same_bytes_whatever_the_number_of_workers(small: CohortFiles, tmp_path: Path) -> None:
    files = make_cohort(tmp_path, slides=4, size_px=1024, workers=2)

    for one, two in zip(small.slides + small.lesions, files.slides + files.lesions, strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert small.sheet.read_bytes() == files.sheet.read_bytes()


def test_another_seed_gives_another_slide(small: CohortFiles, tmp_path: Path) -> None:
    files = make_cohort(tmp_path, slides=4, size_px=1024, seed=1, workers=1)

    assert small.slides[0].read_bytes() != files.slides[0].read_bytes()


def test_only_what_is_missing_is_made(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    files = make_cohort(tmp_path, slides=3, size_px=1024, workers=1)
    kept, lost = files.slides[0], files.slides[1]
    made_first, before = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    make_cohort(
        tmp_path, slides=3, size_px=1024, workers=1, progress=lambda *done: seen.append(done)
    )

    assert kept.stat().st_mtime_ns == made_first
    assert lost.read_bytes() == before
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_folder_of_another_cohort_is_refused(small: CohortFiles) -> None:
    with pytest.raises(ValueError, match="holds a cohort made otherwise"):
        make_cohort(small.sheet.parent, slides=4, size_px=1024, seed=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slides": 2}, "at least 3 slides"),
        ({"size_px": 1000}, "multiple of 1024"),
        ({"mpp": 2.0}, "0.2 to 1 um/px"),
        ({"size_px": 1024, "mpp": 0.25}, "at least 400 um wide"),
        ({"seed": -1}, "must not be negative"),
        ({"workers": 0}, "at least one worker"),
    ],
)
def test_impossible_cohorts_are_refused(
    tmp_path: Path, change: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make_cohort(tmp_path / "new", **change)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


# The sheet


def test_the_sheet_is_one_that_the_pipeline_reads(small: CohortFiles) -> None:
    with small.sheet.open(newline="") as file:
        assert next(csv.reader(file)) == ["slide", "path", "label", "patient", "split", "mpp"]
    rows = read_sheet(small.sheet)
    assert [small.sheet.parent / row.path for row in rows] == list(small.slides)
    assert {row.label for row in rows} == {"benign", "lesion"}
    assert all(row.mpp is None for row in rows)


@given(st.integers(3, 80), st.integers(0, 5))
def test_labels_are_balanced_overall_and_in_every_split(slides: int, seed: int) -> None:
    rows = cohort_rows(CohortSettings(slides=slides, seed=seed))
    assert sum(row.label == "lesion" for row in rows) == slides // 2
    for split in ("train", "val", "test"):
        dealt = [row.label == "lesion" for row in rows if row.split == split]
        assert dealt
        assert abs(2 * sum(dealt) - len(dealt)) <= 1 or slides < 6


def test_32_slides_are_dealt_17_4_11() -> None:
    splits = [row.split for row in cohort_rows(CohortSettings())]
    assert [splits.count(name) for name in ("train", "val", "test")] == [17, 4, 11]


# What lies where


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_label_changes_nothing_but_the_kind_of_one_or_two_places(index: int) -> None:
    with_lesion = plan_slide(0, index, lesion=True, size_px=4096, mpp=0.5)
    benign = plan_slide(0, index, lesion=False, size_px=4096, mpp=0.5)

    centres = {ring.centre_l0 for ring in with_lesion.foci + with_lesion.lesions}
    assert centres == {ring.centre_l0 for ring in benign.foci}
    assert benign.lesions == ()
    assert 1 <= len(with_lesion.lesions) <= 2
    assert with_lesion.foci
    assert np.array_equal(benign.depth_l0, with_lesion.depth_l0)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1000))
def test_lesions_are_under_2_percent_of_the_tissue_and_lie_in_it(index: int) -> None:
    layout = plan_slide(0, index, lesion=True, size_px=8192, mpp=0.5)
    tissue_l0 = (layout.depth_l0 > 0).sum() * 16**2
    lesion_l0 = 0.0
    for ring in layout.lesions:
        (x, y), ahead = ring.corners_l0().T, np.roll(ring.corners_l0(), -1, axis=0).T
        lesion_l0 += float((x * ahead[1] - ahead[0] * y).sum()) / 2
        assert 190 < 2 * np.sqrt(lesion_l0 / np.pi) * 0.5 < 450
    assert lesion_l0 < 0.02 * tissue_l0
    assert 0.25 < tissue_l0 / 8192**2 < 0.45
    for ring in layout.lesions + layout.foci:
        cells = np.floor(ring.corners_l0() / 16).astype(int)
        assert (layout.depth_l0[cells[:, 1], cells[:, 0]] > 0).all()
    assert 2 <= len(layout.foci) <= 7


def test_places_do_not_overlap() -> None:
    layout = plan_slide(0, 11, lesion=True, size_px=8192, mpp=0.5)
    rings = layout.foci + layout.lesions
    for i, one in enumerate(rings):
        for other in rings[:i]:
            apart = np.hypot(*np.subtract(one.centre_l0, other.centre_l0))
            assert apart > one.reach_l0 + other.reach_l0


def test_lesions_on_file_are_where_the_large_nuclei_are(small: CohortFiles) -> None:
    rows = cohort_rows(CohortSettings(slides=4, size_px=1024))
    for row, path in zip(rows, small.lesions, strict=True):
        layout = plan_slide(0, row.index, lesion=row.label == "lesion", size_px=1024, mpp=0.5)
        polygons = lesion_polygons(path)
        assert len(polygons) == len(layout.lesions)
        assert bool(polygons) == (row.label == "lesion")
        for polygon, ring in zip(polygons, layout.lesions, strict=True):
            np.testing.assert_allclose(polygon, ring.corners_l0(), atol=0.0051)
        lesion_centres = np.array([ring.centre_l0 for ring in layout.lesions]).reshape(-1, 2)
        focus_centres = np.array([ring.centre_l0 for ring in layout.foci]).reshape(-1, 2)
        assert inside(polygons, lesion_centres).all()
        assert not inside(polygons, focus_centres).any()


# From afar and near by


@pytest.mark.parametrize("mpp", [4, 8, 16])
def test_from_afar_a_slide_with_lesions_looks_like_its_benign_twin(
    drawing: Drawing, twin: Drawing, mpp: int
) -> None:
    """The promise of the demo: a glance finds the places, and cannot judge them."""
    seen, benign = (afar(rgb_of(d), mpp * 2) for d in (drawing, twin))
    assert np.abs(seen - benign)[..., :2].max() < 1.5  # of 255, in red and green
    assert np.abs(seen - benign)[..., 2].max() < 8
    for ring in drawing.layout.lesions:
        lesion, focus = (core_blocks(view, ring, mpp * 2) for view in (seen, benign))
        assert np.abs(lesion.mean(axis=0) - focus.mean(axis=0)).max() < 0.5


@pytest.mark.parametrize("mpp", [4, 16])
def test_from_afar_lesions_look_like_the_foci_of_their_slide(drawing: Drawing, mpp: int) -> None:
    seen = afar(rgb_of(drawing), mpp * 2)
    foci = [core_blocks(seen, ring, mpp * 2) for ring in drawing.layout.foci]
    means = np.array([focus.mean(axis=0) for focus in foci])
    for ring in drawing.layout.lesions:
        lesion = core_blocks(seen, ring, mpp * 2)
        assert np.abs(lesion.mean(axis=0) - means.mean(axis=0)).max() < 5
        if mpp == 4:
            spread = np.mean([focus.std(axis=0) for focus in foci], axis=0)
            assert (np.abs(lesion.std(axis=0) / spread - 1) < 0.2).all()


def test_near_by_a_slide_and_its_twin_differ_in_the_lesions_alone(
    drawing: Drawing, twin: Drawing
) -> None:
    difference = np.abs(rgb_of(drawing).astype(int) - rgb_of(twin)).max(axis=2)
    rows, cols = np.nonzero(difference)
    near_one = np.zeros(len(rows), bool)
    for ring in drawing.layout.lesions:
        away = np.hypot(cols - ring.centre_l0[0], rows - ring.centre_l0[1])
        near_one |= away < ring.reach_l0 + 16
    assert near_one.all()
    for ring in drawing.layout.lesions:
        assert core_blocks(difference[..., None].astype(float), ring, 1).mean() > 15


# Parts


def test_glass_without_stain_shows_the_light(drawing: Drawing) -> None:
    stain = draw_stain(np.random.default_rng(0))
    bare = colours(np.zeros((3, 2, 2), np.uint8), stain.table())
    assert bare.shape == (3, 2, 3)
    np.testing.assert_allclose(bare[0, 0], stain.glass, atol=0.51)


@given(st.integers(0, 255), st.integers(0, 255))
def test_colours_follow_beer_and_lambert(h: int, e: int) -> None:
    stain = Stain((0.6, 0.7, 0.3), (0.1, 0.9, 0.4), (240, 241, 242))
    got = colours(np.array([[[h, e]]], np.uint8), stain.table())[0, 0]
    absorbed = h / 100 * np.array(stain.hematoxylin) + e / 100 * np.array(stain.eosin)
    np.testing.assert_allclose(got, np.array(stain.glass) * np.exp(-absorbed), atol=0.501)


def test_impossible_stains_are_refused() -> None:
    with pytest.raises(ValueError, match="do not emit"):
        Stain((-0.1, 0.5, 0.5), (0.1, 0.9, 0.4), (240, 240, 240))
    with pytest.raises(ValueError, match="within 0 and 255"):
        Stain((0.1, 0.5, 0.5), (0.1, 0.9, 0.4), (240, 240, 300))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 9))
def test_enlarging_keeps_a_slope_between_cell_centres(y: int, x: int, cell_px: int) -> None:
    rows, cols = np.indices((20, 30), dtype=np.float32)
    got = enlarge(2 * rows - cols, y, x, (5, 7), cell_px)
    row = np.clip((np.arange(y, y + 5) + 0.5) / cell_px - 0.5, 0, 19)
    col = np.clip((np.arange(x, x + 7) + 0.5) / cell_px - 0.5, 0, 29)
    np.testing.assert_allclose(got, 2 * row[:, None] - col, atol=1e-4)


def test_noise_has_mean_0_and_variance_1_and_is_smoother_along_its_fibres() -> None:
    noise = smooth_noise(np.random.default_rng(0), (128, 96), along=8, across=1)
    assert abs(noise.mean()) < 1e-5
    assert noise.std() == pytest.approx(1, abs=1e-5)
    assert np.abs(np.diff(noise, axis=1)).mean() < 0.5 * np.abs(np.diff(noise, axis=0)).mean()


def test_lesions_come_back_as_written_and_close_for_qupath(tmp_path: Path) -> None:
    triangle = np.array([[10.25, 20.5], [300.0, 40.0], [100.0, 500.75]])
    write_lesions(tmp_path / "a.geojson", [triangle])

    (back,) = lesion_polygons(tmp_path / "a.geojson")
    np.testing.assert_array_equal(back, triangle)
    feature = json.loads((tmp_path / "a.geojson").read_text())["features"][0]
    ring = feature["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]
    # QuPath drops a whole file in which one classification has no colour.
    assert feature["properties"]["classification"]["color"] == [200, 0, 0]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_text('{"type": "FeatureCollection"}')
    with pytest.raises(ValueError, match=re.escape("a.geojson: wanted a FeatureCollection")):
        lesion_polygons(tmp_path / "a.geojson")


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_inside_agrees_with_the_circle_that_a_ring_follows(x: float, y: float) -> None:
    ring = Ring((0.0, 0.0), np.full(96, 1.0))
    radius = np.hypot(x, y)
    if abs(radius - 1) > 0.01:
        assert inside([ring.corners_l0()], np.array([[x, y]]))[0] == (radius < 1)
        depth = ring.depth_l0(np.array([x], np.float32), np.array([y], np.float32))[0]
        assert depth == pytest.approx(1 - radius, abs=1e-5)
