"""Megapixel MNIST as the benchmarks make it: what a slide shows is what its sheet says.

Digits are made up, one shape a class, so that they are known again wherever they lie.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import label

from saccade.pipeline.sheet import read_sheet
from saccade.pipeline.train import train
from saccade.pipeline.yaml_config import load_config
from saccade.tiling import open_slide

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SIDE = 28


@pytest.fixture
def set_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve images to fit and three to test, without noise."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import mega_mnist_set

    mnist = tmp_path / "mnist"
    mnist.mkdir()
    for part in ("train", "t10k"):
        labels = np.arange(40, dtype=np.uint8) % 10
        pixels = np.stack([shape_of(int(each)) for each in labels])
        (mnist / f"{part}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(bytes(16) + pixels.tobytes())
        )
        (mnist / f"{part}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(bytes(8) + labels.tobytes())
        )
    out = tmp_path / "set"
    sizes = ["--train", "12", "--test", "3", "--width", "300", "--scale", "0.2", "--no-noise"]
    monkeypatch.setattr(sys, "argv", ["", "--mnist", str(mnist), "--out", str(out), *sizes])
    mega_mnist_set.main()
    return out


def shape_of(digit: int) -> NDArray[np.uint8]:
    """A bright shape of as many pixels as no other digit has."""
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels.flat[: 40 + digit] = 255
    return pixels


def test_three_of_five_digits_are_of_the_class(set_of_images: Path) -> None:
    rows = read_sheet(set_of_images / "slides.csv")

    assert [row.split for row in rows].count("val") == 3
    for row in rows:
        with open_slide(row.path) as slide:
            level_0 = slide.read(x_l0=0, y_l0=0, size_px=300, mpp=1.0)[..., 0]
        shapes, _ = label(level_0 > 0)
        digits = [count - 40 for count in np.bincount(shapes.ravel())[1:]]
        assert len(digits) == 5
        assert digits.count(int(row.label.removeprefix("digit_"))) == 3


def test_the_sparse_images_are_those_of_the_slides(
    set_of_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from mega_mnist_sparse import SparseImages

    high = SparseImages.load(set_of_images / "test.npz", "high")
    rows = [row for row in read_sheet(set_of_images / "slides.csv") if row.split == "val"]

    assert len(high) == len(rows)
    for number, row in enumerate(rows):
        with open_slide(row.path) as slide:
            level_0 = slide.read(x_l0=0, y_l0=0, size_px=300, mpp=1.0)
        assert np.array_equal(level_0, np.repeat(high[number][..., None], 3, axis=2))


def test_the_train_command_runs_on_them_with_the_settings_beside_them(
    set_of_images: Path, tmp_path: Path
) -> None:
    text = (set_of_images / "run.yaml").read_text().replace("epochs: 50", "epochs: 1")
    (set_of_images / "run.yaml").write_text(text)
    rows = read_sheet(set_of_images / "slides.csv")
    train(load_config(set_of_images / "run.yaml"), rows, tmp_path / "run")

    assert (tmp_path / "run" / "model.safetensors").exists()
