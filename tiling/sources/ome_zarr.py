"""OME-Zarr folders, versions 0.4 (zarr v2) and 0.5 (zarr v3).

Source: the OME-NGFF specification, https://ngff.openmicroscopy.org/0.5/, "multiscales".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from saccade.tiling import jpeg_codec
from saccade.tiling.colour import to_rgb, to_uint8
from saccade.tiling.errors import UnreadableSlideError
from saccade.tiling.slide import RGB, Level, SlideInfo, Source
from saccade.tiling.units import micrometres, recorded_mpp

jpeg_codec.register()

_MOST_CHUNK_SAMPLES = 2**28  # a chunk is decoded whole
# Of the codecs that zarr v2 metadata can name, `pickle` runs what the file holds.
_CODECS = {
    *("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd", "shuffle", "delta", "packbits"),
    *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3", "bitround"),
    *("fixedscaleoffset", "quantize"),
}


class OmeZarrSource(Source):
    """Reads the first multiscale image of an OME-Zarr folder.

    Of the channels the first three become red, green and blue, or those stated; a single one
    becomes grey. Of time and depth the first is taken. Samples of more than 8 bits are scaled
    linearly from their type's whole range to 0..255.

    Args:
        folder: the image's folder, or one whose first image lies in its sub-folder 0.
        channels: one to three channels to show, counted from 0.

    Raises:
        UnreadableSlideError: if it is no image, is damaged, or uses a codec not known here.
    """

    def __init__(self, folder: Path, channels: tuple[int, ...] | None = None) -> None:
        self._name = folder.name
        try:
            self._open(folder, channels)
        # zarr and its codecs raise errors of any kind on metadata that is damaged.
        except Exception as error:
            raise UnreadableSlideError(
                f"{self._name}: not an OME-Zarr image that can be read: found "
                f"{type(error).__name__}: {' '.join(str(error).split())}. "
                "Wanted is a folder with `multiscales` (OME-Zarr 0.4 or 0.5)."
            ) from error

    def _open(self, folder: Path, channels: tuple[int, ...] | None) -> None:
        folder, facts = _multiscales(folder)
        self._axes = [axis["name"] for axis in facts["axes"]]
        paths = [str(level["path"]) for level in facts["datasets"]]
        self._arrays = [_array(folder, path) for path in paths]
        self._take = _chosen(self._arrays[0], self._axes, channels)
        scales = [_scale(facts, level) for level in facts["datasets"]]
        self.info = SlideInfo(
            levels=self._level_facts(scales), reader="ome-zarr", mpp=self._mpp(facts, scales[0])
        )

    def _level_facts(self, scales: Sequence[Sequence[float] | None]) -> tuple[Level, ...]:
        x, y = self._axes.index("x"), self._axes.index("y")
        sizes = [(array.shape[x], array.shape[y]) for array in self._arrays]
        if any(coarse[0] > fine[0] for fine, coarse in pairwise(sizes)):
            raise ValueError("levels that are not sorted from fine to coarse")
        levels = []
        for (width, height), scale in zip(sizes, scales, strict=True):
            ratios = sizes[0][0] / width, sizes[0][1] / height
            first = scales[0]
            if scale is not None and first is not None:
                told = scale[x] / first[x], scale[y] / first[y]
                # A size is rounded to whole pixels, a recorded scale is not: prefer it if it fits.
                fits = abs(told[0] / ratios[0] - 1) <= 1.5 / width
                fits = fits and abs(told[1] / ratios[1] - 1) <= 1.5 / height
                ratios = told if fits else ratios
            levels.append(Level(width, height, (ratios[0] + ratios[1]) / 2))
        return tuple(levels)

    def _mpp(
        self, facts: Mapping[str, Any], scale: Sequence[float] | None
    ) -> tuple[float, float] | None:
        if scale is None:
            return None
        x, y = (
            micrometres(scale[i], facts["axes"][i].get("unit"))
            for i in (self._axes.index("x"), self._axes.index("y"))
        )
        return recorded_mpp(x, y)

    def pitch_px(self, level: int) -> float:
        """Whole pixels."""
        return 1.0

    def read_level(self, level: int, x_px: float, y_px: float, size_px: tuple[int, int]) -> RGB:
        """Decode the chunks that the rectangle touches."""
        spans = {
            "x": slice(int(x_px), int(x_px) + size_px[0]),
            "y": slice(int(y_px), int(y_px) + size_px[1]),
        }
        try:
            return self._rgb(level, spans)
        # Codecs raise errors of any kind on damaged data.
        except Exception as error:
            raise UnreadableSlideError(
                f"{self._name}: the pixels at {(int(x_px), int(y_px))} of level {level} cannot be "
                f"decoded ({' '.join(str(error).split())}). The folder is damaged or incomplete: "
                "copy it again from where it came."
            ) from error

    def _rgb(self, level: int, spans: Mapping[str, slice]) -> RGB:
        wanted = self._take or (0,)
        first, last = min(wanted), max(wanted)
        if self._share_chunks(level, last):  # else each chunk would be decoded once a channel
            samples = self._samples(level, {"c": slice(first, last + 1), **spans})
            samples = samples[..., [channel - first for channel in wanted]]
        else:
            one_by_one = [{"c": slice(channel, channel + 1), **spans} for channel in wanted]
            samples = np.concatenate([self._samples(level, one) for one in one_by_one], axis=2)
        return to_rgb(to_uint8(samples, 8 * samples.dtype.itemsize))

    def _share_chunks(self, level: int, last: int) -> bool:
        """Whether all channels up to the last that is wanted lie in the same chunks."""
        return "c" in self._axes and self._arrays[level].chunks[self._axes.index("c")] > last

    def _samples(self, level: int, spans: Mapping[str, slice]) -> NDArray[Any]:
        """(height, width, channels) of a level."""
        found = np.asarray(self._arrays[level][tuple(spans.get(axis, 0) for axis in self._axes)])
        kept = [axis for axis in self._axes if axis in spans]
        upright = np.transpose(found, [kept.index(axis) for axis in "yxc" if axis in kept])
        return upright.reshape(*upright.shape[:2], -1)

    def associated_images(self) -> Mapping[str, RGB]:
        """None: OME-Zarr has no place for them."""
        return {}

    def close(self) -> None:
        """Nothing to release: chunks are opened when they are read."""


def _multiscales(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of the image itself, and its first `multiscales` entry."""
    attributes = dict(zarr.open_group(folder, mode="r", use_consolidated=False).attrs)
    ome = attributes.get("ome", attributes)
    assert isinstance(ome, dict)
    if "multiscales" not in ome and "bioformats2raw.layout" in ome:
        return _multiscales(folder / "0")
    if "multiscales" not in ome:
        raise ValueError(f"no multiscales, only {sorted(ome) or 'nothing'}")
    return folder, ome["multiscales"][0]


