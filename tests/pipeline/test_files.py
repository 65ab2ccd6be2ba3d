import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from saccade.pipeline.files import atomic_path, write_json

HALF_WRITER = """
import sys, time
from pathlib import Path
from saccade.pipeline.files import atomic_path

with atomic_path(Path(sys.argv[1])) as temporary, temporary.open("w") as file:
    file.write("half")
    file.flush()
    print(temporary, flush=True)
    time.sleep(60)
"""


def kill_in_the_middle(path: Path) -> Path:
    """Start writing `path` in another process, kill it half way; return its temporary file."""
    command = [sys.executable, "-c", HALF_WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        temporary = Path(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
        process.wait()
    return temporary


def names(folder: Path) -> list[str]:
    return sorted(found.name for found in folder.iterdir())


def test_file_is_there_only_after_the_block(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.ome.tif"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert temporary.name.endswith("a.ome.tif")
        assert temporary.parent == path.parent
        assert not path.exists()
        inode = temporary.stat().st_ino
    assert path.read_text() == "whole"
    assert path.stat().st_ino == inode  # renamed; a copy could be caught half way
    assert names(path.parent) == ["a.ome.tif"]


def test_after_an_error_the_old_file_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_and_fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        write_and_fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.txt"):
        pass


@pytest.mark.parametrize("old", [None, "old"])
def test_a_killed_process_leaves_nothing_or_the_old_file(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "a.txt"
    if old is not None:
        path.write_text(old)
    temporary = kill_in_the_middle(path)

    assert temporary.read_text() == "half"
    assert (path.read_text() if path.exists() else None) == old

    with atomic_path(path) as again:
        again.write_text("whole")
    assert path.read_text() == "whole"
    assert names(tmp_path) == ["a.txt"]  # what the killed process left is gone


def test_temporaries_of_the_living_and_of_other_files_stay(tmp_path: Path) -> None:
    path, other = tmp_path / "a.txt", kill_in_the_middle(tmp_path / "b.txt")
    elsewhere = tmp_path / ".other-machine-99999999-00.partial.a.txt"
    elsewhere.write_text("half")
    with atomic_path(path) as first:
        first.write_text("one")
        with atomic_path(path) as second:
            second.write_text("two")
        assert first.exists()
        assert f"-{os.getpid()}-" in first.name
    assert path.read_text() == "one"  # the last to finish
    assert other.exists()
    assert elsewhere.exists()


def test_json_is_stable_and_readable(tmp_path: Path) -> None:
    one, two = tmp_path / "1.json", tmp_path / "2.json"
    write_json(one, {"b": [1.5, "µm"], "a": None})
    write_json(two, {"a": None, "b": [1.5, "µm"]})

    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes().endswith(b"}\n")
    assert "µm" in one.read_text(encoding="utf-8")
    assert json.loads(one.read_text(encoding="utf-8")) == {"a": None, "b": [1.5, "µm"]}


@pytest.mark.parametrize("value", [math.nan, math.inf, [1, -math.inf]])
def test_json_refuses_what_it_cannot_hold_and_writes_nothing(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", value)
    assert names(tmp_path) == []
