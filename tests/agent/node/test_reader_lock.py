"""One reader for a journal folder, across real processes."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trainledger.node.reader_lock import LOCK_FILE, acquire
from trainledger_schemas.clock import ManualClock, SystemClock
from trainledger_schemas.errors import HomeLockedError

HOLD = """
import sys
import tempfile
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


OTHER_UID = 23456
# The interpreter may lie where another user cannot start it: what is needed is loaded, then the user changes.
AS_ANOTHER = """
import os, sys
from pathlib import Path
from trainledger.node.reader_lock import acquire
from trainledger_schemas.errors import HomeLockedError
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
try:
    acquire(Path(sys.argv[1]), "one-shot", home=Path("/nowhere"), wait_s=0.1).release()
    print("taken")
except HomeLockedError as error:
    print(error.pid, error.kind, str(error))
"""


def acquire_as_another(folder: Path) -> str:
    """What another user gets who asks for the lock."""
    done = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER, str(folder), str(OTHER_UID)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A journal folder as the agent's unit makes it, that other users can reach."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        folder = Path(name) / "journals"
        folder.mkdir()
        folder.chmod(0o1733)
        yield folder


class TestFolderThatAllUsersWriteTo:
    def test_the_agent_is_named_to_another_user(self, shared_folder: Path) -> None:
        with holder(shared_folder, "agent") as process:
            assert acquire_as_another(shared_folder).startswith(f"{process.pid} agent ")

    @pytest.mark.parametrize("umask", [0o022, 0o077])
    def test_the_holders_name_can_be_read_whatever_its_umask(self, shared_folder: Path, umask: int) -> None:
        before = os.umask(umask)
        try:
            with acquire(shared_folder, "agent", home=shared_folder, wait_s=0):
                assert (shared_folder / LOCK_FILE).stat().st_mode & 0o777 == 0o644
                assert acquire_as_another(shared_folder).startswith(f"{os.getpid()} agent ")
        finally:
            os.umask(before)

    @pytest.mark.parametrize("mode", [0o644, 0o600])
    def test_the_folder_stays_the_agents_while_it_is_away(self, shared_folder: Path, mode: int) -> None:
        acquire(shared_folder, "agent", home=shared_folder, wait_s=0).release()
        (shared_folder / LOCK_FILE).chmod(mode)
        said = acquire_as_another(shared_folder)
        assert said.startswith("None agent ") and "user root" in said and "TRAINLEDGER_DIR" in said

    def test_the_agent_takes_a_folder_in_which_a_user_was_first(self, shared_folder: Path) -> None:
        assert acquire_as_another(shared_folder) == "taken"
        assert (shared_folder / LOCK_FILE).stat().st_uid == OTHER_UID
        acquire(shared_folder, "agent", home=shared_folder, wait_s=0).release()
