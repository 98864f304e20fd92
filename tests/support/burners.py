"""Real processes that use a known amount of CPU time and then wait to be told to end."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Burner", "WriterStandIn", "burning", "start_ticks_of"]

# Runs CODE, says what it and its ended children used in microseconds, and ends when its stdin does.
WRAPPER = """
import os, subprocess, sys, time
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
def used_ticks(pid):
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
CHILD = "import time\\nend = time.process_time() + {0}\\nwhile time.process_time() < end: pass\\n"
def child(seconds, tail=""):
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", CHILD.format(seconds) + tail], stdout=subprocess.PIPE)
print("begun", flush=True)
sys.stdin.readline()
exec(sys.argv[1])
used = os.times()
print(round((used.user + used.system + used.children_user + used.children_system) * 1e6), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class WriterStandIn:
    """A live writer as the collector tells of it."""

    run_id: bytes
    writer_id: bytes
    pid: int
    uid: int
    start_ticks: int


class Burner:
    """A process that runs `code` (with `burn`, `child` and `used_ticks` of WRAPPER) once `go` is called."""

    def __init__(self, code: str, *, uid: int | None = None) -> None:
        self._process = subprocess.Popen(
            # It changes its own user id: the interpreter may lie where another user cannot start it.
            [sys.executable, "-I", "-S", "-c", WRAPPER, code, *([] if uid is None else [str(uid)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
        )
        self.pid = self._process.pid
        self.uid = os.getuid() if uid is None else uid
        assert self.line() == "begun"

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def used_us(self) -> int:
        """What it says that it used; waits until it has."""
        return int(self.line())

    def end(self) -> None:
        """Let it end, and wait for it as a parent does."""
        self._process.communicate()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def writer(self, number: int) -> WriterStandIn:
        """This process as the writer `number` of run `number`."""
        return WriterStandIn(
            bytes([number]) * 16, bytes([number + 100]) * 16, self.pid, self.uid, self.start_ticks
        )

    @property
    def start_ticks(self) -> int:
        return start_ticks_of(self.pid)

    def line(self) -> str:
        """The next line that it prints; waits for it."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().strip()


def start_ticks_of(pid: int) -> int:
    """When a process started, in ticks since boot."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


@contextmanager
def burning(code: str, *, uid: int | None = None) -> Iterator[Burner]:
    """A burner that is killed at the end, if it still lives."""
    burner = Burner(code, uid=uid)
    try:
        yield burner
    finally:
        burner.kill()
