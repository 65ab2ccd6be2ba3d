from pathlib import Path

import pytest

from saccade.pipeline.files import write_json
from saccade.pipeline.record import Record, Stopwatch


def test_a_record_matches_itself_after_the_disk(tmp_path: Path) -> None:
    record = Record("predict", {"slide": "sha256:1", "mpp": (0.25, 0.25), "tiles": None})
    write_json(tmp_path / "record.json", record.as_dict())

    assert record.matches(tmp_path / "record.json")


@pytest.mark.parametrize(
    "other",
    [
        Record("train", {"slide": "sha256:1"}),
        Record("predict", {"slide": "sha256:2"}),
        Record("predict", {"slide": "sha256:1", "seed": 0}),
        Record("predict", {"slide": "sha256:1"}, code="0.0.0"),
    ],
)
def test_another_step_input_or_code_does_not_match(tmp_path: Path, other: Record) -> None:
    write_json(tmp_path / "record.json", other.as_dict())

    assert not Record("predict", {"slide": "sha256:1"}).matches(tmp_path / "record.json")


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_damaged_record_does_not_match(tmp_path: Path, content: str) -> None:
    (tmp_path / "record.json").write_text(content)

    assert not Record("predict", {}).matches(tmp_path / "record.json")
    assert not Record("predict", {}).matches(tmp_path / "none.json")


def test_cost_counts_time_and_memory() -> None:
    cost = Stopwatch().cost(tiles_read=3)

    assert cost["tiles_read"] == 3
    assert cost["seconds"] >= 0
    assert cost["peak_memory_mb"] > 10
