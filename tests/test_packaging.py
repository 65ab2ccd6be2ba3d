"""What an install without the repository leaves: one package, whole, and nothing beside it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("tiling", "models", "pipeline", "cli")
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc")

pytestmark = pytest.mark.slow


def pip(*arguments: str, cwd: Path) -> None:
    """Call pip without the network; setuptools is the one of this environment."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    ended = subprocess.run(
        [*command, *arguments, "--no-deps", "--no-index", "--no-build-isolation"],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the package is made from, so that a build leaves nothing in the clone."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=IGNORED)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", ".", "--wheel-dir", str(folder), cwd=source)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    pip("install", ".", "--target", str(folder), cwd=source)
    return folder


def package_files() -> set[str]:
    """Every file of the rooms, under the name it should be installed by."""
    files = {f"saccade/{name}" for name in ("__init__.py", "py.typed")}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            parts = path.relative_to(ROOT).parts
            if path.is_file() and "__pycache__" not in parts and "_ns" not in parts:
                files.add("/".join(["saccade", *parts]))
    return files


def test_the_wheel_holds_every_file_of_the_rooms_and_no_other(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert held == package_files()
    assert {
        "saccade/pipeline/rules/saccade.smk",
        "saccade/pipeline/schemas/config.schema.yaml",
        "saccade/pipeline/report/attention.rst",
    } < held
    assert "saccade/pipeline/export/open_in_qupath.groovy" in held


def test_an_install_leaves_one_package(installed: Path) -> None:
    left = sorted(path.name for path in installed.iterdir())

    assert [name for name in left if not name.endswith(".dist-info")] == ["bin", "saccade"]
    assert len(left) == 3
    (information,) = installed.glob("saccade-*.dist-info")
    assert (information / "licenses" / "LICENSE").is_file()
    assert (installed / "bin" / "saccade").is_file()


def test_what_is_installed_runs_by_itself(installed: Path, tmp_path: Path) -> None:
    """Far from the clone, from the installed files alone."""
    script = (
        "import saccade.cli.main as cli, saccade.tiling as tiling\n"
        "from importlib.resources import files\n"
        "print(cli.__file__, tiling.__file__)\n"
        "print(files('saccade.pipeline').joinpath('rules/saccade.smk').is_file())\n"
        "cli.app(['--version'])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 0, ended.stderr
    places, rules, version = ended.stdout.splitlines()
    assert all(place.startswith(str(installed)) for place in places.split())
    assert (rules, version) == ("True", "0.1.0")
