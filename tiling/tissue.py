"""Where a slide shows tissue: stain colour on a bright field, signal on a dark one.

Bright field. Light that passes glass, dust, air bubbles, the shadow of a coverslip edge or black
ink is weakened equally in red, green and blue; a stain is not. So the test is for chroma of
optical density, OD = -log10(I / glass) (Beer and Lambert), taken against the colour of the slide's
own glass: greys of any darkness fall out, and no brightness threshold has to be guessed. The limit
is absolute: Otsu's threshold would split the noise of an empty slide, or the tissue of a full one,
into two halves. Felt pens are stained glass too and are told by hue, as shares of the three
densities (after van der Laak et al., "Hue-saturation-density (HSD) model", Cytometry 2000).

Dark field. Most of the picture is dark: fluorescence. Otsu's threshold on the logarithm of the
brightest channel, with an absolute least contrast.

Every length is in micrometres, so that the same slide gives the same mask at another scale. Not
found: stains that are grey or black on their own (silver), and fat that is paler than the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

TISSUE_VERSION = 1
"""Raised whenever the same settings would give another mask."""

_RIM_PX = 2
"""Pixels at the edge that may be part specimen, part background: white lines on a dark field."""


Number = TypeVar("Number", np.uint8, np.float32)


@dataclass(frozen=True, slots=True)
class TissueSettings:
    """What counts as tissue.

    Attributes:
        chroma: least difference between the optical densities of two colours, after smoothing.
        colour_levels: the same in grey levels; keeps noise in black areas, where optical density
            is mostly rounding, from passing for colour.
        black_levels: grey levels of the brightest channel, after smoothing, below which a bright
            field shows nothing: shadow at the edge of the slide, black ink.
        smooth_um: standard deviation of the smoothing before the test on a bright field.
        dark_smooth_um: the same on a dark field, where tissue is dark between its nuclei.
        dark_contrast: least range of grey levels, after smoothing, for a dark field to show
            anything.
        speck_um: pieces smaller than a square of this side are dropped.
        thread_um: pieces nowhere wider than this are dropped: fringes of coverslip edges, fibres.
        rim_um: how far the rim of a pen stroke may reach.
        hole_um: holes smaller than a square of this side are filled.

    Raises:
        ValueError: if a value is negative or not finite.
    """

    chroma: float = 0.03
    colour_levels: float = 6.0
    black_levels: float = 56.0
    smooth_um: float = 8.0
    dark_smooth_um: float = 30.0
    dark_contrast: float = 1.5
    speck_um: float = 100.0
    thread_um: float = 40.0
    rim_um: float = 120.0
    hole_um: float = 100.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be finite and not negative, got {value}.")


def tissue_mask(
    rgb: NDArray[np.uint8], mpp: float, *, settings: TissueSettings | None = None
) -> NDArray[np.bool_]:
    """Tell tissue from everything else.

    Made for 4 to 16 um/px; memory is about 40 bytes a pixel.

    Args:
        rgb: (rows, cols, 3).
        mpp: micrometres per pixel of `rgb`.
        settings: what counts as tissue; the defaults if None.

    Returns:
        (rows, cols); all False if there is no tissue.

    Raises:
        ValueError: if `mpp` is not positive, or `rgb` is no 8-bit RGB image.
    """
    if not 0 < mpp < float("inf"):
        raise ValueError(f"mpp must be positive, got {mpp}.")
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"rgb must be uint8 (rows, cols, 3), got {rgb.dtype} {rgb.shape}.")
    settings = settings or TissueSettings()
    find = _signal if is_dark_field(rgb) else _stain
    mask = find(rgb, mpp, settings)
    mask = ~_large_parts(~mask, (settings.hole_um / mpp) ** 2, keep_at_edge=True)
    mask = _large_parts(mask, (settings.speck_um / mpp) ** 2)
    return _thick_parts(mask, settings.thread_um / 2 / mpp)


def is_dark_field(rgb: NDArray[np.uint8]) -> bool:
    """Whether light comes from the specimen (fluorescence) rather than through it.

    Black corners around a bright field do not make it dark: what is not black must be dim, too.
    """
    inner = _inner(rgb)
    brightest = _most(inner)
    if np.median(brightest) >= 64:
        return False
    lit = inner[brightest >= 32]
    return len(lit) == 0 or float(np.median(lit.mean(axis=1, dtype=np.float32))) < 110


def glass_colour(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB of empty glass in a bright field: the commonest bright, almost neutral colour.

    Pure white is left out: scanners fill what they did not scan with it. White if no glass is seen.
    """
    darkest = _least(rgb)
    glass = (darkest > 150) & (darkest < 255) & (_most(rgb) - darkest < 50)
    if glass.sum() < 0.005 * glass.size:
        return np.full(3, 255, np.float32)
    pixels = rgb[glass]
    green = np.bincount(pixels[:, 1], minlength=256)
    # Pale tissue is as neutral as some glass, but never the brightest thing around.
    brightest = int(np.searchsorted(green.cumsum(), 0.95 * len(pixels)))
    near = max(brightest - 25, 0)
    mode = near + int(green[near:].argmax())
    like_mode = np.abs(pixels[:, 1].astype(np.int16) - mode) <= 3
    return _medians(pixels[like_mode])