def _array(folder: Path, path: str) -> zarr.Array[Any]:
    place = (folder / path).resolve()
    if not place.is_relative_to(folder.resolve()):
        raise ValueError(f"a level that lies outside the folder, at {path}")
    _refuse_foreign_codecs(place / ".zarray")
    array = zarr.open_array(place, mode="r")
    to_uint8(np.zeros(1, array.dtype), 8 * array.dtype.itemsize)  # refuses floating point
    if np.prod(array.chunks) > _MOST_CHUNK_SAMPLES:
        raise ValueError(f"chunks of {array.chunks}, which can only be decoded whole")
    return array


def _refuse_foreign_codecs(metadata: Path) -> None:
    """Before zarr sees them: nothing read from a slide is ever executed."""
    if not metadata.is_file():
        return
    facts = json.loads(metadata.read_text())
    named = [*(facts.get("filters") or []), facts.get("compressor") or {}]
    foreign = {codec["id"] for codec in named if codec} - _CODECS
    if foreign:
        raise ValueError(f"codecs {sorted(foreign)}, which are not known here")


def _chosen(
    array: zarr.Array[Any], axes: Sequence[str], channels: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """The channels to read; None where the image has no axis of them."""
    if len(axes) != array.ndim or not {"x", "y"} <= set(axes):
        raise ValueError(f"axes {list(axes)} for an array of {array.ndim} dimensions")
    if "c" not in axes:
        return None
    count = array.shape[axes.index("c")]
    wanted = channels if channels is not None else tuple(range(min(3, count)))
    if min(wanted) < 0 or max(wanted) >= count:
        raise ValueError(f"{count} channels, numbered from 0; {wanted} were asked for")
    return wanted


def _scale(facts: Mapping[str, Any], level: Mapping[str, Any]) -> list[float] | None:
    """Size of a pixel along every axis, in its unit; None if no scale is recorded."""
    told = [
        transform["scale"]
        for owner in (level, facts)
        for transform in owner.get("coordinateTransformations", [])
        if transform.get("type") == "scale"
    ]
    return [float(np.prod(parts)) for parts in zip(*told, strict=True)] if told else None
