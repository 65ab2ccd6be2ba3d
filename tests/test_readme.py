"""What the pages tell readers to type is typed here, on small slides and a tiny model.

Every fenced block of `sh` is run, unless an HTML comment before it, which readers do not see, says
`<!-- test: not run ... -->` and why. `saccade ...` runs for real, `make ...` and `snakemake ...` as
dry runs: tests/workflow and `make` itself run them.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from saccade.cli.main import app
from tests.cohort import TinyCohort
from tests.slides import tissue_like, write_flat_tiff, write_pyramid_tiff

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "docs/tutorial.md")
BLOCK = re.compile(r"(?:<!-- test: (?P<mark>[^>]*) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.S)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and what the comment before it says."""

    kind: str
    text: str
    mark: str

    @property
    def commands(self) -> list[list[str]]:
        """The words of each line that is not empty."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks(page: str) -> Iterator[Block]:
    for found in BLOCK.finditer((ROOT / page).read_text()):
        yield Block(found["kind"], found["text"], found["mark"] or "")


def commands(page: str, tool: str) -> list[list[str]]:
    """Commands of one tool that are to be run."""
    shell = [block for block in blocks(page) if block.kind == "sh" and not block.mark]
    return [words for block in shell for words in block.commands if words[0] == tool]


@pytest.fixture
def desk(
    tmp_path: Path, cohort: TinyCohort, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder that holds what the pages speak of, under the names they use."""
    write_pyramid_tiff(tmp_path / "slide.svs", tissue_like(1024, 768))
    write_flat_tiff(tmp_path / "scan.tiff", tissue_like(1024, 768), compression="deflate")
    (tmp_path / "slides").mkdir()
    for i, suffix in enumerate(("svs", "svs", "tiff", "ndpi", "svs", "svs"), start=1):
        write_pyramid_tiff(tmp_path / f"slides/case-{i:02}.{suffix}", tissue_like(768, 640, seed=i))
    shutil.copytree(trained, tmp_path / "demo" / "results" / "model")
    shutil.copytree(ROOT / "config", tmp_path / "config")
    # Fewer epochs than the example has, and fewer slides than the examples list.
    shutil.copy(cohort.run, tmp_path / "config" / "run.yaml")
    shutil.copy(ROOT / "Snakefile", tmp_path)
    (tmp_path / "pipeline").symlink_to(ROOT / "pipeline")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_nothing_else_is_asked_of_readers(page: str) -> None:
    """Each line begins with a tool that one of the tests below runs."""
    for block in blocks(page):
        assert block.kind in ("sh", "csv", "python"), f"{page}: a block of {block.kind}"
        assert not block.mark or re.match(r"not run\b.{10}", block.mark), block.mark
        if block.kind == "sh" and not block.mark:
            assert {words[0] for words in block.commands} <= {"saccade", "make", "snakemake"}


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_commands_run_as_they_are_written(page: str, desk: Path) -> None:
    found = commands(page, "saccade")
    assert len(found) >= 5

    if page == "docs/tutorial.md":
        found = _with_predictions(found, desk)
    for words in found:
        ended = CliRunner().invoke(app, words[1:])
        assert ended.exit_code == 0, f"{shlex.join(words)}\n{ended.output}\n{ended.exception!r}"


def _with_predictions(found: list[list[str]], desk: Path) -> list[list[str]]:
    """What Snakemake would have done before the table is made: predict the other held-out slide."""
    example = next(words for words in found if words[1] == "predict")
    other = [word.replace("case-05", "case-06") for word in example]
    return [*found[:-1], other, found[-1]]


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_the_workflow_starts_from_the_examples(page: str, desk: Path) -> None:
    for words in commands(page, "snakemake"):
        command = [sys.executable, "-m", *words, "--dry-run"]
        ended = subprocess.run(command, cwd=desk, capture_output=True, text=True)

        said = ended.stdout + ended.stderr
        assert ended.returncode == 0, said
        assert re.search(r"^predict +6$", said, re.M), said


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_make_knows_the_targets(page: str) -> None:
    found = commands(page, "make")

    assert found
    for words in found:
        ended = subprocess.run(
            [*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr


def test_python_runs_as_it_is_written(desk: Path) -> None:
    found = [block for block in blocks("README.md") if block.kind == "python"]

    assert found
    for block in found:
        names: dict[str, object] = {}
        exec(compile(block.text, "README.md", "exec"), names)
        shape = re.search(r"# uint8 (\(.*\))", block.text)
        assert shape
        assert str(names["tile"].shape) == shape[1]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "config/README.md"]
    + [str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs").rglob("*.md"))],
)  # fmt: skip
def test_links_lead_somewhere(page: str) -> None:
    for link in LINK.findall((ROOT / page).read_text()):
        if not link.startswith("https://"):
            assert ((ROOT / page).parent / link).exists(), f"{page}: {link}"


def test_readme_names_every_file_of_a_slide(desk: Path, trained: Path) -> None:
    arguments = ["run", "slide.svs", "--models", str(trained), "--out", "results/slide"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    table = re.findall(r"^\| `([\w.]+)/?` \|", (ROOT / "README.md").read_text(), re.M)

    left = [path.name for path in (desk / "results" / "slide").iterdir()]
    assert sorted(table) == sorted(name for name in left if name[0] != ".")
