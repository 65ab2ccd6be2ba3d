"""The stored bytes of one tile or strip of a TIFF, as samples; JPEG also at a fraction of its size.

The discrete cosine transform of JPEG can be undone at 1/2, 1/4 and 1/8 of the size for less than it
costs whole (ITU-T T.81 says what is stored; scaled decoding is libjpeg's).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import simplejpeg
from tifffile import TiffFrame, TiffPage

from saccade.tiling.colour import Samples

MOST_SEGMENT_PIXELS = 2**27  # of one tile or strip, which can only be decoded whole

_SHRINKS = (1, 2, 4, 8)
_RGB, _YCBCR, _JPEG = 2, 6, 7
_COLOURS = ("RGB", "YCbCr")
# An Adobe marker that says: these are red, green and blue, not luma and chroma.
_STORED_AS_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"


class SegmentDecoder:
    """Decodes the segments of one image.

    Args:
        page: the image.
        strict: refuse JPEG streams that are damaged where the decoder could make up the rest.

    Raises:
        ValueError: if a segment is too large to be decoded whole, or of a kind no codec reads.

    Attributes:
        size: (width, height) of a segment.
        samples: of a pixel, beside one another.
        shrinks: by how much smaller segments can be decoded, 1 first.
    """

    def __init__(self, page: TiffPage | TiffFrame, *, strict: bool = False) -> None:
        key = page.keyframe if page.keyframe is not None else page
        assert isinstance(key, TiffPage)
        self.size = segment_size(key)
        self.samples = int(key.shaped[4])
        self.dtype = np.dtype(key.dtype)
        self._decode, self._strict = key.decode, strict
        self._tables = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}
        self._missing = _value_where_nothing_is_stored(key)
        self._is_fast = _is_plain_jpeg(key)
        self._is_checked = False
        self._head = _head(key, page.jpegtables) if self._is_fast else b""
        self.shrinks = tuple(n for n in _SHRINKS if not self.size[0] % n and not self.size[1] % n)
        if not self._is_fast:
            self.shrinks = (1,)

    def decode(
        self, data: bytes, index: int, *, shrink: int = 1, out: Samples | None = None
    ) -> Samples:
        """Return (height, width, samples) of a segment.

        Args:
            data: as stored; nothing where the file leaves the segment out.
            index: of the segment in its image.
            shrink: how many times smaller, one of `shrinks`.
            out: C-contiguous memory to decode into, if the codec can; the result is what counts.
        """
        if not data:
            width, height = (length // shrink for length in self.size)
            return np.full((height, width, self.samples), self._missing, self.dtype)
        if self._is_fast and (self._is_checked or self._agrees(data, index)):
            return self._fast(data, shrink, out)
        if shrink > 1:
            raise ValueError(f"segment {index} cannot be decoded {shrink} times smaller")
        return self._thorough(data, index)

    def whole_jpeg(self, data: bytes) -> bytes:
        """A stream as one that any decoder reads by itself; only where `shrinks` has several."""
        return self._head + data[2:] if self._head else data

    def is_jpeg(self, data: bytes, index: int) -> bool:
        """Whether segments are JPEG streams that two decoders show alike, as this one is."""
        return bool(data) and self._is_fast and (self._is_checked or self._agrees(data, index))

    def jpeg_of_full_size(self, data: bytes) -> bytes | None:
        """`whole_jpeg`, if its picture is as large as a segment and has three samples."""
        whole = self.whole_jpeg(data)
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(whole)
        except ValueError:  # nothing that begins a JPEG
            return None
        fits = (width, height) == self.size and colours in _COLOURS
        return whole if fits else None

    def _agrees(self, data: bytes, index: int) -> bool:
        """Whether both ways to decode show the same; found out once for an image."""
        self._is_fast = np.array_equal(self._fast(data, 1, None), self._thorough(data, index))
        self._is_checked = True
        return self._is_fast

    def _fast(self, data: bytes, shrink: int, out: Samples | None) -> Samples:
        width, height = (length // shrink for length in self.size)
        samples: Samples = simplejpeg.decode_jpeg(
            self.whole_jpeg(data),
            fastupsample=False,  # as every other decoder does it unless told otherwise
            min_width=width,
            min_height=height,
            buffer=out,
            strict=self._strict,
        )
        if samples.shape != (height, width, 3):
            raise ValueError(f"a JPEG of {samples.shape[1]} x {samples.shape[0]} pixels in a tile")
        return samples

    def _thorough(self, data: bytes, index: int) -> Samples:
        decoded, _, _ = self._decode(data, index, **self._tables)
        (segment,) = np.asarray(decoded)  # of depth one
        return np.asarray(segment)


def segment_size(key: TiffPage) -> tuple[int, int]:
    """(width, height) of the tiles or strips of an image.

    Raises:
        ValueError: if that is too large to be decoded whole.
    """
    width, height = (
        (key.tilewidth, key.tilelength)
        if key.is_tiled
        else (key.imagewidth, min(key.rowsperstrip, key.imagelength))
    )
    if width * height > MOST_SEGMENT_PIXELS:
        raise ValueError(
            f"compressed tiles or strips of {width} x {height} pixels, which can only be decoded "
            f"whole; {MOST_SEGMENT_PIXELS} pixels are allowed"
        )
    return width, height


def _is_plain_jpeg(key: TiffPage) -> bool:
    """Whether tiles are JPEG streams of three 8-bit samples, beside one another."""
    stored = key.compression == _JPEG and key.photometric in (_RGB, _YCBCR) and key.is_tiled
    samples = key.dtype == np.uint8 and key.bitspersample == 8 and key.shaped[4] == 3
    plain = not key.extrasamples and key.planarconfig == 1 and key.jpegheader is None
    return bool(stored and samples and plain and key.imagedepth == 1)


def _head(key: TiffPage, tables: bytes | None) -> bytes:
    """What goes before a stream, in place of its first marker, to make it whole."""
    # A JFIF marker says YCbCr, whatever the TIFF says of its colours.
    as_rgb = _STORED_AS_RGB if key.photometric == _RGB and not key.is_jfif else b""
    shared = tables[2:-2] if tables else b""
    return b"\xff\xd8" + as_rgb + shared if as_rgb or shared else b""


def _value_where_nothing_is_stored(key: TiffPage) -> Any:
    """White for colour; black for grey, where most such images are fluorescence."""
    colour = key.photometric in (_RGB, _YCBCR) and np.dtype(key.dtype).kind == "u"
    return np.iinfo(np.dtype(key.dtype)).max if colour else 0
