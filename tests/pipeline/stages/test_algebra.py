"""Algebra of fields: by hand on small ones, and nothing is read before it is wanted."""

from pathlib import Path

import numpy as np
import pytest

from saccade.pipeline.stages.algebra import above, beside, coarsened, lazy
from saccade.pipeline.stages.field import Field, write_field
from saccade.tiling.grid import CellGrid


def field(numbers: object, valid: object = None, **changes: object) -> Field:
    array = np.asarray(numbers, np.float32)
    array = array[None] if array.ndim == 2 else array
    settings: dict[str, object] = {
        "values": array,
        "valid": np.ones(array.shape[1:], bool) if valid is None else np.asarray(valid, bool),
        "grid": CellGrid(array.shape[1:], (3.9997, 4.0), (7.0, 9.0)),
        "slide_mpp": (0.25, 0.25),
        "kind": "density",
        "channels": tuple("abc"[: len(array)]),
    }
    return Field(**(settings | changes))  # type: ignore[arg-type]


def test_means_are_of_what_is_valid_and_there(tmp_path: Path) -> None:
    made = field([[1, 3, 5], [5, 7, 99], [2, 4, 6]], [[1, 1, 1], [1, 1, 0], [1, 0, 0]])
    coarse = write_field(tmp_path / "f.zarr", coarsened(made, 2))
    np.testing.assert_array_equal(np.asarray(coarse.values[0]), [[4, 5], [2, np.nan]])
    np.testing.assert_array_equal(np.asarray(coarse.valid[:]), [[1, 1], [1, 0]])
    assert coarse.grid == CellGrid((2, 2), (2 * 3.9997, 8.0), (7.0, 9.0))


def test_means_of_a_field_of_several_shards(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((1100, 2050)).astype(np.float32)
    written = write_field(tmp_path / "f.zarr", field(values))
    coarse = coarsened(written, 50)
    np.testing.assert_allclose(
        coarse.values.compute()[0], values.reshape(22, 50, 41, 50).mean(axis=(1, 3)), rtol=1e-5
    )


def test_thresholds_make_labels(tmp_path: Path) -> None:
    made = field([[[1, 2]], [[5, 6]]], [[1, 1]])
    labels = write_field(tmp_path / "f.zarr", above(made, [2, 5]))
    np.testing.assert_array_equal(np.asarray(labels.values[:]), [[[0, 1]], [[1, 1]]])
    assert labels.kind == "label"
    with pytest.raises(ValueError, match="1 thresholds for"):
        above(made, [2])
    with pytest.raises(ValueError, match="are no field"):
        coarsened(labels, 2)


def test_channels_come_beside_each_other() -> None:
    one, two = field([[1, 2]], [[1, 0]]), field([[3, 4]], [[1, 1]], channels=("b",))
    both = beside([one, two])
    np.testing.assert_array_equal(both.values.compute(), [[[1, np.nan]], [[3, 4]]])
    np.testing.assert_array_equal(both.valid.compute(), [[True, False]])
    assert both.channels == ("a", "b")
    for wrong in ([one, one], [one, field([[3, 4, 5]], channels=("b",))], []):
        with pytest.raises(ValueError, match="one grid and kind"):
            beside(wrong)


class Counting:
    """An array that counts how often it is asked."""

    def __init__(self, array: np.ndarray) -> None:
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.shards, self.reads, self._array = (1, 64, 64), 0, array

    def __getitem__(self, place: object) -> np.ndarray:
        self.reads += 1
        return self._array[place]


def test_nothing_is_read_before_it_is_wanted() -> None:
    array = np.zeros((1, 256, 256), np.float32)
    counting = Counting(array)
    made = coarsened(lazy(field(array, values=counting)), 4)
    assert counting.reads == 0
    made.values[:, :16, :16].compute()
    assert counting.reads <= 16
