"""`saccade --help` answers at once, and every command explains itself."""

import json
import re
import subprocess
import sys

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from saccade.cli.main import app

COMMANDS = (
    *(
        "info",
        "pyramid",
        "fetch",
        "train",
        "split",
        "predict",
        "saliency",
        "embed",
        "mask",
        "segment",
        "detect",
        "evidence",
        "run",
        "export",
        "evaluate",
        "demo",
    ),
)
HEAVY = ("torch", "timm", "snakemake", "matplotlib", "zarr", "tifffile", "openslide", "pandas")


def help_of(*command: str) -> str:
    ended = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "120", "TERM": "dumb"})
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import json, sys\n"
        "from saccade.cli.main import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    loaded = set(json.loads(ended.stderr.splitlines()[-1]))
    assert "saccade.cli.main" in loaded
    assert not loaded & set(HEAVY)


def test_help_names_every_command() -> None:
    listed = re.findall(r"^\W* (\w+)  +\w", help_of().partition("Commands")[2], re.MULTILINE)

    assert tuple(listed) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example_of_itself(command: str) -> None:
    assert f"Example: saccade {command} " in help_of(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_is(command: str) -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    for parameter in group.commands[command].params:
        assert getattr(parameter, "help", None), f"{command}: {parameter.name} has no help"


@pytest.mark.parametrize("command", COMMANDS)
def test_no_word_of_a_help_is_lost_as_if_it_were_markup(command: str) -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    shown = re.sub(r"[\s│]", "", help_of(command))
    for parameter in group.commands[command].params:
        for word in re.findall(r"<\w+>[\w./]*\w", str(getattr(parameter, "help", ""))):
            assert word in shown, f"{command}: {parameter.name} lost {word}"
