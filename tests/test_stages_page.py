"""docs/stages.md: its Python runs as it stands, and what it makes is right."""

import re
from pathlib import Path

import numpy as np
import pytest

from saccade.pipeline.stages.field import read_field
from tests.slides import tissue_like, write_svs

PAGE = (Path(__file__).parents[1] / "docs" / "stages.md").read_text()


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    monkeypatch.chdir(tmp_path)
    write_svs(tmp_path / "slide.svs", tissue_like(1300, 900))
    scope: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(block, scope)

    noise, slide = (read_field(tmp_path / f"{name}.zarr") for name in ("edges", "slide_edges"))
    assert np.asarray(noise.values[0]).mean() > 2 * np.asarray(slide.values[0]).mean()
    assert read_field(tmp_path / "edges_64um.zarr").mpp == pytest.approx((64, 64))
