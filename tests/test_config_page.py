"""config/README.md against the code: every key is there, with its true default, and no other."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from saccade.pipeline.bags.config import BagsConfig
from saccade.pipeline.config import RunConfig
from saccade.pipeline.detection.config import DetectionConfig
from saccade.pipeline.saliency.config import SaliencyConfig
from saccade.pipeline.segmentation.config import SegmentationConfig
from saccade.pipeline.sheet import COLUMNS, REQUIRED, read_sheet
from saccade.pipeline.yaml_config import load_any_config, load_config, parse_config

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "config"
WORKFLOW = yaml.safe_load((ROOT / "pipeline" / "schemas" / "config.schema.yaml").read_text())


def documented() -> dict[str, dict[str, list[str]]]:
    """The tables of the page: heading -> first cell -> the cells after it."""
    tables: dict[str, dict[str, list[str]]] = {}
    heading = ""
    for line in (CONFIG / "README.md").read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").split(":")[0].strip("`")
        elif line.startswith("| `"):
            first, *others = (cell.strip() for cell in line.strip("|").split("|"))
            tables.setdefault(heading, {})[first.strip("`")] = others
    return tables


def sections() -> list[tuple[str, Any]]:
    return [
        (field.name, getattr(RunConfig(), field.name)) for field in dataclasses.fields(RunConfig)
    ]


@pytest.mark.parametrize(("name", "section"), sections())
def test_every_setting_of_a_run_is_described_with_its_default(name: str, section: Any) -> None:
    described = documented()[name]
    fields = [field.name for field in dataclasses.fields(section)]

    assert list(described) == fields
    for key, cells in described.items():
        written = parse_config(f"{name}: {{{key}: {cells[-1].strip('`')}}}")
        assert getattr(getattr(written, name), key) == getattr(section, key), key


SHARED = ("pyramid", "view", "splits", "augment")  # by several kinds of run
OTHERS = {
    "saliency": SaliencyConfig(),
    "features": BagsConfig(),
    "segmentation": SegmentationConfig(),
    "detection": DetectionConfig(),
}
OF_OTHERS = [
    (kind, field.name)
    for kind, config in OTHERS.items()
    for field in dataclasses.fields(config)
    if field.name not in SHARED
]


@pytest.mark.parametrize(("kind", "name"), OF_OTHERS)
def test_every_setting_of_another_kind_of_run_is_described_with_its_default(
    kind: str, name: str
) -> None:
    described = documented()[f"{name}` for {kind}"]
    section = getattr(OTHERS[kind], name)

    assert list(described) == [field.name for field in dataclasses.fields(section)]
    for key, cells in described.items():
        written = yaml.safe_load(cells[-1].strip("`"))
        default = getattr(section, key)
        if isinstance(written, list):
            written = tuple(written)
        assert written == default or float(written) == default, key


@pytest.mark.parametrize("kind", OTHERS)
def test_the_example_of_another_kind_of_run_spells_out_every_default(kind: str) -> None:
    written, config = yaml.safe_load((CONFIG / f"{kind}.yaml").read_text()), OTHERS[kind]

    assert written.pop("kind") == kind
    assert {section: list(keys) for section, keys in written.items()} == {
        field.name: [each.name for each in dataclasses.fields(getattr(config, field.name))]
        for field in dataclasses.fields(config)
    }
    assert load_any_config(CONFIG / f"{kind}.yaml") == config


def test_every_key_of_the_workflow_is_described_with_its_default() -> None:
    described = documented()["config.yaml"]

    assert list(described) == list(WORKFLOW["properties"])
    for key, cells in described.items():
        if key in WORKFLOW["required"]:
            assert cells[-1] == "needed"
        else:
            default = yaml.safe_load(cells[-1].strip("`"))
            assert default == WORKFLOW["properties"][key]["default"], key


def test_every_column_of_the_sheet_is_described() -> None:
    described = documented()["slides.csv"]

    assert tuple(described) == COLUMNS
    needed = tuple(column for column, cells in described.items() if cells[-1] == "needed")
    assert needed == REQUIRED


def test_each_line_says_what_a_length_is_counted_in() -> None:
    for heading, table in documented().items():
        for key, cells in table.items():
            assert cells[0], f"{heading}.{key} says nothing"
            if re.search(r"mpp|_px$", key) and heading != "config.yaml":
                assert re.match(r"um/px|px", cells[1]), f"{heading}.{key} has no unit"


def test_the_page_has_no_other_tables() -> None:
    others = [f"{name}` for {kind}" for kind, name in OF_OTHERS]
    names = {"slides.csv", "config.yaml", *others, *(name for name, _ in sections())}
    assert set(documented()) == names


def test_the_example_run_spells_out_every_setting() -> None:
    written = yaml.safe_load((CONFIG / "run.yaml").read_text())

    assert {section: list(keys) for section, keys in written.items()} == {
        name: [field.name for field in dataclasses.fields(section)] for name, section in sections()
    }
    # The one setting that suits a stain, not all: the example is for H&E, and says so.
    model = dataclasses.replace(RunConfig().model, density_gain=2.0)
    assert load_config(CONFIG / "run.yaml") == dataclasses.replace(RunConfig(), model=model)


def test_the_example_workflow_spells_out_every_default() -> None:
    written = yaml.safe_load((CONFIG / "config.yaml").read_text())

    assert list(written) == list(WORKFLOW["properties"])
    for key, schema in WORKFLOW["properties"].items():
        assert "default" not in schema or written[key] == schema["default"]


def test_the_example_sheet_can_be_read_and_trained_on() -> None:
    rows = read_sheet(CONFIG / "slides.csv")

    for split in ("train", "val", "test"):
        assert len({row.label for row in rows if row.split == split}) == 2
