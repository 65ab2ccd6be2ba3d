"""Lossless codecs for the chunks of a pyramid, as Zarr names them and as they are encoded here.

Both are codecs of Zarr's own list, which every reader has. On stained tissue, 2048 x 2048 pixels at
1 um/px: zstd takes 20 ms and leaves 80 %, LZ4 10 ms and 92 %; on glass zstd leaves half as much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, ZstdCodec

_ZSTD_LEVEL = 1  # 3 takes 2.7 times as long for 2 % less
_LZ4_LEVEL = 5


@dataclass(frozen=True, slots=True)
class ChunkCodec:
    """A codec for 8-bit samples.

    Attributes:
        zarr: what the metadata of an array says.
        encode: from the bytes of a chunk to what is stored.
    """

    zarr: Any
    encode: Callable[[bytes], bytes | bytearray]

    def encoded(self, plane: NDArray[np.uint8], chunk: tuple[int, int]) -> bytes | None:
        """(rows, cols) as a chunk, filled up with zeros; None if it is nothing but zeros."""
        if not plane[0, 0] and not plane.any():  # the first pixel mostly says enough
            return None
        if plane.shape != chunk:
            whole = np.zeros(chunk, np.uint8)
            whole[: plane.shape[0], : plane.shape[1]] = plane
            plane = whole
        return bytes(self.encode(plane.tobytes()))


ZSTD = ChunkCodec(
    ZstdCodec(level=_ZSTD_LEVEL),
    lambda data: imagecodecs.zstd_encode(data, level=_ZSTD_LEVEL),
)
LZ4 = ChunkCodec(
    BloscCodec(cname="lz4", clevel=_LZ4_LEVEL, shuffle="bitshuffle", typesize=1),
    lambda data: imagecodecs.blosc_encode(
        data, level=_LZ4_LEVEL, compressor="lz4", shuffle="bitshuffle", typesize=1, numthreads=1
    ),
)
