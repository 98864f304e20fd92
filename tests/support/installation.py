"""A fresh installation for end-to-end tests: folders of its own, real processes, the real command."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from functools import cache
from pathlib import Path
from typing import Any

from support.warm_commands import WarmCommands

BIN = Path(sys.executable).parent
SCRIPT = BIN / "trainledger"
COMMAND_TIMEOUT_S = 120


class Installation:
    """Journals and home in `folder`, and what a user runs against them.

    `is_warm`: commands are forks of a process that has imported the product (support/warm_commands)."""

    def __init__(self, folder: Path, *, is_warm: bool = True) -> None:
        self.folder = folder
        self._is_warm = is_warm
        self.journals = folder / "journals"
        self.home = folder / "home"
        self._scripts = 0
        self.environment = _plain_environment() | {
            "TRAINLEDGER_DIR": str(self.journals),
            "TRAINLEDGER_HOME": str(self.home),
            # Tests that run beside this one have jobs of SLURM on the same machine.
            "TRAINLEDGER_SCHEDULERS": "none",
        }

    def write_script(self, body: str) -> Path:
        """A Python file with this text."""
        self._scripts += 1
        path = self.folder / f"script{self._scripts}.py"
        path.write_text(textwrap.dedent(body), encoding="utf-8")
        return path

    def start(self, body: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a script."""
        return subprocess.Popen(
            [sys.executable, str(self.write_script(body)), *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def script(self, body: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a script to its end."""
        return subprocess.run(
            [sys.executable, str(self.write_script(body)), *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            text=True,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
        )

    def command(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a trainledger command to its end."""
        wanted = self.environment | environment
        if self._is_warm:
            warm = _warm_commands()
            if warm.serves(arguments, wanted):
                return warm.run(
                    arguments, folder=self.folder, environment=wanted, timeout_s=COMMAND_TIMEOUT_S
                )
        return subprocess.run(
            [str(SCRIPT), *arguments],
            cwd=self.folder,
            env=wanted,
            text=True,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
        )

    def json(self, *arguments: str, **environment: str) -> list[dict[str, Any]]:
        """The answer of a command that must succeed."""
        done = self.command(*arguments, "--json", **environment)
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}: {done.stderr[-2000:]}"
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    def sql(self, query: str, **environment: str) -> list[dict[str, Any]]:
        """The rows of a query."""
        return self.json("sql", query, **environment)

    def up(self) -> "Up":
        """Start `up` and wait until it answers."""
        return Up(self)


def _plain_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRAINLEDGER_")}
    return kept | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}


@cache
def _warm_commands() -> WarmCommands:
    """One for all installations of this test process."""
    return WarmCommands(SCRIPT, _plain_environment())


class Up:
    """A running `trainledger up`, as a context manager."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self.errors = installation.folder / "up.err"

    def __enter__(self) -> "Up":
        self._error_file = self.errors.open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            [str(SCRIPT), "up"],
            cwd=self._installation.folder,
            env=self._installation.environment,
            stdout=subprocess.PIPE,
            stderr=self._error_file,
            text=True,
        )
        watchdog = threading.Timer(60, self.process.kill)
        watchdog.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        watchdog.cancel()
        assert line.startswith("ready"), f"up said {line!r}: {self.errors.read_text()[-2000:]}"
        return self

    def stop(self) -> int:
        """Ctrl-C, and the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self.process.kill()
            self.process.wait()
            self._error_file.close()
            if self.process.stdout is not None:
                self.process.stdout.close()
