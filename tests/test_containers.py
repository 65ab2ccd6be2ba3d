"""The images are made from files that are there, by scripts a shell can read."""

import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from saccade import __version__

ROOT = Path(__file__).parents[1]
IMAGES = ("Dockerfile", "containers/apptainer.def")
SCRIPTS = sorted((ROOT / "containers").glob("*.sh"))


def kept_by_dockerignore() -> set[str]:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return {line.removeprefix("!") for line in lines if line.startswith("!")}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_plain_shell(script: Path) -> None:
    ended = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert script.stat().st_mode & 0o111, f"{script.name} cannot be run"


def test_an_image_holds_everything_that_the_package_is_made_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    setup = project["tool"]["setuptools"]
    rooms = {path.split("/")[0] for path in setup["package-dir"].values()}
    licences = project["project"]["license-files"]
    needed = {*rooms, *licences, project["project"]["readme"], "pyproject.toml", "constraints.txt"}
    assert needed <= kept_by_dockerignore()


def test_an_image_holds_nothing_that_is_not_in_the_repository() -> None:
    assert all((ROOT / name).exists() for name in kept_by_dockerignore())
    assert not any(fnmatch(".venv", name) for name in kept_by_dockerignore())


def test_the_extras_that_an_image_installs_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    script = (ROOT / "containers/install.sh").read_text(encoding="utf-8")
    extras = script.split('"$source[')[1].split("]")[0].split(",")
    assert set(extras) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("image", IMAGES)
def test_images_are_made_by_the_one_script(image: str) -> None:
    text = (ROOT / image).read_text(encoding="utf-8")
    assert "containers/install.sh /src /opt/saccade" in text


def test_the_image_is_called_by_the_version() -> None:
    assert f"saccade:{__version__} " in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")  # comes with `pip install .[dev]`
    ended = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
