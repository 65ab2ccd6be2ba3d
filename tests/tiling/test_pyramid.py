import json
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from ome_zarr_models.v05 import Image, ImageLabel, Labels

from saccade.tiling import open_slide
from saccade.tiling.area import halve
from saccade.tiling.errors import MissingMppError, PyramidError, UnreadableSlideError
from saccade.tiling.pyramid import Pyramid, PyramidSettings, build_pyramid
from saccade.tiling.slide import Slide
from saccade.tiling.source import Level, SlideInfo, Source
from saccade.tiling.tissue import TissueSettings
from tests.slides import tissue_like, write_large_flat_tiff, write_pyramid_tiff

RGB = NDArray[np.uint8]


class Recorder(Source):
    """A format with several levels that notes what is read from it, and may fail on the way."""

    def __init__(
        self, pixels: RGB, steps: tuple[int, ...], reads_before_failure: int = 999
    ) -> None:
        self.images = [pixels[::step, ::step] for step in steps]
        levels = tuple(
            Level(image.shape[1], image.shape[0], float(step))
            for image, step in zip(self.images, steps, strict=True)
        )
        self.info = SlideInfo(levels=levels, reader="array", mpp=(0.5, 0.5))
        self.reads: list[tuple[int, int]] = []  # level, source pixels
        self.left = reads_before_failure

    def pitch_px(self, level: int) -> float:
        return 1.0

    def read_level(self, level: int, x_px: float, y_px: float, size_px: tuple[int, int]) -> RGB:
        self.left -= 1
        if self.left < 0:
            raise UnreadableSlideError("a broken tile")
        self.reads.append((level, size_px[0] * size_px[1]))
        x, y = int(x_px), int(y_px)
        return self.images[level][y : y + size_px[1], x : x + size_px[0]].copy()

    def associated_images(self) -> Mapping[str, RGB]:
        return {}

    def close(self) -> None:
        pass


def recorded(pixels: RGB, *steps: int, **options: int) -> tuple[Slide, Recorder]:
    source = Recorder(pixels, steps, **options)
    return Slide(source, pixels), source


@pytest.fixture(scope="module")
def pixels() -> RGB:
    return tissue_like(2711, 1930)


@pytest.fixture(scope="module")
def slide(pixels: RGB) -> Slide:
    return open_slide(pixels, mpp=1.0)


@pytest.fixture(scope="module")
def pyramid(slide: Slide, tmp_path_factory: pytest.TempPathFactory) -> Pyramid:
    """Levels of 678 x 483, 339 x 242, 170 x 121 and 85 x 61 pixels."""
    out = tmp_path_factory.mktemp("pyramid") / "pyramid.zarr"
    return build_pyramid(slide, out, smallest_px=100)


def everything_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_is_valid_ome_zarr(pyramid: Pyramid) -> None:
    image = Image.from_zarr(zarr.open_group(pyramid.path, mode="r"))
    labels = Labels.from_zarr(zarr.open_group(pyramid.path / "labels", mode="r"))
    label = ImageLabel.from_zarr(zarr.open_group(pyramid.path / "labels/tissue", mode="r"))

    assert image.attributes.ome.version == "0.5"
    assert labels.attributes.ome.labels == ["tissue"]
    assert len(label.attributes.ome.multiscales[0].datasets) == len(pyramid.levels) == 4


def test_axes_scales_and_half_pixel_offsets(pyramid: Pyramid) -> None:
    for path, axes in ((".", "cyx"), ("labels/tissue", "yx")):
        group = zarr.open_group(pyramid.path / path, mode="r")
        multiscale = group.attrs["ome"]["multiscales"][0]
        space = [axis.get("unit") for axis in multiscale["axes"] if axis["type"] == "space"]
        assert "".join(axis["name"] for axis in multiscale["axes"]) == axes
        assert space == ["micrometer", "micrometer"]
        for k, dataset in enumerate(multiscale["datasets"]):
            scale, shift = dataset["coordinateTransformations"]
            mpp = 4.0 * 2**k
            # The first level-0 pixel of the slide has its centre at 0, its edge at -0.5 um.
            assert scale["scale"][-2:] == [mpp, mpp]
            assert shift["translation"][-2:] == [mpp / 2 - 0.5] * 2
            assert group[dataset["path"]].metadata.dimension_names == tuple(axes)


def test_levels_halve_until_they_are_small(pyramid: Pyramid) -> None:
    assert [level.shape for level in pyramid.levels] == [
        (483, 678), (242, 339), (121, 170), (61, 85),
    ]  # fmt: skip
    assert [level.mpp for level in pyramid.levels] == [4, 8, 16, 32]
    assert (pyramid.size_l0, pyramid.mpp_l0) == ((2711, 1930), (1, 1))


