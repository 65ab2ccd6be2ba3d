"""Features of one slide: from its file to a table that CLAM and TRIDENT read.

features.h5           features and places of the tiles
features.record.json  what ran; written last, so that its presence says that the table is whole

Memory does not depend on the slide: three pieces of pixels of 32 MB (or a batch each, if that is
more), what decoding keeps of source tiles (256 MB at most), what the network makes of a batch, and
a few dozen bytes a tile. Features go to a file as they are made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.config import PyramidConfig
from saccade.pipeline.embed.encoder import EncoderChoice, TileEncoder
from saccade.pipeline.embed.feature_log import FeatureLog
from saccade.pipeline.embed.options import EmbedOptions
from saccade.pipeline.embed.sampled import sampled_tiles
from saccade.pipeline.errors import ResultsError
from saccade.pipeline.export.features import SquareTiles, write_feature_blocks
from saccade.pipeline.files import write_json
from saccade.pipeline.lock import exclusive
from saccade.pipeline.model_file import read_card
from saccade.pipeline.pieces import in_batches
from saccade.pipeline.reading import SlideRef, TileReader
from saccade.pipeline.record import RECORD as RECORD_OF_PREDICTION
from saccade.pipeline.record import RECORD_OF_EMBEDDING as RECORD
from saccade.pipeline.record import Record, Stopwatch
from saccade.pipeline.stages.workshop import workshop
from saccade.pipeline.thumbnails import ensure_pyramid
from saccade.tiling import Slide
from saccade.tiling.pyramid_view import Pyramid
from saccade.tiling.tissue_tiles import tissue_tiles

FEATURES = "features.h5"


Progress = Callable[[int, int], None]


def embed_slide(
    slide_ref: SlideRef,
    choice: EncoderChoice,
    out: Path,
    options: EmbedOptions,
    *,
    progress: Progress | None = None,
) -> bool:
    """Write the features of all tiles with tissue, or of those that a sampler draws, into `out`.

    A run that was killed goes on after the last batch that was finished, to the same bytes.
    Features do not depend on batch and workers, but for the rounding of floating-point numbers.

    Args:
        slide_ref: the slide.
        choice: the network, and the tiles that it wants.
        out: folder of results, not that of a prediction, whose features have the same name.
        options: which tiles, and what with.
        progress: called with (done, all), first of the pyramid, then of the tiles.

    Returns:
        Whether anything had to be done: False if `out` holds this very result already.

    Raises:
        SlideError: if the slide cannot be read, has no mpp or no tissue.
        ModelFileError: if a model or weights cannot be read.
        ConfigError: if there is no such encoder, or it does not take such tiles.
        DivergedError: if the encoder makes features that are not numbers.
        ResultsError: if `out` holds a prediction.
    """
    watch = Stopwatch()
    _refuse_prediction(out)
    with slide_ref.open() as slide, exclusive(out):
        pyramid_path = options.pyramid or out / "pyramid.zarr"
        config = _pyramid_config(pyramid_path, choice, options)
        inputs = {
            "slide": slide.content_hash,
            "slide_mpp": slide.mpp,
            "finest_mpp": config.finest_mpp,
            **choice.inputs,
            **options.inputs,
        }
        record = Record(step="embed", inputs=inputs)
        whole = (out / FEATURES).is_file() and record.matches(out / RECORD)
        if whole and not options.force:
            return False
        encoder = choice.load(options.device)
        pyramid = ensure_pyramid(slide, pyramid_path, config, progress=progress)
        tiles, counts = _tiles(slide_ref, slide, pyramid, choice, options)
        (out / RECORD).unlink(missing_ok=True)
        identity = {**inputs, "code": record.code, "places": _hash_of(tiles.corners_l0)}
        with workshop(out / FEATURES, identity) as folder:
            log = FeatureLog(folder / "features.log", encoder.dims)
            counts |= _Run(slide_ref, tiles, encoder, options, log, progress).finish()
            about, dims = {**encoder.about, **_rule(options)}, encoder.dims
            write_feature_blocks(out / FEATURES, log.blocks(), dims, tiles, slide, about=about)
        cost = watch.cost(**counts)
        write_json(out / RECORD, Record(record.step, inputs, cost).as_dict())
        return True


def _refuse_prediction(out: Path) -> None:
    if (out / RECORD_OF_PREDICTION).exists():
        raise ResultsError(
            f"{out}: holds a prediction, whose {FEATURES} would be lost; choose another --out, "
            f"such as {out / 'embedding'}. Its thumbnails can be used: --pyramid "
            f"{out / 'pyramid.zarr'}."
        )


def _tiles(
    slide_ref: SlideRef,
    slide: Slide,
    pyramid: Pyramid,
    choice: EncoderChoice,
    options: EmbedOptions,
) -> tuple[SquareTiles, dict[str, Any]]:
    """The tiles to embed, and how many there are of them."""
    wanted = choice.tiles
    if options.sampler is None:
        least, side = options.min_tissue, wanted.size_px
        found = tissue_tiles(slide, pyramid, side_px=side, mpp=wanted.mpp, least=least)
        return found, {"tiles_embedded": len(found), "tiles_in_grid": found.in_grid}
    drawn = sampled_tiles(
        options.sampler,
        slide_ref,
        slide,
        pyramid,
        wanted,
        count=options.tiles,
        seed=options.seed,
        device=options.device,
    )
    return drawn, {"tiles_embedded": len(drawn)}


@dataclass(frozen=True, slots=True)
class _Run:
    """Reads and encodes what the log does not have yet."""

    slide_ref: SlideRef
    tiles: SquareTiles
    encoder: TileEncoder
    options: EmbedOptions
    log: FeatureLog
    progress: Progress | None

    def finish(self) -> dict[str, Any]:
        """Embed the tiles that are left; what that took."""
        kept, batch = self.log.rows, self.options.batch
        self._tick()
        side, mpp = self.tiles.side_px, self.tiles.mpp
        # What is left, in whole batches, so that a killed run goes on with the same ones.
        corners = self.tiles.corners_l0
        left = np.arange(kept, len(corners))
        with (
            TileReader(size_px=side, mpp=mpp, workers=self.options.workers) as reader,
            closing(in_batches(self.slide_ref, corners, left, reader, batch)) as batches,
        ):
            for _, tiles in batches:
                self.log.add(self.encoder.encode(tiles))
                self._tick()
            decoded, waited = reader.counts(), reader.waited_seconds
        return {
            "tiles_of_killed_runs": kept,
            "waited_seconds": round(waited, 3),
            "source_tiles_decoded": decoded.tiles,
            "compressed_bytes_read": decoded.compressed_bytes,
            "pixels_decoded": decoded.pixels,
            "requests": decoded.requests,
        }

    def _tick(self) -> None:
        if self.progress is not None:
            self.progress(self.log.rows, len(self.tiles.corners_l0))


def _pyramid_config(path: Path, choice: EncoderChoice, options: EmbedOptions) -> PyramidConfig:
    """The thumbnails that are wanted: the sampler's own, else those that are there."""
    if options.sampler is not None:
        return PyramidConfig(finest_mpp=read_card(options.sampler).finest_mpp)
    if path.exists():
        found = Pyramid.open(path).recipe.get("finest_mpp")
        if found is not None:
            return PyramidConfig(finest_mpp=found)
    return PyramidConfig() if choice.card is None else PyramidConfig(choice.card.finest_mpp)


def _rule(options: EmbedOptions) -> dict[str, Any]:
    """Which tiles these are, for the attributes of `features`."""
    if options.sampler is None:
        return {"tiles": "tissue", "min_tissue": options.min_tissue}
    return {"tiles": "sampled", "sampler": options.inputs["sampler"], "seed": options.seed}


def _hash_of(corners_l0: NDArray[np.int64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(corners_l0).tobytes()).hexdigest()
