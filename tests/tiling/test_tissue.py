from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from saccade.tiling import open_slide
from saccade.tiling.area import halve
from saccade.tiling.tissue import TissueSettings, glass_colour, is_dark_field, tissue_mask

RGB = NDArray[np.uint8]
Mask = NDArray[np.bool_]

MPP = 8.0
ROWS, COLS = np.mgrid[0:300, 0:400]
ELLIPSE = ((ROWS - 170) / 90) ** 2 + ((COLS - 180) / 120) ** 2 < 1

GLASS = (238, 236, 240)
EOSIN, HAEMATOXYLIN, DAB = (225, 150, 190), (125, 105, 165), (150, 105, 70)


def slide(tissue: tuple[int, int, int] = EOSIN, where: Mask = ELLIPSE) -> RGB:
    """Textured tissue on noisy glass."""
    rng = np.random.default_rng(0)
    texture = rng.uniform(0.85, 1.05, (*where.shape, 1))
    stained = np.array(tissue) * texture
    noisy = np.array(GLASS) + rng.normal(0, 1.5, (*where.shape, 3))
    return np.clip(np.where(where[..., None], stained, noisy), 0, 255).astype(np.uint8)


def disc(row: float, col: float, radius: float) -> Mask:
    inside: Mask = (ROWS - row) ** 2 + (COLS - col) ** 2 < radius**2
    return inside


def square(row: int, col: int, side: int) -> Mask:
    inside: Mask = (abs(ROWS - row) * 2 < side) & (abs(COLS - col) * 2 < side)
    return inside


def agreement(one: Mask, other: Mask) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("tissue", [EOSIN, HAEMATOXYLIN, DAB, (228, 205, 222)])
def test_stained_tissue_is_found(tissue: tuple[int, int, int]) -> None:
    assert agreement(tissue_mask(slide(tissue), MPP), ELLIPSE) > 0.95


def test_dust_bubbles_and_hairs_have_no_colour() -> None:
    image = slide()
    image[disc(30, 350, 20)] = 90
    image[disc(40, 300, 15)] = 200
    image[(abs(ROWS - COLS + 200) < 2) & (ROWS < 70)] = 20

    mask = tissue_mask(image, MPP)

    assert not mask[:70].any()
    assert agreement(mask, ELLIPSE) > 0.95


def test_the_dark_band_of_a_coverslip_is_left_out_but_not_the_tissue_in_it() -> None:
    below = ((ROWS - 100) / 90) ** 2 + ((COLS - 180) / 120) ** 2 < 1
    shade = np.clip((ROWS + 8) / 60, 0.15, 1)[..., None]
    image = (slide(where=below) * shade).astype(np.uint8)

    mask = tissue_mask(image, MPP)

    assert agreement(mask, below) > 0.95
    assert not mask[:60, 320:].any()


def test_tissue_that_the_shadow_swallows_is_left_out() -> None:
    shade = np.where(COLS < 180, 0.15, 1)[..., None]
    image = (slide() * shade).astype(np.uint8)

    mask = tissue_mask(image, MPP)

    assert not mask[:, :170].any()
    assert agreement(mask[:, 190:], ELLIPSE[:, 190:]) > 0.95


@pytest.mark.parametrize(
    "ink", [(40, 60, 190), (96, 149, 222), (40, 150, 80), (215, 40, 50), (25, 25, 28)]
)
def test_pen_is_left_out_and_tissue_that_it_touches_is_kept(ink: tuple[int, int, int]) -> None:
    image = slide()
    pen = (abs(ROWS - COLS + 100) < 12) & (COLS > 200)
    image[pen] = ink

    mask = tissue_mask(image, MPP)

    assert mask[pen].mean() < 0.1
    assert not mask[:, 330:].any()
    assert agreement(mask, ELLIPSE & ~pen) > 0.9


