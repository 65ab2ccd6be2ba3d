"""The house in order: what pyproject.toml says agrees with what is there."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("tiling", "models", "pipeline", "cli")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LIBRARY_OF_ANOTHER = {"openslide-bin"}  # openslide-python loads it; nobody imports it

# Folders of one person's machine, and addresses of package indexes: neither means anything
# to somebody else.
PRIVATE = re.compile(
    r"(?<![\w.~$}])/(?:work|root|home|Users|mnt|tmp/\w)/?\w"
    r"|(?:index[-]url|find[-]links|pythonhosted[.]|pypi[.]org/simple|arti[f]actory)"
)


def tracked_files() -> list[Path]:
    """Files under version control, and new ones that are not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a clone: git does not know which files belong to the project")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def package_folders() -> dict[str, Path]:
    """Import name -> folder, of every folder of the four rooms that holds `__init__.py`."""
    folders = {"saccade": ROOT / "pipeline" / "_ns"}
    for room in ROOMS:
        for init in (ROOT / room).rglob("__init__.py"):
            if init.parent.name != "_ns":
                parts = init.parent.relative_to(ROOT).parts
                folders[".".join(["saccade", *parts])] = init.parent
    return folders


def imported(folders: tuple[str, ...]) -> set[str]:
    """Distributions that the code in these folders imports."""
    providers = packages_distributions()
    names = {name for folder in folders for name in _imports(ROOT / folder)}
    return {
        _canonical(providers[name][0])
        for name in names - sys.stdlib_module_names - {"saccade"}
        if name in providers
    }


def _imports(folder: Path) -> Iterator[str]:
    for file in [*folder.rglob("*.py"), *folder.rglob("*.smk")]:
        code = file.read_text()
        if file.suffix == ".smk":
            code = "\n".join(re.findall(r"^(?:from|import) .*$", code, re.MULTILINE))
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield node.module.partition(".")[0]


def declared(extra: str | None = None) -> set[str]:
    wanted = PROJECT["project"]["dependencies"]
    if extra:
        wanted = PROJECT["project"]["optional-dependencies"][extra]
    return {_canonical(re.split(r"[\s<>=!~;\[]", line)[0]) for line in wanted}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_package_is_listed_and_no_other() -> None:
    listed = PROJECT["tool"]["setuptools"]["packages"]

    assert sorted(listed) == sorted(package_folders())
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("package", package_folders())
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (package_folders()[package] / "py.typed").is_file()


def test_every_folder_with_code_is_a_package() -> None:
    packages = set(package_folders().values())

    for room in ROOMS:
        for file in (ROOT / room).rglob("*.py"):
            assert file.parent in packages, f"{file}: would be missing from the wheel"


def test_type_checkers_see_the_rooms_under_their_import_names() -> None:
    typings = ROOT / "typings" / "saccade"

    for room in ROOMS:
        assert (typings / room).resolve() == ROOT / room
    assert (typings / "__init__.py").resolve() == ROOT / "pipeline" / "_ns" / "__init__.py"
    assert len(list(typings.iterdir())) == len(ROOMS) + 1


def test_what_is_imported_is_declared() -> None:
    lacking = imported(ROOMS) - declared() - declared("remote") - declared("segmentation")

    assert not lacking, f"imported, but not among the dependencies: {sorted(lacking)}"


def test_what_the_tests_import_is_declared() -> None:
    lacking = imported(("tests", "benchmarks")) - declared() - declared("dev")

    assert not lacking, f"imported by tests, but not declared: {sorted(lacking)}"


def test_what_remote_slides_need_is_there_for_the_tests() -> None:
    assert declared("remote") <= declared("dev")


def test_what_is_declared_is_imported() -> None:
    idle = declared() - imported(ROOMS) - LIBRARY_OF_ANOTHER

    assert not idle, f"installed for everybody, but used by nobody: {sorted(idle)}"


def test_every_dependency_has_a_tested_version() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {_canonical(line.partition("==")[0]) for line in lines if "==" in line}

    assert declared() | declared("dev") | declared("remote") | declared("segmentation") <= pinned


def test_no_file_speaks_of_one_machine() -> None:
    found = []
    for file in tracked_files():
        try:
            text = file.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue  # a picture, or deleted but not yet committed
        for number, line in enumerate(text.splitlines(), start=1):
            if PRIVATE.search(line):
                found.append(f"{file.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


def test_no_large_file_is_kept() -> None:
    for file in tracked_files():
        if file.is_file():
            assert file.stat().st_size < 2_000_000, f"{file}: too large for a repository"


@pytest.mark.parametrize(
    "name",
    [
        ".ci/run",
        ".gitignore",
        ".pre-commit-config.yaml",
        "CHANGELOG.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "LICENSE",
        "README.md",
        "Snakefile",
    ],
)
def test_what_others_look_for_is_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 0


def test_citation_and_package_have_one_version() -> None:
    import saccade

    citation = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [saccade.__version__]
    assert f"## [{saccade.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
