"""Saliency of one slide: from its file to a field, a heatmap, a picture and regions to look at.

saliency.zarr         the field, with its affine to level 0 and its mask
saliency.ome.tif      the same as a heatmap with physical pixel size
saliency.geojson      the regions that stand out, as QuPath annotations
saliency.png          the slide, the heatmap and the regions, for a person
saliency.record.json  what ran; written last, so that its presence says that the rest is there
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from saccade.models.saliency import MSINet
from saccade.pipeline.config import PyramidConfig
from saccade.pipeline.errors import ConfigError
from saccade.pipeline.files import write_json
from saccade.pipeline.glance import tissue_of
from saccade.pipeline.lock import exclusive
from saccade.pipeline.model_file import weights_hash
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.record import Record, Stopwatch
from saccade.pipeline.saliency_files import FILES, RECORD, write_saliency
from saccade.pipeline.saliency_model import SaliencyCard, load_saliency_model, read_saliency_card
from saccade.pipeline.stages.limit import Limit, blocks_with_any
from saccade.pipeline.stages.region_of_interest import cells_of, read_region
from saccade.pipeline.stages.runner import RunOptions, run_stage
from saccade.pipeline.stages.saliency import WHOLE_PX, SaliencyStage
from saccade.pipeline.stages.scene import ArrayScene, Scene
from saccade.pipeline.stages.spread import Spread
from saccade.pipeline.stages.stage import Stage
from saccade.pipeline.thumbnails import ensure_pyramid
from saccade.tiling.crew import Crew
from saccade.tiling.grid import CellGrid
from saccade.tiling.hashing import array_hash, file_hash
from saccade.tiling.pyramid_view import Pyramid, View

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class SaliencyOptions:
    """How saliency is found.

    Attributes:
        view_mpp: micrometres per pixel of the view; the model's own if None.
        roi: GeoJSON of the region to judge; the whole view if None.
        tissue_only: judge blocks with tissue only.
        min_tissue: share of a pixel that must be tissue for it to count as valid; 0 for all.
        tile_px: side of the tiles of the view; a view that is not too large goes through whole if
            None.
        device: cpu, cuda, cuda:1.
        workers: threads that read.
        force: find it again even if the folder holds this very result.

    Raises:
        ConfigError: if a number cannot be.
    """

    view_mpp: float | None = None
    roi: Path | None = None
    tissue_only: bool = False
    min_tissue: float = 0.1
    tile_px: int | None = None
    device: str = "cpu"
    workers: int = 2
    force: bool = False

    def __post_init__(self) -> None:
        if self.view_mpp is not None and not 0 < self.view_mpp < math.inf:
            raise ConfigError(f"view-mpp must be positive, got {self.view_mpp}.")
        if not 0 <= self.min_tissue <= 1:
            raise ConfigError(f"min-tissue is a share from 0 to 1, got {self.min_tissue}.")
        if self.tile_px is not None and (self.tile_px < 1 or self.tile_px % 8):
            raise ConfigError(f"tile wants a multiple of 8 pixels, got {self.tile_px}.")

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What the result depends on."""
        return {
            "roi": None if self.roi is None else file_hash(self.roi),
            "tissue_only": self.tissue_only,
            "min_tissue": self.min_tissue,
            "tile_px": self.tile_px,
            "device": torch.device(self.device).type,
        }


