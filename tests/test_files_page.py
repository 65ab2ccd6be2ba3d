"""docs/files.md against what a run leaves: every file, column and key is explained."""

import csv
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors
import zarr

from saccade.pipeline.detect.options import DetectOptions
from saccade.pipeline.detect.run import detect_slide
from saccade.pipeline.embed.encoder import EncoderChoice
from saccade.pipeline.embed.options import EmbedOptions
from saccade.pipeline.embed.run import embed_slide
from saccade.pipeline.evaluate import evaluate
from saccade.pipeline.evidence_slide import find_evidence
from saccade.pipeline.mask.options import MaskOptions
from saccade.pipeline.mask.run import find_masks
from saccade.pipeline.model_file import load_model
from saccade.pipeline.options import PredictOptions
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.run import run_slide
from saccade.pipeline.saliency_slide import SaliencyOptions, find_saliency
from saccade.pipeline.segment.options import SegmentOptions
from saccade.pipeline.segment.run import segment_slide
from saccade.pipeline.sheet import of_split
from tests.cohort import TinyCohort
from tests.detector_model import write_detector
from tests.mask_model import write_mask_model
from tests.pipeline.bags.feature_files import write_features
from tests.pipeline.test_evidence_slide import SIDE_L0, corners, write_model
from tests.saliency_model import write_narrow_model
from tests.segment_model import use_seer, write_small_model

PAGE = (Path(__file__).parents[1] / "docs" / "files.md").read_text()


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, cohort: TinyCohort, trained: Path, one_thread: None
) -> Path:
    """Results of the two held-out slides of the tiny cohort."""
    folder = tmp_path_factory.mktemp("results")
    held_out = of_split(cohort.rows, "test")
    for row in held_out:
        run_slide(SlideRef(row.path), trained, folder / row.slide, PredictOptions(workers=1))
    evaluate(folder, held_out, folder)
    return folder


def section(heading: str) -> str:
    """The page from a heading to the next one of its kind."""
    (found,) = re.findall(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGE, re.S | re.M)
    return str(found)


