"""What it takes to keep a million objects of a slide on disk, and to hand them to QuPath.

Objects are made up, as boxes (what detectors find) and as outlines of 20 corners (nuclei). Three
steps, each in a fresh process: to the log as they are found, from there to the store, and from the
store to GeoJSON.

    python benchmarks/export_objects.py --objects 1000000
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measure import clock, fresh, own_peak_mb, report

from saccade.pipeline.export.detections import GeoJsonForm, write_detections_geojson
from saccade.pipeline.objects.batch import ObjectBatch
from saccade.pipeline.objects.log import ObjectLog
from saccade.pipeline.objects.store import ObjectStore, write_object_store

CLASSES = ("epithelial", "inflammatory", "stromal")
A_TILE = 200  # objects
STEPS = ("log", "store", "geojson", "geojson.gz")


def made_up(objects: int, corners: int) -> Iterator[tuple[int, ObjectBatch]]:
    """Tiles with their objects: regular outlines of 8 to 20 pixels around anywhere."""
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * np.arange(corners) / corners
    around = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for tile in range(-(-objects // A_TILE)):
        count = min(A_TILE, objects - tile * A_TILE)
        centre, radius = rng.uniform(0, 1e5, (count, 1, 2)), rng.uniform(8, 20, (count, 1, 1))
        yield (
            tile,
            ObjectBatch(
                (centre + radius * around).reshape(-1, 2),
                np.full(count, corners),
                rng.integers(0, len(CLASSES), count),
                rng.random(count).astype(np.float32),
                {"area um2": (radius.reshape(-1) ** 2 * 3.1416 / 16).astype(np.float32)},
            ),
        )


def run_step(step: str, folder: Path, objects: int, corners: int) -> None:
    """One step, on what the one before it left in the folder."""
    log, store, names = folder / "objects.log", folder / "objects.h5", ["area um2"]
    with clock() as spent:
        if step == "log":
            found = ObjectLog(log, names)
            for tile, batch in made_up(objects, corners):
                found.add({tile: batch})
            size = log.stat().st_size
        elif step == "store":
            batches = (batch for _, batch in ObjectLog(log, names).blocks())
            write_object_store(store, batches, classes=CLASSES, measurements=names, about={})
            size = store.stat().st_size
        else:
            kept = ObjectStore.open(store)
            (path,) = write_detections_geojson(
                folder,
                "objects",
                kept.batches(),
                classes=kept.classes,
                slide_id="sha256:0",
                form=GeoJsonForm(gzip=step.endswith("gz")),
            )
            size = path.stat().st_size
    report(wall=spent.wall, cpu=spent.cpu, size=size / 1e6, peak_mb=own_peak_mb())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--step", choices=STEPS, help="one alone, in this process")
    parser.add_argument("--corners", type=int, default=4)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.step:
        run_step(given.step, given.folder, given.objects, given.corners)
        return
    print("| outlines | step | seconds | CPU s | MB on disk | peak MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for corners in (4, 20):
        with tempfile.TemporaryDirectory() as folder:
            for step in STEPS:
                words = ["--objects", str(given.objects), "--corners", str(corners)]
                words += ["--step", step, "--folder", folder]
                found = fresh(__file__, words, threads=1, memory_gb=8)
                if "failed" in found:
                    raise SystemExit(json.dumps(found))
                numbers = (f"{found[key]:.0f}" for key in ("wall", "cpu", "size", "peak_mb"))
                print(f"| {corners} corners | {step} | {' | '.join(numbers)} |", flush=True)


if __name__ == "__main__":
    main()
