import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from saccade.tiling.whole_folder import whole_folder


def fill(folder: Path, word: str) -> None:
    for name in ("a", "b", "c"):
        (folder / name).write_text(word)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"

    with whole_folder(out) as folder:
        fill(folder, "new")
        assert not out.exists()

    assert names(out) == ["a", "b", "c"]
    assert names(out.parent) == ["out"]


def test_an_error_leaves_everything_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with whole_folder(out) as folder:
        fill(folder, "old")

    def fail_half_way() -> None:
        with whole_folder(out) as folder:
            (folder / "a").write_text("new")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_half_way()

    assert (out / "a").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_the_old_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "left over").touch()

    with whole_folder(out) as folder:
        fill(folder, "new")

    assert names(out) == ["a", "b", "c"]
    assert names(tmp_path) == ["out"]


def test_the_remains_of_a_killed_process_are_removed_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import sys, time; from pathlib import Path; "
        "from saccade.tiling.whole_folder import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'a').write_text('half'); print('writing', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"

        with whole_folder(out) as folder:  # a living writer's folder is left alone
            fill(folder, "other")
        assert len(names(tmp_path)) == 2

        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert len(names(tmp_path)) == 2
    with whole_folder(out) as folder:
        fill(folder, "next")

    assert names(tmp_path) == ["out"]
    assert (out / "a").read_text() == "next"


def test_many_writers_leave_one_whole_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def write(word: str) -> None:
        with whole_folder(out) as folder:
            fill(folder, word)
            time.sleep(0.01)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, [str(i) for i in range(40)]))

    assert names(tmp_path) == ["out"]
    assert len({(out / name).read_text() for name in ("a", "b", "c")}) == 1
