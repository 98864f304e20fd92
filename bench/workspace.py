"""Folders, child processes and their cost: what every bar needs, cleaned up however the bar ends.

A folder lies on the disk that holds the working tree, never on tmpfs: fsync must cost what it costs. Children die
with this process (PR_SET_PDEATHSIG), so that nothing is left running after Ctrl-C, SIGTERM or SIGKILL; a folder
is left only after SIGKILL, and begins with `.bench-`.
"""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["Cost", "cpu_seconds", "environment", "running", "temporary_folder", "timed", "trainledger"]

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
# Clock id of another process's CPU time (man 3 clock_getcpuclockid): nanoseconds, where /proc/PID/stat has ticks.
_CPU_CLOCK = 2
_STOP_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a finished process took: seconds, and its largest resident size in MB (10^6 bytes)."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    output: str


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder in the current one; removed at the end. Git does not see it."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / ".gitignore").write_text("*\n", encoding="ascii")
        yield folder


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a trainledger process whose journals, home and nothing else lie in `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINLEDGER_")}
    return kept | {
        "TRAINLEDGER_DIR": str(folder / "journals"),
        "TRAINLEDGER_HOME": str(folder / "home"),
        "TRAINLEDGER_CAPTURE": "off",
        **more,
    }


def trainledger(*arguments: str) -> list[str]:
    """The installed command of this interpreter's environment."""
    return [str(Path(sys.executable).parent / "trainledger"), *arguments]


@contextmanager
def running(
    command: Sequence[str], env: Mapping[str, str], *, ready: str | None = None, stdin: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """A child process, ended with SIGTERM at the end; with `ready`, once it printed a line that starts so.

    Its stderr goes to a file and is shown when it ends before it is ready.
    """
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE if ready else log,
            stderr=log,
            text=True,
            preexec_fn=_die_with_parent,
        )
        try:
            if ready and not _says(process.stdout, ready):
                process.wait(_STOP_S_MAX)
                log.seek(0)
                raise RuntimeError(f"{' '.join(command)} ended before it was ready:\n{log.read()[-2000:]}")
            yield process
        finally:
            _end(process)


def timed(command: Sequence[str], env: Mapping[str, str], *, timeout_s: float = 600.0) -> Cost:
    """Run a command to its end; its own cost from wait4, threads included. Raises RuntimeError if it fails."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            text=True,
            preexec_fn=_die_with_parent,
        )
        try:
            status, usage = _wait(process, started + timeout_s)
        finally:
            _end(process)
        wall_s = time.perf_counter() - started
        out.seek(0)
        log.seek(0)
        if status:
            raise RuntimeError(f"{' '.join(command)} ended with status {status}:\n{log.read()[-2000:]}")
        return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6, out.read())


def cpu_seconds(pid: int) -> float:
    """CPU time of a live process, all its threads, to the nanosecond."""
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK)


def _wait(process: subprocess.Popen[str], deadline: float) -> tuple[int, resource.struct_rusage]:
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage
        if time.perf_counter() > deadline:
            raise RuntimeError(f"process {process.pid} did not end in time")
        time.sleep(0.002)


def _says(stream: IO[str] | None, prefix: str) -> bool:
    return stream is not None and any(line.startswith(prefix) for line in stream)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
