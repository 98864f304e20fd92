"""Making a virtual environment and filling it: by venv and pip, or by uv.

Which index is asked is what the user's pip or uv is configured for. Everything is installed without what the packages
themselves ask for: all of that is recorded too. Limits: an installer may build packages, which runs their code.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from trainledger_schemas.errors import TrainledgerError

__all__ = ["Installer", "PipInstaller", "UvInstaller", "install_each"]

_SAID_CHARS_MAX = 300
# What was set for another environment must not reach into this one.
_DROPPED = frozenset({"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "CONDA_PREFIX", "UV_PROJECT_ENVIRONMENT"})


class Installer(Protocol):
    """Fills the virtual environment `folder`. Each call raises TrainledgerError with the program's own words."""

    folder: Path

    def make(self, interpreter: str) -> None:
        """Make the environment; `interpreter`: a program, or for uv also a version."""

    def install(self, arguments: Sequence[str]) -> None:
        """Install these requirements, files of them (`-r`) or folders (`--editable`)."""

    def uninstall(self, names: Sequence[str]) -> None:
        """Take packages away."""


class PipInstaller:
    """The pip of this process where there is one, else one in the environment."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self._environ = environ
        self._lends_pip = find_spec("pip") is not None

    def make(self, interpreter: str) -> None:
        """Make the environment. A pip that is here can install for another interpreter; it takes seconds to give
        each environment its own."""
        options = ["--without-pip"] if self._lends_pip else []
        _run([interpreter, "-m", "venv", *options, str(self.folder)], self._environ)

    def install(self, arguments: Sequence[str]) -> None:
        """See the protocol."""
        options = ["--disable-pip-version-check", "--no-input", "--no-deps"]
        _run([*self._pip(), "install", *options, *arguments], self._environ)

    def uninstall(self, names: Sequence[str]) -> None:
        """See the protocol."""
        _run([*self._pip(), "uninstall", "--yes", *names], self._environ)

    def _pip(self) -> list[str]:
        python = str(self.folder / "bin" / "python")
        return [sys.executable, "-m", "pip", "--python", python] if self._lends_pip else [python, "-m", "pip"]


class UvInstaller:
    """`program`: uv. It fetches an interpreter that is not here, where its configuration lets it."""

    def __init__(self, program: str, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self._uv = program
        self._environ = environ

    def make(self, interpreter: str) -> None:
        """See the protocol."""
        _run([self._uv, "venv", "--no-project", "--python", interpreter, str(self.folder)], self._environ)

    def install(self, arguments: Sequence[str]) -> None:
        """See the protocol."""
        self._pip("install", "--no-deps", *arguments)

    def uninstall(self, names: Sequence[str]) -> None:
        """See the protocol."""
        self._pip("uninstall", *names)

    def sync(self, lock: Path) -> None:
        """Install what a lock file says: `uv.lock` with the project's file beside it, or `pylock.toml`.

        --frozen: the lock file is the record; it is not asked whether it is up to date."""
        if lock.name != "uv.lock":
            self._pip("sync", str(lock))
            return
        options = ["--frozen", "--no-install-project", "--inexact", "--directory", str(lock.parent)]
        environ = {**self._environ, "UV_PROJECT_ENVIRONMENT": str(self.folder)}
        _run([self._uv, "sync", *options], environ, dropped=_DROPPED - {"UV_PROJECT_ENVIRONMENT"})

    def _pip(self, command: str, *arguments: str) -> None:
        python = str(self.folder / "bin" / "python")
        _run([self._uv, "pip", command, "--python", python, *arguments], self._environ)


def install_each(installer: Installer, lines: Sequence[str]) -> dict[str, str]:
    """Install all that can be had; returns the others with what was said of each.

    All at once, and in halves where that fails: one that cannot be had costs few calls."""
    if not lines:
        return {}
    file = installer.folder / "recorded.txt"
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    try:
        installer.install(["-r", str(file)])
    except TrainledgerError as error:
        if len(lines) == 1:
            return {lines[0]: str(error)}
        half = len(lines) // 2
        return install_each(installer, lines[:half]) | install_each(installer, lines[half:])
    return {}


def _run(command: Sequence[str], environ: Mapping[str, str], *, dropped: frozenset[str] = _DROPPED) -> None:
    kept = {name: value for name, value in environ.items() if name not in dropped}
    # A backend that lies in the restored code would be compiled there, and what is built is not the run's.
    kept["PYTHONDONTWRITEBYTECODE"] = "1"
    try:
        done = subprocess.run(command, env=kept, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise TrainledgerError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        raise TrainledgerError(_said(done.stderr or done.stdout)[:_SAID_CHARS_MAX])


def _said(text: str) -> str:
    """What matters of an installer's complaint: pip's last line of its kind, uv's with its causes."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    of_pip = [line for line in lines if line.startswith("ERROR")]
    if of_pip:
        return of_pip[-1]
    begin = next((n for n, line in enumerate(lines) if line.startswith(("error", "\u00d7"))), None)
    return "; ".join(lines[begin:]) if begin is not None else (lines or ["it said nothing"])[-1]