def find_saliency(
    slide_ref: SlideRef,
    model_path: Path,
    out: Path,
    options: SaliencyOptions,
    *,
    name: str | None = None,
    crew: Crew | None = None,
    progress: Progress | None = None,
) -> bool:
    """Find what stands out on one slide, and write everything there is to see of it into `out`.

    A pyramid of this slide that lies there is used, else one is built. A run that was killed goes
    on at the tile where it stopped, and gives the same bytes.

    Args:
        slide_ref: the slide.
        model_path: of a saliency model.
        out: folder of results; those of a prediction may lie there, too.
        options: scale, region, tiles.
        name: of the slide; its file's name if not given.
        crew: other processes that see to the pyramid and to the tiles of a view that does not go
            through whole.
        progress: called with (done, all), first of the pyramid, then of the tiles.

    Returns:
        Whether anything had to be done: False if `out` holds this very result already.

    Raises:
        SlideError: if the slide cannot be read, has no mpp or no tissue.
        ModelFileError: if the model cannot be read.
        RegionError: if the region cannot be read, or nothing of the slide lies in it.
        ConfigError: if neither the model nor the options say the scale of the view.
    """
    watch = Stopwatch()
    with slide_ref.open() as slide, exclusive(out, "saliency"):
        mpp = _view_mpp(read_saliency_card(model_path), options, model_path)
        made_from = {
            "slide": slide.content_hash,
            "slide_mpp": slide.mpp,
            "model": weights_hash(model_path),
            "view_mpp": mpp,
            **options.inputs,
        }
        record = Record(step="saliency", inputs=made_from)
        if record.matches(out / RECORD) and not options.force and _is_complete(out):
            return False
        model, _ = load_saliency_model(model_path, options.device)
        (out / RECORD).unlink(missing_ok=True)
        config = PyramidConfig(finest_mpp=min(PyramidConfig().finest_mpp, mpp))
        place = (out / "pyramid.zarr").absolute()
        pyramid = ensure_pyramid(slide, place, config, crew=crew, progress=progress)
        view, name = pyramid.view(mpp), name or slide.name
        stage, scene = _stage(model, mpp, options.tile_px), _scene(view, slide.mpp)
        limit, valid = _region(view, options, stage.spec.stride, name)
        recipe = ViewRecipe(model_path.absolute(), place, mpp, slide.mpp, options.tile_px)
        field = run_stage(
            stage,
            scene,
            out / "saliency.zarr",
            limit=limit,
            valid=valid,
            options=RunOptions(device=options.device, workers=options.workers),
            spread=None if crew is None else Spread(crew, recipe),
            provenance={**made_from, "slide_name": name, "code": record.code},
            progress=progress,
        )
        write_saliency(out, name, slide, pyramid, field)
        cost = watch.cost(view_px=list(view.grid.shape))
        write_json(out / RECORD, Record(record.step, record.inputs, cost).as_dict())
        return True


@dataclass(frozen=True, slots=True)
class ViewRecipe:
    """How another process comes to the same model and view.

    Attributes:
        model: its file.
        pyramid: of the slide.
        mpp: micrometres per pixel of the view.
        slide_mpp: (x, y) of level 0.
        tile_px: side of the tiles of the view; None for whole if it is not too large.
    """

    model: Path
    pyramid: Path
    mpp: float
    slide_mpp: tuple[float, float]
    tile_px: int | None

    def open(self, device: str) -> tuple[Stage, Scene]:
        """Read both."""
        model, _ = load_saliency_model(self.model, device)
        view = Pyramid.open(self.pyramid).view(self.mpp)
        return _stage(model, self.mpp, self.tile_px), _scene(view, self.slide_mpp)


def _stage(model: MSINet, mpp: float, tile_px: int | None) -> SaliencyStage:
    if tile_px is None:
        return SaliencyStage(model, mpp, whole_px=WHOLE_PX)
    return SaliencyStage(model, mpp, tile_px=tile_px, whole_px=0)


def _scene(view: View, slide_mpp: tuple[float, float]) -> ArrayScene:
    content = array_hash(view.pixels)
    return ArrayScene(view.pixels, content=content, slide_mpp=slide_mpp, grid=view.grid)


def _view_mpp(card: SaliencyCard, options: SaliencyOptions, path: Path) -> float:
    mpp = options.view_mpp or card.mpp
    if mpp is None:
        raise ConfigError(
            f"{path.name}: was trained on pictures without a scale; say at which scale it is to "
            "see the slide: --view-mpp 16."
        )
    return mpp


def _region(
    view: View, options: SaliencyOptions, stride: int, name: str
) -> tuple[Limit | None, Limit]:
    """Where to work, in blocks of a feature each, and which pixels mean something."""
    tissue = tissue_of(view, options.min_tissue, name)
    blocks = blocks_with_any(tissue, stride) if options.tissue_only else None
    if options.roi is not None:
        rows, cols = (-(-length // stride) for length in view.grid.shape)
        cell = view.grid.cell_l0[0] * stride, view.grid.cell_l0[1] * stride
        touched = cells_of(read_region(options.roi), CellGrid((rows, cols), cell))
        blocks = touched if blocks is None else blocks & touched
    return None if blocks is None else Limit(blocks, stride), Limit(tissue, 1)


def _is_complete(out: Path) -> bool:
    return all((out / name).exists() for name in FILES)