@given(
    hnp.arrays(np.uint8, (40, 50), elements=st.integers(0, 255)),
    st.floats(0.5, 100, allow_nan=False),
)
@settings(max_examples=30)
def test_grey_is_never_tissue_on_a_bright_field(grey: NDArray[np.uint8], mpp: float) -> None:
    image = np.repeat(np.maximum(grey, 64)[..., None], 3, axis=2)

    assert not tissue_mask(image, mpp).any()


@pytest.mark.parametrize("glass", [(255, 255, 255), GLASS, (226, 221, 228), (230, 225, 200)])
def test_the_noise_of_an_empty_slide_is_not_split(glass: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(1).normal(0, 3, (300, 400, 3))
    image = np.clip(np.array(glass) + noise, 0, 255).astype(np.uint8)

    assert not tissue_mask(image, MPP).any()


def test_a_slide_full_of_tissue_is_not_split() -> None:
    image = np.where((COLS < 200)[..., None], slide(EOSIN), slide(HAEMATOXYLIN))
    image = np.where(ELLIPSE[..., None], image, slide((200, 120, 170), where=~ELLIPSE))

    assert tissue_mask(image, MPP).all()


def test_white_and_black_padding_is_neither_glass_nor_tissue() -> None:
    image = slide()
    image[:80], image[:, 310:] = 255, 255
    image[262:], image[:, :20] = 0, 0

    mask = tissue_mask(image, MPP)

    np.testing.assert_allclose(glass_colour(image), GLASS, atol=1)
    assert agreement(mask, ELLIPSE) > 0.95


def test_black_all_around_does_not_make_a_dark_field() -> None:
    image = np.zeros((900, 1200, 3), np.uint8)
    image[300:600, 400:800] = slide()

    assert not is_dark_field(image)
    assert agreement(tissue_mask(image, MPP)[300:600, 400:800], ELLIPSE) > 0.95


def fluorescence(where: Mask) -> RGB:
    """Blue nuclei in dim tissue on a dark ground."""
    rng = np.random.default_rng(2)
    light = rng.poisson(2, where.shape) + where * rng.poisson(5, where.shape)
    light[where & (rng.random(where.shape) < 0.1)] = 150
    image = np.zeros((*where.shape, 3), np.uint8)
    image[..., 2] = light
    return image


def test_a_dark_field_is_detected_and_its_tissue_found() -> None:
    image = fluorescence(ELLIPSE)

    assert is_dark_field(image)
    assert agreement(tissue_mask(image, MPP), ELLIPSE) > 0.9


def test_a_white_rim_on_a_dark_field_is_not_tissue() -> None:
    """What lies outside the slide is white by default, and the last pixel is part outside."""
    image = fluorescence(ELLIPSE)
    image[-1:], image[:, -2:] = 130, 130
    image[image == 150] = 25  # nothing but the rim is bright

    assert is_dark_field(image)
    assert agreement(tissue_mask(image, MPP), ELLIPSE) > 0.9


def test_an_empty_dark_field_shows_nothing() -> None:
    assert not tissue_mask(fluorescence(np.zeros_like(ELLIPSE)), MPP).any()
    assert not tissue_mask(np.zeros((50, 60, 3), np.uint8), MPP).any()


@pytest.mark.parametrize("mpp", [4.0, 8.0, 16.0])
def test_specks_and_holes_go_by_their_size_in_micrometres(mpp: float) -> None:
    small, large = round(64 / mpp), round(200 / mpp)
    pieces = square(20, 320, small) | square(20, 370, large)
    holes = square(170, 140, small) | square(170, 240, large)

    mask = tissue_mask(slide(where=(ELLIPSE & ~holes) | pieces), mpp)

    assert mask[170, 140]
    assert not mask[170, 240]
    assert not mask[20, 320]
    assert mask[20, 370]


def test_a_gap_at_the_edge_of_the_picture_is_no_hole() -> None:
    gap = square(1, 200, 6) | square(150, 200, 6)

    mask = tissue_mask(slide(where=~gap), MPP)

    assert not mask[0, 200]
    assert mask[150, 200]


def test_a_thread_is_not_tissue_however_long() -> None:
    thread = COLS == 350  # 8 um wide, 2.4 mm long

    mask = tissue_mask(slide(where=ELLIPSE | thread), MPP)

    assert not mask[:, 330:].any()
    assert tissue_mask(slide(where=thread), MPP, settings=TissueSettings(thread_um=0))[:, 350].any()


def test_half_the_resolution_gives_nearly_the_same_mask() -> None:
    image = slide(where=ELLIPSE | disc(40, 340, 30))
    half = np.moveaxis(halve(np.moveaxis(image, 2, 0)), 0, 2)

    coarse = np.kron(tissue_mask(half, 2 * MPP), np.ones((2, 2), bool))

    assert agreement(tissue_mask(image, MPP), coarse) > 0.95


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3, 5), (9, 9)])
@pytest.mark.parametrize("colour", [EOSIN, GLASS, (0, 0, 0)])
def test_the_smallest_images_do_not_fail(
    size: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    image = np.full((*size, 3), colour, np.uint8)

    assert tissue_mask(image, MPP).shape == size


@pytest.mark.parametrize("change", [{"chroma": -1.0}, {"hole_um": float("nan")}])
def test_impossible_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))} must be finite"):
        TissueSettings(**change)


