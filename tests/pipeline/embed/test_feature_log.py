"""Features on their way to the table: what is whole is kept, whatever a kill left behind it."""

from pathlib import Path

import numpy as np
import pytest

from saccade.pipeline.embed.feature_log import FeatureLog

ROWS = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log = FeatureLog(tmp_path / "log", 3)
    for start, end in ((0, 2), (2, 6), (6, 7)):
        log.add(ROWS[start:end])
    assert log.rows == 7
    return tmp_path / "log"


def kept(path: Path) -> np.ndarray:
    log = FeatureLog(path, 3)
    blocks = list(log.blocks())
    assert log.rows == sum(map(len, blocks))
    return np.concatenate([np.empty((0, 3), np.float32), *blocks])


def test_rows_come_back_in_their_blocks(path: Path) -> None:
    assert [len(block) for block in FeatureLog(path, 3).blocks()] == [2, 4, 1]
    np.testing.assert_array_equal(kept(path), ROWS)


def test_cut_off_anywhere_the_whole_blocks_are_left_and_it_goes_on(path: Path) -> None:
    whole = path.read_bytes()
    ends = {0: 0, 2: 32, 6: 88, 7: 108}  # rows -> bytes: a block has 8 beside its rows of 12
    assert len(whole) == ends[7]
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        count = max(rows for rows, end in ends.items() if end <= cut)
        np.testing.assert_array_equal(kept(path), ROWS[:count])
        FeatureLog(path, 3).add(ROWS[count:])
        np.testing.assert_array_equal(kept(path), ROWS)


def test_a_damaged_block_and_all_after_it_are_made_again(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    for place in range(32, 88):  # any byte of the second block, those that say its length as well
        damaged = whole.copy()
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        np.testing.assert_array_equal(kept(path), ROWS[:2])