def test_the_finest_level_holds_exact_means(pyramid: Pyramid, pixels: RGB) -> None:
    blocks = pixels[:1928, :2708].reshape(482, 4, 677, 4, 3).mean(axis=(1, 3))

    assert np.abs(pyramid.read(0)[:482, :677] - blocks).max() <= 0.5


def test_each_level_holds_exact_means_of_the_one_before(pyramid: Pyramid) -> None:
    for k in range(1, len(pyramid.levels)):
        finer = np.moveaxis(pyramid.read(k - 1), 2, 0)
        assert (pyramid.read(k) == np.moveaxis(halve(finer), 0, 2)).all()


def test_tissue_has_all_levels_and_agrees_across_them(pyramid: Pyramid) -> None:
    masks = [pyramid.tissue(k) for k in range(4)]

    assert [mask.shape for mask in masks] == [level.shape for level in pyramid.levels]
    assert 0.2 < pyramid.tissue_fraction < 0.5
    assert masks[0][241, 339]
    assert not masks[0][:40].any()
    # Found at 8 um/px; repeated for finer levels, by majority on coarser ones.
    assert masks[1].mean() == pyramid.tissue_fraction
    assert (masks[0] == np.kron(masks[1], np.ones((2, 2), bool))[:483, :678]).all()
    halves = masks[1][:242, :338].reshape(121, 2, 169, 2).mean(axis=(1, 3))
    assert (masks[2][:, :169] == (halves >= 0.5)).all()


def test_a_slide_is_a_few_files(pyramid: Pyramid) -> None:
    data = [name for name in everything_in(pyramid.path) if not name.endswith("zarr.json")]

    assert len(data) == 8  # one per level, for the image and for its tissue


