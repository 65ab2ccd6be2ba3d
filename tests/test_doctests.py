"""Every example in a docstring or on a page of docs does what it says."""

import doctest
import importlib
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("tiling", "models", "pipeline", "cli")
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def modules() -> list[str]:
    """Names of all modules, as they are imported; found on disk, so that none is forgotten."""
    found = []
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            if "_ns" not in parts:
                found.append(".".join(["saccade", *(p for p in parts if p != "__init__")]))
    return found


def prompts(file: Path) -> int:
    """Examples written in the strings of a file."""
    with tokenize.open(file) as source:
        strings = [
            t.string for t in tokenize.generate_tokens(source.readline) if t.type == tokenize.STRING
        ]
    return sum(line.lstrip().startswith(">>> ") for text in strings for line in text.splitlines())


@pytest.mark.parametrize("name", modules())
def test_examples_of_a_module(name: str) -> None:
    module = importlib.import_module(name)
    ended = doctest.testmod(module)

    assert ended.failed == 0
    # None is passed over because a decorator hides it.
    assert ended.attempted == prompts(Path(str(module.__file__)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_a_page(page: Path) -> None:
    assert doctest.testfile(str(page), module_relative=False).failed == 0