@pytest.mark.parametrize(
    ("image", "mpp", "message"),
    [
        (np.zeros((4, 4, 3), np.uint8), 0.0, "mpp must be positive"),
        (np.zeros((4, 4), np.uint8), 8.0, "rgb must be uint8"),
        (np.zeros((4, 4, 3), np.float32), 8.0, "rgb must be uint8"),
    ],
)
def test_what_is_no_image_is_refused(image: RGB, mpp: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tissue_mask(image, mpp)


def real_mask(path: Path, mpp: float, slide_mpp: float | None = None) -> tuple[Mask, RGB]:
    with open_slide(path, mpp=slide_mpp) as opened:
        scale = opened.downsample_for(mpp)
        width, height = (round(opened.size_l0[i] / scale[i]) for i in (0, 1))
        image = opened.read(0, 0, (width, height), mpp)
    return tissue_mask(image, mpp), image


def test_oesophagus_under_a_dark_coverslip_edge(test_data: Path) -> None:
    mask, image = real_mask(test_data / "slides/tiff/eosinophilic-esophagitis_HE_left.tiff", 16)

    assert image[:3, 200:].mean() < 150  # the band is there
    assert not mask[:16, 140:].any()  # ... and no tissue in it, right of the piece that enters it
    assert mask[8:16, 85:110].all()
    assert 0.065 < mask.mean() < 0.085


def test_a_nearly_empty_slide(test_data: Path) -> None:
    mask, _ = real_mask(test_data / "slides/tiff/histolab_kidney-48-5.tif", 16, slide_mpp=16)

    rows, cols = np.nonzero(mask)
    assert 0.002 < mask.mean() < 0.005
    assert (rows.min() > 490, rows.max() < 580, cols.min() > 270, cols.max() < 410) == (True,) * 4


@pytest.mark.parametrize("name", ["test3-DAPI-2-(387).ndpi", "test3-TRITC 2 (560).ndpi"])
def test_fluorescence(test_data: Path, name: str) -> None:
    mask, image = real_mask(test_data / "slides/hamamatsu" / name, 8)

    assert is_dark_field(image)
    assert not mask[:20, :12].any()  # a dark corner
    assert not mask[-3:].any()
    assert mask[60:110, 20:100].mean() > 0.9
    assert 0.7 < mask.mean() < 0.92


def test_pen_and_glass_edge_of_a_dicom_slide(test_data: Path) -> None:
    name = "slides/dicom/google/multi_frame_jpeg2000_camelyon_challenge_image.dcm"
    mask, _ = real_mask(test_data / name, 28.969)

    assert not mask[:35].any()  # edge of the coverslip, blue pen, bubbles
    assert not mask[775:].any()  # bubbles
    assert mask[220:420, 200:450].mean() > 0.95
    assert 0.28 < mask.mean() < 0.36
