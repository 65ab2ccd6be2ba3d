"""Segmentation of one slide: classes of its pixels, areas, outlines for QuPath, and objects.

segmentation.zarr         probabilities of the classes, a field
segmentation.ome.tif      the same as a heatmap, small enough to be looked at
segmentation.geojson      patches of the classes, as QuPath annotations
segmentation.csv          areas and counts of the classes, over all and by region
segmentation.png          the slide, its classes, and places seen closely, for a person
segmentation_objects.h5   the objects of a class that is split into objects
objects.geojson           the same, as QuPath detections
segmentation.record.json  what ran; written last, so that its presence says that the rest is there

The slide is read at the model's scale, tile by tile, where tissue or a region is. Memory does not
depend on the slide: tiles, what the network makes of a batch, blocks of the field, and the outlines
of patches that may go on in the next band of blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saccade.pipeline.config import PyramidConfig
from saccade.pipeline.errors import ResultsError
from saccade.pipeline.files import write_json
from saccade.pipeline.lock import exclusive
from saccade.pipeline.model_file import weights_hash
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.record import Record, Stopwatch
from saccade.pipeline.segment.class_map import ClassMap
from saccade.pipeline.segment.files import FIELD, RECORD, Source, files_of, write_segmentation
from saccade.pipeline.segment.options import SegmentOptions
from saccade.pipeline.segment.splitting import split_of
from saccade.pipeline.segment.where import Where, where_to_work
from saccade.pipeline.segmentation.model_file import (
    load_segmentation_model,
    read_segmentation_card,
)
from saccade.pipeline.stages.field import Field, read_field
from saccade.pipeline.stages.runner import RunOptions, run_stage
from saccade.pipeline.stages.scene import Scene, SlideScene
from saccade.pipeline.stages.segmentation import SegmentationStage
from saccade.pipeline.stages.spread import Spread
from saccade.pipeline.stages.stage import Stage
from saccade.pipeline.thumbnails import ensure_pyramid
from saccade.tiling.crew import Crew
from saccade.tiling.pyramid_view import Pyramid

Progress = Callable[[int, int], None]


def segment_slide(
    slide_ref: SlideRef,
    model_path: Path,
    out: Path,
    options: SegmentOptions,
    *,
    name: str | None = None,
    crew: Crew | None = None,
    progress: Progress | None = None,
) -> bool:
    """Segment one slide, and write everything there is to see of it into `out`.

    A pyramid of this slide that lies there is used, else one is built. A run that was killed goes
    on at the batch where it stopped, and gives the same bytes.

    Args:
        slide_ref: the slide.
        model_path: of a segmentation model.
        out: folder of results; those of a prediction may lie there, too.
        options: where, and what with.
        name: of the slide; its file's name if not given.
        crew: other processes that see to the pyramid and to the tiles.
        progress: called with (done, all), first of the pyramid, then of the tiles.

    Returns:
        Whether anything had to be done: False if `out` holds this very result already.

    Raises:
        SlideError: if the slide cannot be read, has no mpp or no tissue.
        ModelFileError: if the model cannot be read.
        RegionError: if the regions cannot be read, or nothing of the slide lies in them.
        ConfigError: if a tile does not suit the network.
        DivergedError: if the model's scores are not numbers.
    """
    watch = Stopwatch()
    card = read_segmentation_card(model_path)
    with slide_ref.open() as slide, exclusive(out, "segment"):
        made_from = {
            "slide": slide.content_hash,
            "slide_mpp": slide.mpp,
            "model": weights_hash(model_path),
            **options.of_field,
        }
        record = Record(step="segment", inputs={**made_from, **options.of_outlines})
        whole = all((out / each).exists() for each in files_of(card))
        if whole and record.matches(out / RECORD) and not options.force:
            return False
        (out / RECORD).unlink(missing_ok=True)
        network, _ = load_segmentation_model(model_path, options.device)
        stage = SegmentationStage(
            network, card, tile_px=options.tile_px, overlap_px=options.overlap_px
        )
        name = name or slide.name
        pyramid = ensure_pyramid(
            slide, out / "pyramid.zarr", _thumbnails(out), crew=crew, progress=progress
        )
        scene = SlideScene(slide, card.mpp)
        around = card.instances is not None
        where = where_to_work(pyramid, scene.grid, stage.spec, options, around=around, name=name)
        facts = {**made_from, "slide_name": name, "exact": stage.exact, "code": record.code}
        spread = None
        if crew is not None:
            spread = Spread(crew, SlideRecipe.of(slide_ref, model_path, options))
        field = _field(stage, scene, out / FIELD, where, options, facts, spread, progress)
        source = Source(
            slide,
            pyramid,
            scene,
            ClassMap(field, card, where),
            split_of(card),
            stage.exact,
            name,
            {**facts, **options.of_outlines, "stage": "segment"},
        )
        found = write_segmentation(out, source, options)
        spec = stage.spec
        cost = watch.cost(
            view_px=list(scene.grid.shape),
            tile_px=spec.tile_px,
            margin_px=spec.margin_px,
            exact=stage.exact,
            **found,
        )
        write_json(out / RECORD, Record(record.step, record.inputs, cost).as_dict())
        return True


@dataclass(frozen=True, slots=True)
class SlideRecipe:
    """How another process comes to the same network and slide.

    Attributes:
        slide: its file or URL.
        model: its file.
        tile_px: side of the tiles; one that suits the network if None.
        overlap_px: what tiles see around themselves if the network's margin is not known.
    """

    slide: SlideRef
    model: Path
    tile_px: int | None
    overlap_px: int

    @classmethod
    def of(cls, slide: SlideRef, model: Path, options: SegmentOptions) -> SlideRecipe:
        """The same for a process that was started in another folder."""
        place = slide.path.absolute() if isinstance(slide.path, Path) else slide.path
        whole = replace(slide, path=place)
        return cls(whole, model.absolute(), options.tile_px, options.overlap_px)

    def open(self, device: str) -> tuple[Stage, Scene]:
        """Read the one, open the other."""
        network, card = load_segmentation_model(self.model, device)
        stage = SegmentationStage(network, card, tile_px=self.tile_px, overlap_px=self.overlap_px)
        return stage, SlideScene(self.slide.open(), card.mpp)


def _field(
    stage: SegmentationStage,
    scene: SlideScene,
    path: Path,
    where: Where,
    options: SegmentOptions,
    facts: Mapping[str, Any],
    spread: Spread | None,
    progress: Progress | None,
) -> Field:
    """The field, that of a run that was killed after it was done included."""
    found = _kept(path, {"stage": stage.spec.name, **facts})
    if found is not None and not options.force:
        return found
    return run_stage(
        stage,
        scene,
        path,
        limit=where.limit,
        valid=where.counts,
        options=RunOptions(device=options.device, batch=options.batch, workers=options.workers),
        spread=spread,
        provenance=facts,
        progress=progress,
    )


def _kept(path: Path, provenance: Mapping[str, Any]) -> Field | None:
    """The field that lies there, if it was made from the same."""
    if not path.exists():
        return None
    try:
        found = read_field(path)
    except ResultsError:
        return None
    wanted = {
        key: list(each) if isinstance(each, tuple) else each for key, each in provenance.items()
    }
    return found if dict(found.provenance) == wanted else None


def _thumbnails(out: Path) -> PyramidConfig:
    """Those that are there, whatever their scale: they say where tissue is."""
    path = out / "pyramid.zarr"
    if not path.exists():
        return PyramidConfig()
    finest = Pyramid.open(path).recipe.get("finest_mpp")
    return PyramidConfig() if finest is None else PyramidConfig(finest)
