"""The slides of a saliency run with their targets; broken ones are named and left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from saccade.models.attention_sampling import AttentionSampling
from saccade.pipeline.errors import SheetError, TargetError
from saccade.pipeline.glance import glance_at
from saccade.pipeline.model_file import ModelCard, load_model, weights_hash
from saccade.pipeline.saliency.config import SaliencyConfig
from saccade.pipeline.saliency.fit import Example, Picture
from saccade.pipeline.saliency.target_files import (
    find_target,
    read_density,
    read_outlines,
    read_points,
)
from saccade.pipeline.saliency.targets import (
    Target,
    from_attention,
    from_density,
    from_fixations,
    from_outlines,
)
from saccade.pipeline.sheet import SheetRow
from saccade.pipeline.thumbnails import ensure_pyramid
from saccade.tiling import open_slide
from saccade.tiling.errors import SlideError
from saccade.tiling.hashing import file_hash
from saccade.tiling.pyramid_view import Pyramid, View


@dataclass(frozen=True, slots=True)
class Gallery:
    """What a saliency run sees.

    Attributes:
        train: to fit.
        val: to choose the best epoch by; may be empty.
        hashes: content hash of each slide and of what its target was made from, by name.
        failures: what was wrong with each slide that was left out, by name.
    """

    train: list[Example] = field(default_factory=list)
    val: list[Example] = field(default_factory=list)
    hashes: dict[str, list[str]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def load_gallery(
    rows: Sequence[SheetRow],
    pyramids: Path,
    config: SaliencyConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Gallery:
    """Look at every slide of the splits train and val once, and make its target.

    Args:
        rows: of the sheet; other splits are passed over, and labels are not asked for.
        pyramids: folder that holds `<slide>/pyramid.zarr`; what is missing is built there.
        config: scales of pyramid and view, and what targets are made from.
        progress: called with (done, all).

    Raises:
        SheetError: if no training slide can be used.
        ModelFileError: if the teacher cannot be read.
    """
    maker = _maker(config)
    gallery = Gallery()
    wanted = [row for row in rows if row.split in ("train", "val")]
    for done, row in enumerate(wanted, start=1):
        try:
            picture, hashes = _load(row, pyramids, config, maker)
        except (SlideError, TargetError) as error:
            gallery.failures[row.slide] = str(error)
        else:
            # Pictures stay in memory, as views do in other runs: 7 bytes a pixel of a view.
            part = gallery.train if row.split == "train" else gallery.val
            part.append(Example(row.slide, picture))
            gallery.hashes[row.slide] = hashes
        if progress:
            progress(done, len(wanted))
    if not gallery.train:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in gallery.failures.items())
        raise SheetError(f"training wants slides with split `train`; found none.{reasons}")
    return gallery


def _load(
    row: SheetRow, pyramids: Path, config: SaliencyConfig, maker: _FromFile | _FromTeacher
) -> tuple[Picture, list[str]]:
    with open_slide(row.path, mpp=row.mpp) as slide:
        pyramid = ensure_pyramid(slide, pyramids / row.slide / "pyramid.zarr", config.pyramid)
        slide_hash = slide.content_hash
    view = pyramid.view(config.view.mpp)
    try:
        target, source = maker.make(row.slide, pyramid, view)
        target = _on_tissue(target, view, config)
    except ValueError as error:
        raise TargetError(f"{row.slide}: its target cannot be used: {error}.") from error
    return Picture(view.pixels, target), [slide_hash, source]


def _on_tissue(target: Target, view: View, config: SaliencyConfig) -> Target:
    kept = np.where(view.tissue >= config.view.min_tissue, target, 0)
    if not kept.any():
        raise ValueError("nothing of it lies on tissue; lower view.min_tissue to look elsewhere")
    return np.asarray(kept / kept.sum(), np.float32)


@dataclass(frozen=True, slots=True)
class _FromFile:
    """Makes targets from a file for each slide."""

    config: SaliencyConfig

    def make(self, slide: str, pyramid: Pyramid, view: View) -> tuple[Target, str]:
        """The target of a slide, and the hash of its file."""
        targets = self.config.targets
        path = find_target(Path(targets.folder), slide, targets.kind)
        sigma_px = targets.blur_um / view.mpp
        shape, cell_l0 = view.grid.shape, np.array(view.grid.cell_l0)
        if targets.kind == "fixations":
            target = from_fixations(read_points(path) / cell_l0, shape, sigma_px)
        elif targets.kind == "annotations":
            polygons = [[ring / cell_l0 for ring in polygon] for polygon in read_outlines(path)]
            target = from_outlines(polygons, shape, sigma_px)
        else:
            target = from_density(read_density(path), shape)
        return target, file_hash(path)


@dataclass(frozen=True, slots=True)
class _FromTeacher:
    """Makes targets from the attention of a trained model."""

    model: AttentionSampling
    card: ModelCard
    hash: str

    def make(self, slide: str, pyramid: Pyramid, view: View) -> tuple[Target, str]:
        """The target of a slide, and the hash of the model."""
        glance = glance_at(pyramid, self.card.view, stride=self.model.attention.stride, name=slide)
        pixels = torch.from_numpy(glance.pixels).permute(2, 0, 1)[None]
        with torch.no_grad():
            log_attention = self.model.attend(pixels, torch.from_numpy(glance.tissue)[None])
        grid = log_attention[0].numpy().reshape(glance.grid.shape)
        return from_attention(grid, glance.grid, view.grid), self.hash


def _maker(config: SaliencyConfig) -> _FromFile | _FromTeacher:
    if config.targets.teacher is None:
        return _FromFile(config)
    path = Path(config.targets.teacher)
    return _FromTeacher(*load_model(path), weights_hash(path))
