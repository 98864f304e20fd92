"""The demo under a user's hands: Ctrl-C in the middle ends it in one clear line and leaves nothing running."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.polling import poll_until

DEMO = Path(__file__).resolve().parents[2] / "demo" / "demo.py"


def processes_of(session: int) -> list[str]:
    """Command lines of the living processes of a session."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if fields[3] == str(session) and fields[0] != "Z":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except (OSError, IndexError):
            continue
    return found


def has_processes(folder: Path) -> bool:
    """Whether a process lives that was started with this folder in its environment."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if os.fsencode(folder) in environment.read_bytes():
                return True
        except OSError:
            continue
    return False


@pytest.fixture
def short_folder() -> Iterator[Path]:
    # Not under pytest's own folder: the path of a unix socket is at most 107 bytes long.
    with tempfile.TemporaryDirectory(prefix="tl-") as folder:
        yield Path(folder)
        # What captures code and environment beside the trainings has a session of its own, and may still write.
        poll_until(lambda: not has_processes(Path(folder)), deadline_s=60)


def test_ctrl_c_in_the_demo_ends_everything_in_one_line(tmp_path: Path, short_folder: Path) -> None:
    environment = dict(os.environ) | {"TMPDIR": str(short_folder), "PYTHONUNBUFFERED": "1"}
    with (tmp_path / "output").open("w") as output:
        demo = subprocess.Popen(
            [sys.executable, str(DEMO)],
            env=environment,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    try:
        poll_until(lambda: "== training" in (tmp_path / "output").read_text(), deadline_s=60)
        time.sleep(2)
        os.killpg(demo.pid, signal.SIGINT)  # what a terminal does
        _, errors = demo.communicate(timeout=60)
        assert demo.returncode == 130
        assert [line for line in errors.splitlines() if line] == [
            "stopped; the trainings ended with it, what they logged is kept"
        ]
        poll_until(lambda: not processes_of(demo.pid), deadline_s=20)
    finally:
        if processes_of(demo.pid):
            os.killpg(demo.pid, signal.SIGKILL)
        demo.wait()
