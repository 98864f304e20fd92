"""Run a version control program, bounded in time and output, with nothing of the repository run beside it."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import TrainledgerError

from .settings import OUTPUT_BYTES_MAX

__all__ = ["Programs", "TooMuchOutputError", "UnavailableError"]


class UnavailableError(TrainledgerError):
    """A fact could not be had; the message says which program said what, `exit_code` is its own if it ended."""

    def __init__(self, message: str, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class TooMuchOutputError(UnavailableError):
    """A program said more than is read; it would do so each time."""


class Programs:
    """Programs that share one budget of time; each call fails with UnavailableError once it is spent."""

    def __init__(self, environment: Mapping[str, str], *, clock: Clock, budget_s: float) -> None:
        self._environment = dict(environment)
        self._clock = clock
        self._end_ns = clock.monotonic_ns() + round(budget_s * 1e9)
        self._budget_s = budget_s

    def has(self, name: str) -> bool:
        """Whether a program of this name is installed."""
        return shutil.which(name, path=self._environment.get("PATH")) is not None

    @property
    def left_share(self) -> float:
        """How much of the budget is left, 1 to 0."""
        return (
            max(0.0, (self._end_ns - self._clock.monotonic_ns()) / 1e9 / self._budget_s)
            if self._budget_s
            else 0.0
        )

    def run(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        stdin: bytes | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> bytes:
        """The standard output of a command that succeeded in `folder`; blocks until it ends or the budget does.

        `variables` are set in its environment, `stdin` is what it reads."""
        left_s = (self._end_ns - self._clock.monotonic_ns()) / 1e9
        if left_s <= 0:
            raise UnavailableError(f"{command[0]} was not run: {self._budget_s:g} s were used up before")
        try:
            done = subprocess.run(
                list(command),
                cwd=folder,
                env=self._environment | dict(variables or {}),
                input=stdin or b"",
                capture_output=True,
                timeout=left_s,
                check=False,
            )
        except FileNotFoundError as error:
            raise UnavailableError(f"{command[0]} is not installed, or {folder} is gone") from error
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"{command[0]} took more than {self._budget_s:g} s") from error
        except OSError as error:
            raise UnavailableError(f"{command[0]} could not be run: {error.strerror}") from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            what = said[0][:300] if said else f"exit {done.returncode}"
            raise UnavailableError(f"{command[0]}: {what}", exit_code=done.returncode)
        if len(done.stdout) > OUTPUT_BYTES_MAX:
            # A list that is cut would look like the whole.
            raise TooMuchOutputError(f"{command[0]} said more than {OUTPUT_BYTES_MAX >> 20} MiB")
        return done.stdout
