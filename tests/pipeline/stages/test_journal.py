"""A journal survives whatever a killed process left at its end."""

from pathlib import Path

import numpy as np
import pytest

from saccade.pipeline.stages.journal import Journal
from saccade.pipeline.stages.statistics import Mean


def written(path: Path) -> bytes:
    journal = Journal(path)
    for tile in (4, 0, 2):
        journal.add(tile, np.array([1.0, tile / 3, 0.1]))
    return path.read_bytes()


def test_every_cut_leaves_the_whole_records_before_it(tmp_path: Path) -> None:
    data = written(tmp_path / "whole")
    size = len(data) // 3
    for end in range(len(data) + 1):
        (tmp_path / "cut").write_bytes(data[:end])
        journal = Journal(tmp_path / "cut")
        assert [tile in journal for tile in (4, 0, 2)] == [end >= n * size for n in (1, 2, 3)]
        journal.add(7, np.zeros(3))
        assert 7 in Journal(tmp_path / "cut")


def test_a_spoilt_record_does_not_count(tmp_path: Path) -> None:
    data = bytearray(written(tmp_path / "j"))
    data[-10] ^= 1
    (tmp_path / "j").write_bytes(data)
    assert 0 in Journal(tmp_path / "j")
    assert 2 not in Journal(tmp_path / "j")


def test_statistics_merge_in_the_order_of_the_tiles(tmp_path: Path) -> None:
    """Sums depend on the order in the last bit; a resumed run has another order of records."""
    values = {tile: np.array([1.0, 0.1 * 3**tile]) for tile in range(20)}
    for name, order in (("up", range(20)), ("down", range(19, -1, -1))):
        journal = Journal(tmp_path / name)
        for tile in order:
            journal.add(tile, values[tile])
    up, down = (Journal(tmp_path / name).merged(Mean).vector for name in ("up", "down"))
    np.testing.assert_array_equal(up, down)
    with pytest.raises(ValueError, match="no tile is done"):
        Journal(tmp_path / "none").merged(Mean)