def _medians(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Median of each column of (n, 3), by counting: `np.median` takes many times as long."""
    middle = (len(pixels) - 1) // 2, len(pixels) // 2
    counts = (np.bincount(column, minlength=256).cumsum() for column in pixels.T)
    both = [np.searchsorted(count, middle, side="right") for count in counts]
    medians: NDArray[np.float32] = np.mean(both, axis=1, dtype=np.float32)
    return medians


def _stain(rgb: NDArray[np.uint8], mpp: float, settings: TissueSettings) -> NDArray[np.bool_]:
    light = _smooth(rgb, settings.smooth_um, mpp)
    light *= 255 / glass_colour(rgb)
    brightest = _most(light)
    coloured = brightest - _least(light) >= settings.colour_levels
    coloured &= brightest >= settings.black_levels
    density = np.maximum(light, 8, out=light)
    np.log10(density, out=density)
    np.subtract(np.float32(np.log10(255)), density, out=density)
    coloured &= _most(density) - _least(density) >= settings.chroma
    pen = _pen(np.maximum(density, 0, out=density))
    return _without_pen(coloured, pen, mpp, settings)


def _without_pen(
    coloured: NDArray[np.bool_], pen: NDArray[np.bool_], mpp: float, settings: TissueSettings
) -> NDArray[np.bool_]:
    """Take out ink, and the rims of its strokes: where a stroke fades its hue is not sure.

    What is left beside a stroke is rim if it reaches no further, as tissue under the pen does.
    """
    strokes = _large_parts(pen & coloured, (settings.speck_um / mpp) ** 2)
    if not strokes.any():
        return coloured & ~pen
    blur, rim = (max(1, round(um / mpp)) for um in (2 * settings.smooth_um, settings.rim_um))
    left = coloured & ~pen & ~ndimage.binary_dilation(strokes, iterations=blur)
    beside = ndimage.binary_dilation(strokes, iterations=rim)
    pieces, count = ndimage.label(left)
    drop = np.bincount(pieces[beside], minlength=count + 1) > 0.5 * np.bincount(pieces.ravel())
    drop[0] = True  # what is not coloured at all
    kept: NDArray[np.bool_] = ~drop[pieces]
    return kept


def _pen(density: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Ink by hue. Haematoxylin, eosin and DAB all take much green light; inks need not.

    Share of red, green, blue density: haematoxylin .40 .43 .18, eosin .06 .85 .09, DAB .17 .35 .48
    (Ruifrok and Johnston 2001). Blue and green ink take red light most; red ink takes green and
    blue alike and no red, which blood never does. Black ink has no colour and needs no test.
    """
    red, green, blue = np.moveaxis(density, 2, 0)
    cool = red > 0.45 * (red + green + blue)
    hot = (red < 0.1 * (red + green + blue)) & (blue > 0.8 * green) & (green + blue > 0.3)
    ink: NDArray[np.bool_] = cool | hot
    return ink


def _signal(rgb: NDArray[np.uint8], mpp: float, settings: TissueSettings) -> NDArray[np.bool_]:
    inner = _inner(rgb)
    light = _smooth(_most(inner), settings.dark_smooth_um, mpp)
    if np.ptp(np.percentile(light, [1, 99.9])) <= settings.dark_contrast:
        return np.zeros(rgb.shape[:2], bool)
    np.log2(light + 1, out=light)
    return np.pad(light > _otsu(light), (len(rgb) - len(inner)) // 2, mode="edge")


def _most(rgb: NDArray[Number]) -> NDArray[Number]:
    """Largest of the three values of each pixel; `max(axis=2)` would take ten times as long."""
    most: NDArray[Number] = np.maximum(np.maximum(rgb[..., 0], rgb[..., 1]), rgb[..., 2])
    return most


def _least(rgb: NDArray[Number]) -> NDArray[Number]:
    """Smallest of the three values of each pixel."""
    least: NDArray[Number] = np.minimum(np.minimum(rgb[..., 0], rgb[..., 1]), rgb[..., 2])
    return least


def _inner(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image without its rim, if it is large enough to lose one."""
    if min(rgb.shape[:2]) <= 4 * _RIM_PX:
        return rgb
    return rgb[_RIM_PX:-_RIM_PX, _RIM_PX:-_RIM_PX]


def _otsu(values: NDArray[np.float32]) -> float:
    """Threshold that makes the two classes differ most.

    Source: Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 1979,
    equation 18, on 256 bins.
    """
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()[:-1]
    above = len(values.ravel()) - below
    total_below = (counts * centres).cumsum()
    difference = total_below[:-1] / below - (total_below[-1] - total_below[:-1]) / above
    return float(edges[1:-1][(below * above * difference**2).argmax()])


def _smooth(image: NDArray[np.uint8], sigma_um: float, mpp: float) -> NDArray[np.float32]:
    """Gaussian of `sigma_um` in all, the width of the pixels themselves included."""
    sigma_px = max((sigma_um / mpp) ** 2 - 1 / 12, 0) ** 0.5
    sigmas = (sigma_px, sigma_px, 0)[: image.ndim]
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(
        image, sigmas, output=np.float32, mode="nearest"
    )
    return smooth


def _large_parts(
    mask: NDArray[np.bool_], area_px: float, *, keep_at_edge: bool = False
) -> NDArray[np.bool_]:
    """Keep connected parts of at least `area_px`; with `keep_at_edge`, also those at the edge."""
    parts, _ = ndimage.label(mask)
    keep = np.bincount(parts.ravel()) >= area_px
    if keep_at_edge:
        for edge in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
            keep[edge] = True
    keep[0] = False
    kept: NDArray[np.bool_] = keep[parts]
    return kept


def _thick_parts(mask: NDArray[np.bool_], half_px: float) -> NDArray[np.bool_]:
    """Keep connected parts that are wider than `2 * half_px` somewhere."""
    steps = round(half_px)
    if steps == 0:
        return mask
    parts, count = ndimage.label(mask)
    cores = ndimage.binary_erosion(mask, iterations=steps, border_value=1)
    keep = np.bincount(parts[cores], minlength=count + 1) > 0
    kept: NDArray[np.bool_] = keep[parts]
    return kept