def test_blocks_and_shards_join_without_seams(
    tmp_path: Path, pixels: RGB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small shards and blocks against one that holds all."""
    slide = open_slide(pixels, mpp=0.9)  # 4 / 0.9 is no whole number
    whole = build_pyramid(slide, tmp_path / "whole", smallest_px=100)
    for name, value in (("levels._CHUNK", 32), ("levels._SHARD", 128), ("blocks._SOURCE", 150)):
        monkeypatch.setattr(f"saccade.tiling.pyramid_{name}", value)
    pieces = build_pyramid(slide, tmp_path / "pieces", smallest_px=100)

    for k in range(len(whole.levels)):
        assert np.abs(whole.read(k).astype(int) - pieces.read(k)).max() <= 1
        assert (whole.read(k) != pieces.read(k)).mean() < 0.01
        assert (whole.tissue(k) != pieces.tissue(k)).mean() < 0.001


def test_the_result_does_not_depend_on_workers(tmp_path: Path, pixels: RGB) -> None:
    slide = open_slide(pixels, mpp=0.13)  # several blocks

    one, many = (
        build_pyramid(slide, tmp_path / str(workers), workers=workers).path for workers in (1, 5)
    )

    assert everything_in(one) == everything_in(many)


def test_coarse_levels_are_read_where_they_serve(tmp_path: Path, pixels: RGB) -> None:
    slide, source = recorded(pixels, 1, 4, 8, 16)

    build_pyramid(slide, tmp_path / "out", finest_mpp=4.5)  # 9 level-0 pixels

    assert {level for level, _ in source.reads} == {2}


def test_a_flat_slide_is_read_in_pieces(tmp_path: Path) -> None:
    slide, source = recorded(np.full((4500, 6100, 3), 240, np.uint8), 1)

    build_pyramid(slide, tmp_path / "out")

    assert max(area for _, area in source.reads) <= 2048**2
    assert sum(area for _, area in source.reads) < 1.1 * 4500 * 6100


def test_a_slide_coarser_than_asked_for_keeps_its_scale(tmp_path: Path) -> None:
    slide = open_slide(tissue_like(300, 200), mpp=29.0)

    pyramid = build_pyramid(slide, tmp_path / "out")

    assert pyramid.levels[0].mpp == 29.0
    assert (pyramid.read(0) == slide.read(0, 0, (300, 200), 29.0)).all()


def test_progress_goes_to_its_end_one_by_one(tmp_path: Path, pixels: RGB) -> None:
    steps: list[tuple[int, int]] = []

    build_pyramid(
        open_slide(pixels, mpp=0.2),
        tmp_path / "out",
        smallest_px=32,
        progress=lambda done, total: steps.append((done, total)),
    )

    total = steps[0][1]
    assert total > 5
    assert steps == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize("mpp", [4.0, 5.3, 8.0, 50.0, 5000.0])
def test_a_view_shows_the_slide_at_exactly_the_wanted_scale(pyramid: Pyramid, mpp: float) -> None:
    view = pyramid.view(mpp)

    rows, cols = (int(np.ceil(n / mpp)) for n in (1930, 2711))
    assert view.grid.shape == view.tissue.shape == (rows, cols)
    assert (view.pixels.shape, view.pixels.dtype) == ((rows, cols, 3), np.uint8)
    assert view.tissue.dtype == np.float32
    assert view.grid.cell_l0 == (mpp, mpp)
    assert 0 <= view.tissue.min() <= view.tissue.max() <= 1


def test_a_view_is_the_mean_of_the_area_under_each_pixel(pyramid: Pyramid, pixels: RGB) -> None:
    view = pyramid.view(20.0)  # from the level at 8 um/px, a ratio of 2.5

    blocks = pixels[:1920, :2700].reshape(96, 20, 135, 20, 3).mean(axis=(1, 3))
    assert np.abs(view.pixels[:96, :135] - blocks).mean() < 0.7
    fine = np.repeat(np.repeat(pyramid.read(1), 2, axis=0), 2, axis=1)[:480, :675]
    means = fine.reshape(96, 5, 135, 5, 3).mean(axis=(1, 3))
    assert np.abs(view.pixels[:96, :135] - means).max() <= 0.51


def test_a_view_of_a_level_is_that_level(pyramid: Pyramid) -> None:
    view = pyramid.view(8.0)

    assert (view.pixels == pyramid.read(1)).all()
    assert (view.tissue == pyramid.tissue(1)).all()


def test_tissue_of_a_view_adds_up(pyramid: Pyramid) -> None:
    fine, coarse = pyramid.view(4.0), pyramid.view(13.0)

    area = fine.tissue.sum() * 4.0**2
    assert coarse.tissue.sum() * 13.0**2 == pytest.approx(area, rel=0.01)
    assert ((coarse.tissue > 0) & (coarse.tissue < 1)).any()


def test_pixels_that_are_not_square_become_square(tmp_path: Path, pixels: RGB) -> None:
    source = Recorder(pixels, (1,))
    source.info = SlideInfo(levels=source.info.levels, reader="array", mpp=(1.0, 2.0))
    pyramid = build_pyramid(Slide(source, pixels), tmp_path / "out")

    view = pyramid.view(16.0)

    assert pyramid.levels[0].shape == (965, 678)
    assert view.grid.cell_l0 == (16.0, 8.0)
    assert view.pixels.shape == (242, 170, 3)


def test_a_slide_coarser_than_the_view_is_enlarged(tmp_path: Path) -> None:
    pixels = tissue_like(900, 700)
    pyramid = build_pyramid(open_slide(pixels, mpp=28.0), tmp_path / "p.zarr")

    view = pyramid.view(14.0)

    assert (view.pixels == pixels.repeat(2, axis=0).repeat(2, axis=1)).all()
    assert (view.tissue == pyramid.tissue(0).repeat(2, axis=0).repeat(2, axis=1)).all()
    assert view.grid.cell_l0 == (0.5, 0.5)
    assert pyramid.view(16.0).pixels.shape[:2] == pyramid.view(16.0).grid.shape
    with pytest.raises(PyramidError, match="the finest there is has 28 um/px"):
        pyramid.view(6.9)


def test_a_view_finer_than_the_pyramid_is_refused(pyramid: Pyramid) -> None:
    with pytest.raises(PyramidError, match=r"begins at 4 um/px.*finest_mpp=2"):
        pyramid.view(2.0)
    with pytest.raises(ValueError, match="mpp must be positive"):
        pyramid.view(float("nan"))


def test_a_pyramid_knows_its_slide_and_settings(pyramid: Pyramid, slide: Slide) -> None:
    assert pyramid.content_hash == slide.content_hash
    assert pyramid.matches(slide, smallest_px=100)
    assert pickle.loads(pickle.dumps(pyramid)) == pyramid


@pytest.mark.parametrize(
    "change",
    [{"finest_mpp": 2.0}, {"smallest_px": 101}, {"tissue": TissueSettings(hole_um=50)}],
)
def test_other_settings_do_not_match(
    pyramid: Pyramid, slide: Slide, change: dict[str, float | TissueSettings]
) -> None:
    assert not pyramid.matches(slide, **{"smallest_px": 100} | change)  # type: ignore[arg-type]


def test_another_slide_or_scale_does_not_match(pyramid: Pyramid, pixels: RGB) -> None:
    other = pixels.copy()
    other[0, 0] += 1

    assert not pyramid.matches(open_slide(other, mpp=1.0), smallest_px=100)
    assert not pyramid.matches(open_slide(pixels, mpp=1.1), smallest_px=100)


def test_a_slide_that_breaks_on_the_way_leaves_nothing_new(tmp_path: Path, pixels: RGB) -> None:
    out = tmp_path / "out"
    sound, _ = recorded(pixels, 1)
    broken, _ = recorded(pixels, 1, reads_before_failure=1)
    build_pyramid(sound, out)
    before = everything_in(tmp_path)

    for place in (out, tmp_path / "other"):
        with pytest.raises(UnreadableSlideError, match="a broken tile"):
            build_pyramid(broken, place)

    assert everything_in(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_mpp_there_is_no_pyramid(tmp_path: Path, pixels: RGB) -> None:
    with pytest.raises(MissingMppError):
        build_pyramid(open_slide(pixels), tmp_path / "out")

    assert not any(tmp_path.iterdir())


def test_an_older_pyramid_is_replaced(tmp_path: Path, slide: Slide) -> None:
    out = tmp_path / "out"
    build_pyramid(slide, out, smallest_px=32)

    new = build_pyramid(slide, out, smallest_px=400)

    assert len(new.levels) == 2
    assert sorted(path.name for path in out.iterdir()) == ["0", "1", "labels", "zarr.json"]


def test_what_is_no_pyramid_is_never_overwritten(tmp_path: Path, slide: Slide) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter 1").write_text("years of work")
    file = tmp_path / "file"
    file.write_text("too")
    other = tmp_path / "other.zarr"
    zarr.open_group(other, attributes={"ome": {}})

    for out in (thesis, file, other):
        with pytest.raises(PyramidError, match="will not be overwritten"):
            build_pyramid(slide, out)

    assert (thesis / "chapter 1").read_text() == "years of work"
    assert file.read_text() == "too"


def test_an_empty_folder_may_be_used(tmp_path: Path, slide: Slide) -> None:
    (tmp_path / "out").mkdir()

    assert build_pyramid(slide, tmp_path / "out").levels


@pytest.mark.parametrize(
    "settings", [{"finest_mpp": 0.0}, {"smallest_px": 0}, {"smallest_px": 4096}]
)
def test_impossible_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        PyramidSettings(**settings)  # type: ignore[arg-type]


def test_opening_what_is_no_pyramid_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text(json.dumps({"attributes": {"saccade": {"kind": "field"}}}))

    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(PyramidError, match="saccade pyramid SLIDE --out"):
            Pyramid.open(path)


def test_a_damaged_pyramid_says_what_to_do(tmp_path: Path, slide: Slide) -> None:
    pyramid = build_pyramid(slide, tmp_path / "out")
    (pyramid.path / "1" / "zarr.json").unlink()

    with pytest.raises(PyramidError, match=r"damaged.*build it again"):
        Pyramid.open(pyramid.path)


MEASURE = """
import sys
from pathlib import Path
from saccade.tiling import open_slide
from saccade.tiling.pyramid import build_pyramid
pyramid = build_pyramid(open_slide(Path(sys.argv[1])), Path(sys.argv[2]))
assert pyramid.tissue_fraction > 0.2
# Not `getrusage`: its peak counts the process that started this one.
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")))
"""


def peak_mb(slide: Path, out: Path) -> int:
    """Peak memory of a fresh process that builds the pyramid of a slide."""
    command = [sys.executable, "-c", MEASURE, str(slide), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_memory_is_bounded_on_a_flat_slide(tmp_path: Path) -> None:
    """The plane alone would take 201 MB, and Python with its libraries takes 80."""
    slide = write_large_flat_tiff(tmp_path / "flat.tif", 8192)

    assert peak_mb(slide, tmp_path / "out") < 250


@pytest.mark.slow
def test_memory_is_bounded_on_a_flat_gigapixel_slide(tmp_path: Path) -> None:
    """The plane alone would take 2.8 GB."""
    slide = write_large_flat_tiff(tmp_path / "flat.tif", 30720)

    assert peak_mb(slide, tmp_path / "out") < 300


def test_a_slide_file_with_levels(tmp_path: Path) -> None:
    path = write_pyramid_tiff(tmp_path / "slide.tif", tissue_like(2048, 1536), mpp=1.0, levels=4)
    with open_slide(path) as slide:
        pyramid = build_pyramid(slide, tmp_path / "out", finest_mpp=8.0, smallest_px=64)

        assert pyramid.matches(slide, finest_mpp=8.0, smallest_px=64)
        assert (pyramid.read(0) == slide.read(0, 0, (256, 192), 8.0)).all()