def unexplained(names: Iterable[str], heading: str) -> list[str]:
    """Names that the section does not mention; a class stands as <class>."""
    text = section(heading)
    general = [re.sub(r"^(evidence|prob)_.*", r"\1_<class>", name) for name in names]
    return [name for name in general if f"`{name}`" not in text]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def keys_of(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(path.read_text())
    return found


def test_every_file_of_a_slide_has_a_section(results: Path) -> None:
    names = sorted(path.name for path in (results / "s6").iterdir() if path.name[0] != ".")

    assert names
    for name in names:
        assert section(
            f"{name}/" if (results / "s6" / name).is_dir() and name == "qupath" else name
        )
    for path in (results / "s6" / "qupath").iterdir():
        assert f"`{path.name}`" in section("qupath/")


def test_every_file_of_a_training_run_is_named(trained: Path) -> None:
    files = [path.name for path in trained.iterdir() if path.name[0] != "."]
    assert unexplained(files, "Of a training run") == []


def test_tables_and_objects(results: Path, trained: Path) -> None:
    slide = results / "s6"
    assert unexplained(rows_of(slide / "tiles.csv")[0], "tiles.csv") == []
    assert unexplained(keys_of(slide / "prediction.json"), "prediction.json") == []
    for record in (keys_of(slide / "record.json"), keys_of(trained / "record.json")):
        assert unexplained([*record, *record["cost"]], "record.json") == []
    geojson = keys_of(slide / "attention.geojson")
    measurements = geojson["features"][0]["properties"]["measurements"]
    assert unexplained(measurements, "attention.geojson") == []


def test_files_and_facts_of_saliency(cohort: TinyCohort, tmp_path: Path, one_thread: None) -> None:
    model = write_narrow_model(tmp_path / "model.safetensors")
    out, heading = tmp_path / "out", "Of saliency: `saccade saliency`"
    find_saliency(SlideRef(cohort.path("s6")), model, out, SaliencyOptions())

    names = [path.name for path in out.iterdir() if path.name[0] != "."]
    assert unexplained(set(names) - {"pyramid.zarr"}, heading) == []
    facts: Any = zarr.open_group(out / "saliency.zarr", mode="r").attrs["saccade"]
    assert unexplained([*facts, *facts["provenance"]], heading) == []
    record = keys_of(out / "saliency.record.json")
    assert unexplained([*record, *record["cost"]], "record.json") == []
    measured = keys_of(out / "saliency.geojson")["features"][0]["properties"]["measurements"]
    assert unexplained(measured, heading) == []


def test_files_and_facts_of_an_embedding(
    results: Path, trained: Path, cohort: TinyCohort, tmp_path: Path
) -> None:
    heading = "Of an embedding: `saccade embed`"
    model, pyramid = trained / "model.safetensors", results / "s6" / "pyramid.zarr"
    for name, sampler in (("all", None), ("drawn", model)):
        options = EmbedOptions(sampler=sampler, pyramid=pyramid)
        embed_slide(SlideRef(cohort.path("s6")), EncoderChoice(model), tmp_path / name, options)
        names = [path.name for path in (tmp_path / name).iterdir() if path.name[0] != "."]
        assert unexplained(names, heading) == []
        with h5py.File(tmp_path / name / "features.h5") as file:
            facts = [key for table in file.values() for key in table.attrs]
        assert unexplained(facts, heading) == []
        record = keys_of(tmp_path / name / "features.record.json")
        assert unexplained([*record, *record["cost"]], "record.json") == []


def test_files_and_facts_of_masks(cohort: TinyCohort, tmp_path: Path, one_thread: None) -> None:
    model = write_mask_model(tmp_path / "model.safetensors")
    out, heading = tmp_path / "out", "Of masks: `saccade mask`"
    for all_tissue in (False, True):
        options = MaskOptions(all_tissue=all_tissue, batch=256)
        find_masks(SlideRef(cohort.path("s6")), model, out, options)

        names = [path.name for path in out.iterdir() if path.name[0] != "."]
        assert unexplained(set(names) - {"pyramid.zarr"}, heading) == []
        facts: Any = zarr.open_group(out / "mask.zarr", mode="r").attrs["saccade"]
        assert unexplained(facts["provenance"], heading) == []
        assert unexplained([facts["values"]], "Of saliency: `saccade saliency`") == []
        record = keys_of(out / "mask.record.json")
        assert unexplained([*record, *record["cost"]], "record.json") == []
        measured = keys_of(out / "mask.geojson")["features"][0]["properties"]["measurements"]
        general = {re.sub(r"\d+px", "<cell>px", each) for each in [*measured, *facts["channels"]]}
        assert unexplained(general, heading) == []


def test_files_and_facts_of_detection(
    results: Path, cohort: TinyCohort, tmp_path: Path, one_thread: None
) -> None:
    heading, out = "Of detection: `saccade detect`", tmp_path / "out"
    model = write_detector(tmp_path / "detector.safetensors")
    places = results / "s6" / "attention.geojson"
    options = DetectOptions(places=places, min_score=0.1, tile_px=160, most=1)
    detect_slide(SlideRef(cohort.path("s6")), model, out, options)

    names = {path.name for path in out.iterdir() if path.name[0] != "."}
    general = {re.sub(r"[.]\d+[.]", ".<n>.", name) for name in names - {"pyramid.zarr"}}
    assert unexplained(general, heading) == []
    with h5py.File(out / "detection_objects.h5") as file:
        facts = json.loads(file.attrs["saccade"])
        assert unexplained([*file, *facts, *facts["provenance"]], heading) == []
    assert unexplained(rows_of(out / "detection.csv")[0], heading) == []
    record = keys_of(out / "detection.record.json")
    assert unexplained([*record, *record["cost"]], "record.json") == []
    feature = keys_of(out / "detection.geojson")["features"][0]
    assert unexplained(feature["properties"]["measurements"], heading) == []


def test_files_and_facts_of_a_segmentation(cohort: TinyCohort, tmp_path: Path) -> None:
    heading, out = "Of a segmentation: `saccade segment`", tmp_path / "out"
    model = write_small_model(tmp_path / "model.safetensors")
    options = SegmentOptions(tile_px=256, min_area_um2=1.0)
    with pytest.MonkeyPatch.context() as patch:
        use_seer(patch)
        segment_slide(SlideRef(cohort.path("s6")), model, out, options)

    names = [path.name for path in out.iterdir() if path.name[0] != "."]
    assert unexplained(set(names) - {"pyramid.zarr"}, heading) == []
    facts: Any = zarr.open_group(out / "segmentation.zarr", mode="r").attrs["saccade"]
    assert unexplained([*facts["provenance"], facts["values"]], heading) == []
    assert unexplained(rows_of(out / "segmentation.csv")[0], heading) == []
    record = keys_of(out / "segmentation.record.json")
    assert unexplained([*record, *record["cost"]], "record.json") == []


def test_files_and_facts_of_evidence(cohort: TinyCohort, tmp_path: Path, one_thread: None) -> None:
    heading, out = "Of evidence: `saccade evidence`", tmp_path / "out"
    places = corners()
    values = np.ones((len(places), 3), np.float32)
    features = write_features(tmp_path / "f.h5", values, places, side_l0=SIDE_L0)
    model = write_model(tmp_path / "m.safetensors", "spatial_output")
    find_evidence(SlideRef(cohort.path("s6")), features, model, out)

    names = [path.name for path in out.iterdir() if path.name[0] != "."]
    assert unexplained(set(names) - {"pyramid.zarr"}, heading) == []
    facts: Any = zarr.open_group(out / "evidence.zarr", mode="r").attrs["saccade"]
    assert unexplained(facts["provenance"], heading) == []
    said = keys_of(out / "evidence.json")
    layers = [re.sub(": .*", ": <class>", name) for name in said["layers"]]
    assert unexplained([*said, *layers], heading) == []
    record = keys_of(out / "evidence.record.json")
    assert unexplained([*record, *record["cost"]], "record.json") == []


def test_numbers_of_a_cohort(results: Path) -> None:
    heading = "Of a cohort: `saccade evaluate`"
    assert unexplained(rows_of(results / "summary.csv")[0], heading) == []
    assert unexplained(keys_of(results / "metrics.json"), heading) == []


def test_metrics_of_an_epoch(trained: Path) -> None:
    line = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    assert unexplained([*line, *line["train"], *line["val"]], "metrics.jsonl") == []


def test_metadata_of_a_model(trained: Path) -> None:
    with safetensors.safe_open(trained / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert list(metadata) == ["saccade"]
    header = json.loads(metadata["saccade"])
    nested = [key for part in ("view", "tiles") for key in header[part]]
    assert unexplained([*header, *nested], "model.safetensors") == []


def test_layout_of_a_pyramid(results: Path) -> None:
    group = zarr.open_group(results / "s6" / "pyramid.zarr", mode="r")
    ome: Any = group.attrs["ome"]
    made_from: Any = group.attrs["saccade"]
    facts = set(made_from) - {"kind", "levels"}  # said by the layout itself
    assert unexplained([*facts, *made_from["tissue"]], "pyramid.zarr") == []

    (multiscale,) = ome["multiscales"]
    for number, dataset in enumerate(multiscale["datasets"]):
        scale, translation = dataset["coordinateTransformations"]
        mpp, mpp_l0 = 4.0 * 2**number, made_from["mpp_l0"][0]
        assert scale["scale"] == [1, mpp, mpp]
        assert translation["translation"] == [0, (mpp - mpp_l0) / 2, (mpp - mpp_l0) / 2]


def test_weight_and_evidence_explain_the_prediction(results: Path, trained: Path) -> None:
    tiles = rows_of(results / "s6" / "tiles.csv")
    probabilities = keys_of(results / "s6" / "prediction.json")["probabilities"]
    weight = np.array([float(tile["weight"]) for tile in tiles])
    evidence = np.array([[float(tile[f"evidence_{name}"]) for name in "ab"] for tile in tiles])
    model, card = load_model(trained / "model.safetensors")
    bias = model.head.bias.detach().double().numpy()

    assert card.task.names == ("a", "b")
    logits = np.log([probabilities[name] for name in card.task.names])
    np.testing.assert_allclose(weight.sum(), 1, atol=1e-6)
    np.testing.assert_allclose(evidence.sum(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(
        weight @ evidence + bias - bias.mean(), logits - logits.mean(), atol=1e-5
    )
    strongest = min(tiles, key=lambda tile: int(tile["rank"]))
    predicted = max(probabilities, key=probabilities.get)
    assert max(tiles, key=lambda tile: float(tile[f"evidence_{predicted}"])) == strongest
