"""A field: numbers over a slide, in zarr, with the affine that says where on the slide they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import zarr
from numpy.typing import NDArray

from saccade.pipeline.errors import ResultsError
from saccade.pipeline.stages.tile_plan import Window
from saccade.tiling import ngff
from saccade.tiling.chunk_codec import ZSTD
from saccade.tiling.grid import CellGrid
from saccade.tiling.whole_folder import whole_folder

FieldKind = Literal["logit", "probability", "density", "evidence", "feature mask", "label"]
"""What a number is: density is relative, for comparing places of one slide; label is a class."""

FIELD_VERSION = 1
_CHUNK_PX = 256
_SHARD_PX = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """Numbers over cells of a slide; in memory, or in an open zarr of any size.

    Attributes:
        values: (channels, rows, cols). Cells that were not judged hold NaN (0 for whole numbers).
        valid: bool (rows, cols), cells whose numbers mean something.
        grid: where the cells lie; it holds the affine to level 0.
        slide_mpp: (x, y) micrometres per level-0 pixel.
        kind: what the numbers are.
        channels: what each channel shows.
        provenance: what made it: stage, slide, weights, settings; plain values for JSON.

    Raises:
        ValueError: if shapes, names or kind do not fit, or `slide_mpp` is not positive.
    """

    values: Any
    valid: Any
    grid: CellGrid
    slide_mpp: tuple[float, float]
    kind: FieldKind
    channels: tuple[str, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = (len(self.channels), *self.grid.shape)
        found = tuple(self.values.shape), tuple(self.valid.shape)
        if found != (wanted, self.grid.shape) or not self.channels:
            raise ValueError(
                f"values and valid need the shapes {wanted} and {self.grid.shape} of channels "
                f"{self.channels} and grid, but have {found[0]} and {found[1]}."
            )
        if self.kind not in get_args(FieldKind):
            raise ValueError(f"kind must be one of {get_args(FieldKind)}, got {self.kind!r}.")
        if not all(0 < mpp < math.inf for mpp in self.slide_mpp):
            raise ValueError(f"slide_mpp must be positive, got {self.slide_mpp}.")

    @property
    def affine_l0(self) -> NDArray[np.float64]:
        """Matrix (2, 3) that takes (column, row, 1) to level-0 (x, y), see `CellGrid`."""
        return self.grid.affine_l0

    @property
    def mpp(self) -> tuple[float, float]:
        """(x, y) micrometres per cell."""
        return (
            self.grid.cell_l0[0] * self.slide_mpp[0],
            self.grid.cell_l0[1] * self.slide_mpp[1],
        )

    def channel(self, name: str) -> NDArray[Any]:
        """One channel as an array in memory, (rows, cols); NaN, or 0, where it is not valid.

        Raises:
            ValueError: if there is no such channel.
        """
        if name not in self.channels:
            raise ValueError(f"there is no channel {name!r}; found {', '.join(self.channels)}.")
        values = np.asarray(self.values[self.channels.index(name)])
        nothing = np.nan if np.issubdtype(values.dtype, np.floating) else 0
        return np.where(np.asarray(self.valid[:]).astype(bool), values, values.dtype.type(nothing))


def write_field(path: Path, of: Field) -> Field:
    """Write a field as an OME-Zarr 0.5 with the mask under `labels/valid`; whole or not at all.

    It is copied in blocks, so that memory does not grow with it.

    Returns:
        The field as it lies there.
    """
    with whole_folder(path) as folder:
        values, valid = create_field(folder, of, of.values.dtype)
        for block in blocks_of(values):
            rows, cols = block.slices
            values[:, rows, cols] = np.asarray(of.values[:, rows, cols])
            valid[rows, cols] = np.asarray(of.valid[rows, cols]).astype(np.uint8)
    return read_field(path)


def read_field(path: Path) -> Field:
    """Open a field; numbers are read when they are asked for.

    Raises:
        ResultsError: if there is none, or it is damaged.
    """
    try:
        group = zarr.open_group(path, mode="r")
        facts: Any = group.attrs["saccade"]
        if facts["kind"] != "field" or facts["version"] > FIELD_VERSION:
            raise ValueError(f"{facts['kind']} {facts['version']}")
        (rows, cols), cell, origin = facts["shape"], facts["cell_l0"], facts["origin_l0"]
        return Field(
            values=group["0"],
            valid=group["labels/valid/0"],
            grid=CellGrid((rows, cols), (cell[0], cell[1]), (origin[0], origin[1])),
            slide_mpp=(facts["slide_mpp"][0], facts["slide_mpp"][1]),
            kind=facts["values"],
            channels=tuple(facts["channels"]),
            provenance=facts["provenance"],
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ResultsError(
            f"{path}: is no field that this Saccade can read ({error}); wanted the .zarr folder "
            "of a stage, such as saliency.zarr."
        ) from error


def create_field(
    folder: Path, like: Field, dtype: Any, *, shard_px: int = _SHARD_PX
) -> tuple[zarr.Array[Any], zarr.Array[Any]]:
    """Make the arrays of a field in an empty folder: values and mask, still to be filled.

    Args:
        folder: of the field.
        like: everything but its numbers.
        dtype: of the values.
        shard_px: side of what becomes one file, cells; blocks that are multiples of it can be
            written in any order, each once.
    """
    group = zarr.open_group(folder, mode="w")
    floating = np.issubdtype(dtype, np.floating)
    values = _create(
        group,
        "0",
        (len(like.channels), *like.grid.shape),
        dtype,
        shard_px,
        np.nan if floating else 0,
    )
    (x_l0, y_l0), (mpp_x, mpp_y) = like.grid.origin_l0, like.slide_mpp
    corner_um = x_l0 * mpp_x, y_l0 * mpp_y
    name = str(like.provenance.get("stage", like.kind))
    labels = group.create_group("labels", attributes=dict(ngff.labels_attributes(["valid"])))
    mask = labels.create_group(
        "valid",
        attributes=dict(
            ngff.label_attributes(
                "valid", [like.mpp], like.slide_mpp, rgba=(0, 255, 0, 96), corner_um=corner_um
            )
        ),
    )
    valid = _create(mask, "0", like.grid.shape, "uint8", shard_px, 0)
    ome = ngff.field_attributes(name, like.channels, like.mpp, like.slide_mpp, corner_um)
    group.attrs.update({"ome": ome["ome"], "saccade": _facts(like)})
    return values, valid


def blocks_of(values: zarr.Array[Any]) -> Iterator[Window]:
    """The shards of the last two axes, row by row."""
    assert values.shards is not None
    shard, shape = values.shards[-2:], values.shape[-2:]
    starts = (range(0, length, side) for length, side in zip(shape, shard, strict=True))
    for top, left in product(*starts):
        yield Window(top, left, min(top + shard[0], shape[0]), min(left + shard[1], shape[1]))


def _facts(of: Field) -> dict[str, Any]:
    """What the attribute `saccade` says; JSON keeps every bit of a float."""
    return {
        "kind": "field",
        "version": FIELD_VERSION,
        "values": of.kind,
        "channels": list(of.channels),
        "shape": list(of.grid.shape),
        "cell_l0": list(of.grid.cell_l0),
        "origin_l0": list(of.grid.origin_l0),
        "affine_l0": of.affine_l0.tolist(),
        "slide_mpp": list(of.slide_mpp),
        "provenance": dict(of.provenance),
    }


def _create(
    group: zarr.Group, name: str, shape: tuple[int, ...], dtype: Any, shard_px: int, nothing: float
) -> zarr.Array[Any]:
    axes = ngff.IMAGE_AXES if len(shape) == 3 else ngff.LABEL_AXES
    # Chunks divide shards; a shard need not be a multiple of what is handy to read.
    chunk = max(side for side in range(1, min(_CHUNK_PX, shard_px) + 1) if shard_px % side == 0)
    array: zarr.Array[Any] = group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(*(1,) * (len(shape) - 2), chunk, chunk),
        shards=(*shape[:-2], shard_px, shard_px),
        compressors=ZSTD.zarr,
        fill_value=nothing,
        dimension_names=axes,
    )
    return array
