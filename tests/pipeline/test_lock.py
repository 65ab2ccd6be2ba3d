"""One writer at a time."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from saccade.pipeline.lock import exclusive
from tests.holding import LIMIT_S, held_until_waited_for

HOLD = """
import sys, time
from pathlib import Path
from saccade.pipeline.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_waits_until_the_first_has_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entered = Event()
    with exclusive(tmp_path):
        second = Thread(target=_enter, args=(tmp_path, entered))
        second.start()
        assert not entered.wait(0.2)
    assert entered.wait(LIMIT_S)
    second.join()
    assert f"{tmp_path}: another process is writing there; waiting" in caplog.text


def _enter(folder: Path, entered: Event) -> None:
    with exclusive(folder):
        entered.set()


def test_steps_of_other_names_do_not_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with exclusive(tmp_path), exclusive(tmp_path, "pyramid"), exclusive(tmp_path, "saliency"):
        assert not caplog.text


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        entered = Event()
        waiter = Thread(target=_enter, args=(tmp_path, entered))
        waiter.start()
        early = entered.wait(0.2)
        holder.send_signal(signal.SIGKILL)
        waiter.join(LIMIT_S)
    assert not early
    assert entered.is_set()


def test_whoever_waited_holds_the_folder_that_is_there_now(tmp_path: Path) -> None:
    """The first removes it, as a finished stage does with its workshop, and another is made."""
    folder, inside, entered = tmp_path / "work", Event(), Event()

    def wait_and_stay() -> None:
        with exclusive(folder):
            inside.set()
            entered.wait(LIMIT_S)

    with exclusive(folder):
        waiter = Thread(target=wait_and_stay)
        waiter.start()
        assert not inside.wait(0.1)
        shutil.rmtree(folder)
    assert inside.wait(LIMIT_S)
    third = Event()
    late = Thread(target=_enter, args=(folder, third))
    late.start()
    assert not third.wait(0.2)
    entered.set()
    assert third.wait(LIMIT_S)
    waiter.join()
    late.join()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    monkeypatch.setattr(fcntl, "flock", _failing(number))
    with exclusive(tmp_path):
        assert "its file system has no locks" in caplog.text


def test_other_errors_of_the_file_system_are_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", _failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"), exclusive(tmp_path):
        pass


def _failing(number: int) -> Any:
    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    return flock


def test_a_helper_that_nobody_waits_for_fails(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="nobody waited"), held_until_waited_for(tmp_path):
        pass
