"""One reader for a journal folder, across real processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trainledger.node.reader_lock import LOCK_FILE, acquire
from trainledger_schemas.clock import ManualClock, SystemClock
from trainledger_schemas.errors import HomeLockedError

HOLD = """
import sys
from pathlib import Path
from trainledger.node.reader_lock import acquire
with acquire(Path(sys.argv[1]), sys.argv[2], home=Path("/home/of/holder"), wait_s=0):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path, kind: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("kind", ["up", "agent"])
def test_a_reader_that_stays_is_named_at_once(tmp_path: Path, kind: str) -> None:
    clock = ManualClock()
    with holder(tmp_path, kind) as process, pytest.raises(HomeLockedError) as caught:
        acquire(tmp_path, "up", home=tmp_path, wait_s=30, clock=clock)
    assert caught.value.pid == process.pid
    assert kind in str(caught.value) and "/home/of/holder" in str(caught.value)
    assert clock.monotonic_ns() == ManualClock().monotonic_ns()


def test_a_one_shot_is_waited_for_until_it_leaves(tmp_path: Path) -> None:
    with holder(tmp_path, "one-shot") as process:
        assert process.stdin is not None
        process.stdin.close()
        with acquire(tmp_path, "up", home=tmp_path, wait_s=20, clock=SystemClock()):
            assert f'"pid": {os.getpid()}' in (tmp_path / LOCK_FILE).read_text()


def test_waiting_ends_with_the_pid_of_the_one_shot(tmp_path: Path) -> None:
    clock = ManualClock()
    with holder(tmp_path, "one-shot") as process, pytest.raises(HomeLockedError) as caught:
        acquire(tmp_path, "one-shot", home=tmp_path, wait_s=30, clock=clock)
    assert caught.value.pid == process.pid
    assert clock.monotonic_ns() - ManualClock().monotonic_ns() >= 30e9


def test_a_killed_reader_leaves_the_folder_free(tmp_path: Path) -> None:
    with holder(tmp_path, "up") as process:
        process.kill()
        process.wait()
        acquire(tmp_path, "agent", home=tmp_path, wait_s=0).release()
    assert (tmp_path / LOCK_FILE).read_text() == ""


def test_a_holder_that_wrote_no_name_is_named_by_the_kernel(tmp_path: Path) -> None:
    with holder(tmp_path, "one-shot") as process:
        (tmp_path / LOCK_FILE).write_text("")
        with pytest.raises(HomeLockedError) as caught:
            acquire(tmp_path, "one-shot", home=tmp_path, wait_s=0)
    assert caught.value.pid == process.pid


def test_a_link_or_a_pipe_under_the_locks_name_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / LOCK_FILE).symlink_to(victim)
    with pytest.raises(OSError):
        acquire(tmp_path, "up", home=tmp_path, wait_s=0)
    (tmp_path / LOCK_FILE).unlink()
    os.mkfifo(tmp_path / LOCK_FILE)
    with pytest.raises(OSError, match="not a plain file"):
        acquire(tmp_path, "up", home=tmp_path, wait_s=0)
    assert victim.read_text() == "precious"
