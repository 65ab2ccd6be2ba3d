"""The levels of a pyramid: which there are, and how they are cut into chunks and shards."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import zarr
from zarr.codecs import TransposeCodec

from saccade.tiling import ngff
from saccade.tiling.chunk_codec import LZ4, ZSTD, ChunkCodec
from saccade.tiling.grid import CellGrid
from saccade.tiling.jpeg_codec import JpegCodec
from saccade.tiling.slide import Slide
from saccade.tiling.tissue import TissueSettings

Codec = Literal["auto", "jpeg", "zstd"]
Shape = tuple[int, int]
"""(rows, cols)."""


_CHUNK = 512  # what a viewer fetches
_SHARD = 2048  # what becomes one file
_LABEL_SHARD = 16384  # the same for masks of a whole slide, which take next to nothing
_TISSUE_MPP = 8.0
_TISSUE_PX = 1 << 22


@dataclass(frozen=True, slots=True)
class PyramidSettings:
    """How a pyramid is built.

    Attributes:
        finest_mpp: micrometres per pixel of its finest level; the slide's own mpp if coarser.
            Without meaning for a full one.
        smallest_px: levels are added until the longer side of the last has at most this length.
        tissue: what counts as tissue.
        full: begin with the slide's level 0 itself.
        codec: of level 0 of a full pyramid. "jpeg" copies the slide's JPEG tiles as they are,
            "zstd" stores their pixels, "auto" copies where there is JPEG to be copied.

    Raises:
        ValueError: if `finest_mpp` is not positive, `codec` unknown, or `smallest_px` outside 1 to
            2048; more would leave a large slide without a level that fits into memory.
    """

    finest_mpp: float = 4.0
    smallest_px: int = 512
    tissue: TissueSettings = field(default_factory=TissueSettings)
    full: bool = False
    codec: Codec = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.finest_mpp < math.inf:
            raise ValueError(f"finest_mpp must be positive, got {self.finest_mpp}.")
        if not 1 <= self.smallest_px <= _SHARD:
            raise ValueError(f"smallest_px must be 1 to {_SHARD}, got {self.smallest_px}.")
        if self.codec not in ("auto", "jpeg", "zstd"):
            raise ValueError(f"codec must be auto, jpeg or zstd, got {self.codec!r}.")


@dataclass(frozen=True, slots=True)
class PyramidLevel:
    """One resolution of a pyramid: (rows, cols), and (x, y) micrometres per pixel."""

    shape: Shape
    mpp_xy: tuple[float, float]

    @property
    def mpp(self) -> float:
        """Micrometres per pixel, along the longer side of a pixel that is not square."""
        return max(self.mpp_xy)

    @property
    def next(self) -> PyramidLevel:
        """Half of this one, lengths rounded up."""
        rows, cols = self.shape
        x, y = self.mpp_xy
        return PyramidLevel((-(-rows // 2), -(-cols // 2)), (2 * x, 2 * y))


@dataclass(frozen=True, slots=True)
class Cut:
    """How levels are cut.

    Attributes:
        chunk: (rows, cols) that are encoded by themselves, even numbers.
        shard: (rows, cols) of what becomes one file, multiples of `chunk`.
        label_shard: the same for masks.
        codec: of the chunks of the levels, but for copied tiles.
        jpeg_tile: (rows, cols) of the JPEG tiles that are level 0, if it is made of such.
        jpeg_shard: (rows, cols) of what becomes one file of level 0 then.
    """

    chunk: Shape
    shard: Shape
    label_shard: Shape
    codec: ChunkCodec = ZSTD
    jpeg_tile: Shape | None = None
    jpeg_shard: Shape | None = None


def plan_levels(slide: Slide, settings: PyramidSettings) -> tuple[PyramidLevel, ...]:
    """Levels from the finest on, each half the one before, lengths rounded up."""
    levels = [_finest(slide, settings)]
    while max(levels[-1].shape) > settings.smallest_px:
        levels.append(levels[-1].next)
    return tuple(levels)


def _finest(slide: Slide, settings: PyramidSettings) -> PyramidLevel:
    if settings.full:
        width, height = slide.size_l0
        return PyramidLevel((height, width), slide.mpp)
    mpp = max(settings.finest_mpp, *slide.mpp)
    shape = CellGrid.covering(slide.size_l0, slide.downsample_for(mpp)).shape
    return PyramidLevel(shape, (mpp, mpp))


def thumbnail_cut() -> Cut:
    """How thumbnails are cut."""
    return Cut((_CHUNK, _CHUNK), (_SHARD, _SHARD), (_SHARD, _SHARD))


def full_cut(block: Shape, jpeg_tile: Shape | None) -> Cut:
    """How the levels of a full pyramid are cut, which is read in blocks of (rows, cols).

    The blocks hold whole shards of the level that is made of their pixels: of level 1 where level
    0 is copied, else of level 0. Where tiles are copied to be quick, zstd would take as long as
    decoding.
    """
    rows, cols = block
    shard = block if jpeg_tile is None else (rows // 2, cols // 2)
    chunk = shard[0] // 4, shard[1] // 4
    masks = _LABEL_SHARD // _CHUNK
    label_shard = chunk[0] * masks, chunk[1] * masks
    if jpeg_tile is None:
        return Cut(chunk, shard, label_shard)
    return Cut(chunk, shard, label_shard, LZ4, jpeg_tile, jpeg_shard=block)


def create_image(group: zarr.Group, number: int, shape: Shape, cut: Cut) -> zarr.Array[Any]:
    """An array (3, rows, cols) for a level."""
    if number == 0 and cut.jpeg_tile is not None and cut.jpeg_shard is not None:
        return _create_jpeg(group, shape, cut.jpeg_tile, cut.jpeg_shard)
    array: zarr.Array[Any] = group.create_array(
        str(number),
        shape=(3, *shape),
        dtype="uint8",
        chunks=(1, *cut.chunk),
        shards=(3, *_fitting(shape, cut.chunk, cut.shard)),
        compressors=cut.codec.zarr,
        fill_value=0,
        dimension_names=ngff.IMAGE_AXES,
    )
    return array


def create_mask(group: zarr.Group, number: int, shape: Shape, cut: Cut) -> zarr.Array[Any]:
    """An array (rows, cols) for the mask of a level."""
    array: zarr.Array[Any] = group.create_array(
        str(number),
        shape=shape,
        dtype="uint8",
        chunks=cut.chunk,
        shards=_fitting(shape, cut.chunk, cut.label_shard),
        compressors=ZSTD.zarr,
        fill_value=0,
        dimension_names=ngff.LABEL_AXES,
    )
    return array


def _create_jpeg(group: zarr.Group, shape: Shape, tile: Shape, shard: Shape) -> zarr.Array[Any]:
    """Level 0 in the slide's own tiles; a tile that is left out is white."""
    array: zarr.Array[Any] = group.create_array(
        "0",
        shape=(3, *shape),
        dtype="uint8",
        chunks=(3, *tile),
        shards=(3, *_fitting(shape, tile, shard)),
        filters=TransposeCodec(order=(1, 2, 0)),  # JPEG has the colours of a pixel side by side
        serializer=JpegCodec(),
        compressors=None,
        fill_value=255,
        dimension_names=ngff.IMAGE_AXES,
    )
    return array


def _fitting(shape: Shape, chunk: Shape, shard: Shape) -> Shape:
    """A level that fits into a shard is one that has no room for more."""
    rows, cols = (min(most, -(-n // c) * c) for n, c, most in zip(shape, chunk, shard, strict=True))
    return rows, cols


def tissue_level(levels: tuple[PyramidLevel, ...]) -> int:
    """Number of the level on which tissue is looked for: fine enough to see it, not larger."""
    for number, level in enumerate(levels):
        if level.mpp >= _TISSUE_MPP * (1 - 1e-6) and math.prod(level.shape) <= _TISSUE_PX:
            return number
    return len(levels) - 1
