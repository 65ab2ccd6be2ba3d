"""The arrows between the rooms, and that turning any of them is noticed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("tiling", "models", "pipeline", "cli")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Hold the package `saccade` in `folder` to the contracts of pyproject.toml."""
    command = [sys.executable, "-c", "import sys, importlinter.cli; sys.exit(importlinter.cli."]
    command[-1] += "lint_imports(cache_dir=None, no_cache=True, no_logo=True))"
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = tmp_path_factory.mktemp("import") / "saccade"
    shutil.copytree(ROOT / "pipeline" / "_ns", package)
    for room in ROOMS:
        shutil.copytree(ROOT / room, package / room, ignore=shutil.ignore_patterns("__pycache__"))
    return package


def test_the_arrows_hold() -> None:
    ended = lint_imports(ROOT / "typings")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 broken" in ended.stdout


@pytest.mark.parametrize(
    ("room", "line", "contract"),
    [
        ("tiling", "import torch", "tiling never sees torch"),
        ("tiling", "from saccade.models import encoders", "cli -> pipeline -> tiling | models"),
        ("tiling", "from saccade.pipeline import config", "cli -> pipeline -> tiling | models"),
        ("models", "from pathlib import Path", "models never see files"),
        ("models", "from saccade.tiling import grid", "cli -> pipeline -> tiling | models"),
        ("models", "import tifffile", "models never see files"),
        ("pipeline", "from saccade.cli import tables", "cli -> pipeline -> tiling | models"),
    ],
)
def test_a_turned_arrow_is_named(copied: Path, room: str, line: str, contract: str) -> None:
    turned = copied / room / "turned.py"
    turned.write_text(f"{line}\n")
    try:
        ended = lint_imports(copied.parent)
    finally:
        turned.unlink()

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert f"{contract} BROKEN" in ended.stdout
    assert f"saccade.{room}.turned" in ended.stdout
