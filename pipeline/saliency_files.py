"""The files that saliency leaves in a slide's folder, but its field and its record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely

from saccade.pipeline.export.field_picture import FieldPicture, draw_field
from saccade.pipeline.export.heat import Heat
from saccade.pipeline.export.objects import write_objects_geojson
from saccade.pipeline.export.ometiff import write_heatmap
from saccade.pipeline.stages.field import Field
from saccade.pipeline.stages.objects import Objects
from saccade.pipeline.stages.regions import top_regions
from saccade.pipeline.thumbnails import read_thumbnail
from saccade.tiling import Slide
from saccade.tiling.pyramid_view import Pyramid

RECORD = "saliency.record.json"
FILES = ("saliency.zarr", "saliency.ome.tif", "saliency.geojson", "saliency.png", RECORD)
SALIENCY = (
    "Saliency by MSI-Net: how much a place stands out from its slide, from 0, the least of what "
    "was judged, to 1, the most. No probability, and not comparable between slides. 0 outside the "
    "tissue, too. Research use only."
)
SHARE, REGIONS = 0.05, 10  # of the tissue that lies in regions; how many are kept


def write_saliency(out: Path, name: str, slide: Slide, pyramid: Pyramid, field: Field) -> None:
    """Write heatmap, regions and picture of a field of saliency.

    Args:
        out: folder of the slide.
        name: of the slide.
        slide: itself.
        pyramid: its thumbnails.
        field: with one channel, `saliency`.
    """
    values = field.channel("saliency")
    write_heatmap(
        out / "saliency.ome.tif",
        values,
        field.grid,
        slide_mpp=slide.mpp,
        channel_names=["saliency"],
        name=f"{name} saliency",
        description=SALIENCY,
    )
    regions = top_regions(field, "saliency", share=SHARE, most=REGIONS)
    write_objects_geojson(
        out / "saliency.geojson", regions, slide_id=slide.content_hash, name_prefix="salient"
    )
    draw_field(out / "saliency.png", _picture(name, slide, pyramid, field, regions))


def _picture(
    name: str, slide: Slide, pyramid: Pyramid, field: Field, regions: Objects
) -> FieldPicture:
    mpp = np.array(slide.mpp)
    width_um, height_um = np.array(slide.size_l0) * mpp
    return FieldPicture(
        thumbnail=read_thumbnail(pyramid),
        size_um=(float(width_um), float(height_um)),
        heat=Heat(
            values=field.channel("saliency"),
            cell_um=field.mpp,
            origin_um=(field.grid.origin_l0[0] * mpp[0], field.grid.origin_l0[1] * mpp[1]),
            scale="0 = least, 1 = most on this slide; outlined: the highest "
            f"{SHARE:.0%} of the tissue",
        ),
        regions_um=[shapely.transform(each, lambda xy: xy * mpp) for each in regions.geometries],
        title=name,
        subtitle=f"saliency by MSI-Net at {max(field.mpp):g} µm a pixel",
        captions=(
            f"Slide, and the {len(regions)} regions that stand out most",
            "Saliency: what stands out",
        ),
    )
