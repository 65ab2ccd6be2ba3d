"""JPEG as a codec of zarr-python, under the name that imagecodecs gives it: `imagecodecs_jpeg`.

Releases of imagecodecs for Python 3.12 and later bring the codec, and the package imagecodecs-zarr
makes it known to zarr-python. Where they are not installed, this stands in for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Self

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.registry import get_codec_class, register_codec

NAME = "imagecodecs_jpeg"
_FOR_WRITING = {"level", "subsampling", "optimize", "smoothing"}
_QUALITY = 95


@dataclass(frozen=True)
class JpegCodec(ArrayBytesCodec):
    """Chunks (rows, cols, 3) of 8 bits as JPEG streams that say all about themselves."""

    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From the metadata of an array.

        Raises:
            ValueError: if the streams cannot be decoded without options that are not known here.
        """
        foreign = set(data.get("configuration") or {}) - _FOR_WRITING
        if foreign:
            raise ValueError(
                f"{NAME} with {sorted(foreign)}, which is not known here; install imagecodecs-zarr."
            )
        return cls()

    def to_dict(self) -> dict[str, Any]:
        """For the metadata of an array."""
        return {"name": NAME}

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        decoded = await asyncio.to_thread(imagecodecs.jpeg8_decode, chunk_bytes.to_bytes())
        pixels = np.asarray(decoded).reshape(chunk_spec.shape)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(pixels)

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        pixels = np.asarray(chunk_array.as_numpy_array(), np.uint8)
        return chunk_spec.prototype.buffer.from_bytes(encode_jpeg(pixels))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Not known beforehand."""
        raise NotImplementedError


def encode_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """(rows, cols, 3) as a JPEG stream of high quality, with colour at full resolution."""
    return bytes(
        imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels), level=_QUALITY, subsampling="444")
    )


def register() -> None:
    """Make the codec known to zarr-python, unless it is."""
    try:
        get_codec_class(NAME)
    except KeyError:
        register_codec(NAME, JpegCodec)
