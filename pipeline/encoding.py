"""The features of many tiles of one slide, read and encoded in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.models.attention_sampling import AttentionSampling
from saccade.pipeline.pieces import Piece
from saccade.pipeline.reading import TileReader, TileRequest
from saccade.tiling.errors import SlideError

_PIECE = 256  # tiles: those of the next piece are read while these are encoded


def encode_tiles(
    model: AttentionSampling, request: TileRequest, reader: TileReader
) -> tuple[NDArray[np.uint8], Tensor]:
    """Read tiles, (n, side, side, 3), and make features (n, features) of them.

    Many tiles go in pieces, those of the next being read while these are encoded, so that memory
    for encoding does not grow with their number.

    Raises:
        SlideError: if the tiles cannot be read.
    """
    device = next(model.parameters()).device
    numbers, pixels, features = [], [], []
    with closing(reader.ahead(_pieces(request), 1)) as read:
        for piece, (found,) in read:
            if isinstance(found, SlideError):
                raise found
            batch = torch.from_numpy(found).permute(0, 3, 1, 2)[None]
            numbers.append(piece.numbers)
            pixels.append(found)
            features.append(model.encode(batch.to(device))[0])
    back = np.argsort(np.concatenate(numbers))
    return np.concatenate(pixels)[back], torch.cat(features)[torch.from_numpy(back).to(device)]


def _pieces(request: TileRequest) -> Iterator[Piece]:
    """A request in pieces; each a band of the slide, so that few source tiles are in two."""
    x, y = request.corners_l0.T
    count = -(-len(x) // _PIECE)
    order = np.lexsort((x, y)) if count > 1 else np.arange(len(x))
    for numbers in np.array_split(order, count):
        yield Piece.of(request.slide, request.corners_l0, numbers)
