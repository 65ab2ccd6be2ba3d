"""OME-Zarr folders, versions 0.4 (zarr v2) and 0.5 (zarr v3).

Source: the OME-NGFF specification, https://ngff.openmicroscopy.org/0.5/, "multiscales".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from saccade.tiling import jpeg_codec
from saccade.tiling.colour import to_rgb, to_uint8
from saccade.tiling.counting import ReadCount, Tally
from saccade.tiling.errors import SlideError, SlideNotFoundError, UnreadableSlideError
from saccade.tiling.remote import Place, Stamp, Url
from saccade.tiling.source import RGB, Level, SlideInfo, Source
from saccade.tiling.sources.remote_zarr import RemoteStore
from saccade.tiling.units import micrometres, recorded_mpp

jpeg_codec.register()

METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zarray")  # of both versions of zarr
_MOST_CHUNK_SAMPLES = 2**28  # a chunk is decoded whole
# Of the codecs that zarr v2 metadata can name, `pickle` runs what the file holds.
_CODECS = {
    *("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd", "shuffle", "delta", "packbits"),
    *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3", "bitround"),
    *("fixedscaleoffset", "quantize"),
}


_Stored = Path | RemoteStore


class OmeZarrSource(Source):
    """Reads the first multiscale image of an OME-Zarr folder.

    Of the channels the first three become red, green and blue, or those stated; a single one
    becomes grey. Of time and depth the first is taken. Samples of more than 8 bits are scaled
    linearly from their type's whole range to 0..255.

    Args:
        folder: the image's folder, or one whose first image lies in its sub-folder 0; or its URL.
        channels: one to three channels to show, counted from 0.

    Raises:
        UnreadableSlideError: if it is no image, is damaged, or uses a codec not known here.
    """

    def __init__(self, folder: Place, channels: tuple[int, ...] | None = None) -> None:
        self._name = folder.name
        self._tally = Tally()
        store = RemoteStore(folder, self._tally) if isinstance(folder, Url) else folder
        self._remote = store if isinstance(store, RemoteStore) else None
        try:
            self._open(store, channels)
        except SlideError:  # of a server
            self.close()
            raise
        # zarr and its codecs raise errors of any kind on metadata that is damaged.
        except Exception as error:
            self.close()
            raise UnreadableSlideError(
                f"{self._name}: not an OME-Zarr image that can be read: found "
                f"{type(error).__name__}: {' '.join(str(error).split())}. "
                "Wanted is a folder with `multiscales` (OME-Zarr 0.4 or 0.5)."
            ) from error

    def _open(self, store: _Stored, channels: tuple[int, ...] | None) -> None:
        image, facts = _multiscales(store)
        self._axes = [axis["name"] for axis in facts["axes"]]
        paths = [f"{image}{level['path']}" for level in facts["datasets"]]
        self._nodes = [image.rstrip("/"), *paths]
        self._arrays = [_array(store, path) for path in paths]
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

    def tile_px(self, level: int) -> tuple[int, int]:
        """Chunks."""
        chunks = self._arrays[level].chunks
        return chunks[self._axes.index("x")], chunks[self._axes.index("y")]

    def read_level(self, level: int, x_px: float, y_px: float, size_px: tuple[int, int]) -> RGB:
        """Decode the chunks that the rectangle touches."""
        spans = {
            "x": slice(int(x_px), int(x_px) + size_px[0]),
            "y": slice(int(y_px), int(y_px) + size_px[1]),
        }
        try:
            return self._rgb(level, spans)
        except SlideError:  # of a server
            raise
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

    def counts(self) -> ReadCount:
        """Requests and bytes of a remote image; what zarr reads of a local one is not known."""
        return self._tally.count

    def stamp(self) -> Stamp | None:
        """The versions of all metadata of a remote image; chunks are too many to be asked for."""
        if self._remote is None:
            return None
        store, stamps = self._remote, dict[str, Stamp]()
        for key in (f"{node}/{name}".lstrip("/") for node in self._nodes for name in METADATA):
            with suppress(SlideNotFoundError):
                stamps[key] = store.stamp(key)
        versions = repr([(key, each.etag, each.modified) for key, each in stamps.items()])
        tells = all(each.tells for each in stamps.values())
        return Stamp(sum(each.size for each in stamps.values()), versions if tells else "")

    def close(self) -> None:
        """Let go of the server; chunks on disk are opened when they are read."""
        if self._remote is not None:
            self._remote.close()


def is_remote_zarr(url: Url) -> bool:
    """Whether a zarr node lies at a URL."""
    store = RemoteStore(url, Tally())
    try:
        return any(store.read(name) is not None for name in METADATA)
    finally:
        store.close()


def _multiscales(store: _Stored, path: str = "") -> tuple[str, dict[str, Any]]:
    """Where the image itself lies, and its first `multiscales` entry."""
    group = zarr.open_group(store, path=path, mode="r", use_consolidated=False)
    attributes = dict(group.attrs)
    ome = attributes.get("ome", attributes)
    assert isinstance(ome, dict)
    if "multiscales" not in ome and "bioformats2raw.layout" in ome:
        return _multiscales(store, f"{path}0/")
    if "multiscales" not in ome:
        raise ValueError(f"no multiscales, only {sorted(ome) or 'nothing'}")
    return path, ome["multiscales"][0]


def _array(store: _Stored, path: str) -> zarr.Array[Any]:
    if ".." in PurePosixPath(path).parts or path.startswith("/"):
        raise ValueError(f"a level that lies outside the folder, at {path}")
    if isinstance(store, Path) and not (store / path).resolve().is_relative_to(store.resolve()):
        raise ValueError(f"a level that lies outside the folder, at {path}")
    _refuse_foreign_codecs(store, f"{path}/.zarray")
    array = zarr.open_array(store, path=path, mode="r")
    to_uint8(np.zeros(1, array.dtype), 8 * array.dtype.itemsize)  # refuses floating point
    if np.prod(array.chunks) > _MOST_CHUNK_SAMPLES:
        raise ValueError(f"chunks of {array.chunks}, which can only be decoded whole")
    return array


def _refuse_foreign_codecs(store: _Stored, metadata: str) -> None:
    """Before zarr sees them: nothing read from a slide is ever executed."""
    text: str | bytes | None
    if isinstance(store, Path):
        text = (store / metadata).read_text() if (store / metadata).is_file() else None
    else:
        text = store.read(metadata)
    if text is None:
        return
    facts = json.loads(text)
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
