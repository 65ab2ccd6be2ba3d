"""Masks of one slide: what an encoder's attention modules make stronger within its tiles.

mask.zarr         the masks as a field, each where its tile lies
mask.ome.tif      the same as a heatmap with physical pixel size
mask.geojson      the tiles as QuPath tile objects, with the means of their masks
mask.png          tiles beside their masks, for a person
mask.record.json  what ran; written last, so that its presence says that the rest is there

A mask depends on the whole tile, so the network sees tiles of the size that it was trained at, and
nothing else. Memory does not depend on the slide's height: pieces of tiles, what the network makes
of a batch, a band of the field, and a few numbers a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saccade.pipeline.config import PyramidConfig
from saccade.pipeline.errors import ModelFileError
from saccade.pipeline.files import write_json
from saccade.pipeline.lock import exclusive
from saccade.pipeline.mask.files import FILES, RECORD, Found, most_attended, write_masks
from saccade.pipeline.mask.masks import MaskMaker, TileMasks
from saccade.pipeline.mask.options import MaskOptions
from saccade.pipeline.mask.places import places_of
from saccade.pipeline.model_file import ModelCard, load_model, read_card, weights_hash
from saccade.pipeline.reading import SlideRef, TileReader
from saccade.pipeline.record import Record, Stopwatch
from saccade.pipeline.stages.field import Field, create_field, read_field
from saccade.pipeline.stages.mosaic import BLOCK, Mosaic
from saccade.pipeline.thumbnails import ensure_pyramid
from saccade.tiling import Slide
from saccade.tiling.grid import CellGrid
from saccade.tiling.places import Places
from saccade.tiling.whole_folder import whole_folder

Progress = Callable[[int, int], None]


def find_masks(
    slide_ref: SlideRef,
    model_path: Path,
    out: Path,
    options: MaskOptions,
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> bool:
    """Make the masks of a slide's tiles, and write everything there is to see of them into `out`.

    A pyramid of this slide that lies there is used, else one is built.

    Args:
        slide_ref: the slide.
        model_path: that `train` wrote, whose encoder has attention modules.
        out: folder of results; those of a prediction may lie there, too.
        options: which tiles, and what with.
        name: of the slide; its file's name without suffix if not given.
        progress: called with (done, all), first of the pyramid, then of the tiles.

    Returns:
        Whether anything had to be done: False if `out` holds this very result already.

    Raises:
        SlideError: if the slide cannot be read, has no mpp or no tissue.
        ModelFileError: if the model cannot be read, or its encoder has no masks of whole tiles.
        DivergedError: if attention or masks are not numbers.
    """
    watch = Stopwatch()
    card = read_card(model_path)
    _require_masks(card, model_path)
    with slide_ref.open() as slide, exclusive(out, "mask"):
        made_from = {
            "slide": slide.content_hash,
            "slide_mpp": slide.mpp,
            "model": weights_hash(model_path),
            **options.inputs,
        }
        record = Record(step="mask", inputs=made_from)
        whole = all((out / each).exists() for each in FILES)
        if whole and record.matches(out / RECORD) and not options.force:
            return False
        model, _ = load_model(model_path, options.device)
        config = PyramidConfig(finest_mpp=card.finest_mpp)
        pyramid = ensure_pyramid(slide, out / "pyramid.zarr", config, progress=progress)
        places = places_of(model, card, slide_ref, slide, pyramid, options)
        maker = MaskMaker.of(model, card.tiles.size_px)
        (out / RECORD).unlink(missing_ok=True)
        name = name or slide.name
        facts = {**made_from, "slide_name": name, "stage": "mask", "code": record.code}
        field = _empty_field(maker, places, slide, facts)
        with TileReader(size_px=places.side_px, mpp=places.mpp, workers=options.workers) as reader:
            masks = maker.along(slide_ref, places, reader, options.batch)
            found = _write_field(out / "mask.zarr", field, masks, maker, places, progress)
            waited = reader.waited_seconds
        write_masks(out, name, slide, read_field(out / "mask.zarr"), found)
        cost = watch.cost(tiles_read=len(places), waited_seconds=round(waited, 3))
        write_json(out / RECORD, Record(record.step, record.inputs, cost).as_dict())
        return True


def _require_masks(card: ModelCard, path: Path) -> None:
    if not card.model.has_masks:
        raise ModelFileError(
            f"{path.name}: its encoder, {card.model.encoder}, has no attention modules, and so no "
            "masks. Train one that has: in run.yaml, model.encoder: residual_attention, or "
            "model.attention_module: mixed behind compact or timm:NAME; then saccade train."
        )
    if card.model.looks_within:
        raise ModelFileError(
            f"{path.name}: its encoder looks at a part of each tile, where its spatial transformer "
            "says, and masks of that part have no place in the tile. Train one without: in "
            "run.yaml, model.spatial_transformer: none."
        )


def _empty_field(maker: MaskMaker, places: Places, slide: Slide, facts: Mapping[str, Any]) -> Field:
    """The field as it will be, over the whole slide in cells of the finest masks."""
    cell = maker.cells_px[0] / places.side_px
    grid = CellGrid.covering(slide.size_l0, (places.side_l0[0] * cell, places.side_l0[1] * cell))
    return Field(
        values=np.broadcast_to(np.float32(np.nan), (len(maker.channels), *grid.shape)),
        valid=np.broadcast_to(np.False_, grid.shape),
        grid=grid,
        slide_mpp=slide.mpp,
        kind="feature mask",
        channels=maker.channels,
        provenance=facts,
    )


def _write_field(
    path: Path,
    field: Field,
    masks: Iterable[TileMasks],
    maker: MaskMaker,
    places: Places,
    progress: Progress | None,
) -> Found:
    """Lay the masks into a new field as they come; what else is to be kept of them."""
    means = np.empty((len(places), len(maker.channels)), np.float32)
    wanted = most_attended(places)
    shown: dict[int, TileMasks] = {}
    cells = [each / maker.cells_px[0] for each in maker.cells_px]
    with whole_folder(path) as folder:
        arrays = create_field(folder, field, np.float32, shard_px=BLOCK)
        mosaic = Mosaic(field.grid, places.corners_l0, places.side_l0, cells, *arrays)
        for done, each in enumerate(masks, start=1):
            mosaic.add(each.number, each.maps)
            means[each.number] = [of.mean() for of in each.maps]
            if each.number in wanted:
                shown[each.number] = each
            if progress is not None:
                progress(done, len(places))
    return Found(places, maker.channels, means, [shown[number] for number in wanted])
