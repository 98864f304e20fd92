"""Whether the agent must begin anew because NVIDIA's driver was changed under it.

A process keeps the driver's library mapped until it ends, and an old library does not speak with a new driver. So when
the file that says which driver is loaded says another one, or the library that was open cannot be opened again while a
driver is loaded, the process of `agent` or `up` replaces itself by a fresh one: same process id, same arguments.
At most once for each version: the fresh process is told for which one it began anew, and a driver that does not come
back does not make the agent turn in circles.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from trainledger_schemas.clock import Clock

__all__ = ["OPTION", "DriverChange"]

OPTION = "--restarted-for"
CHECK_S = 2
SECOND_NS = 1_000_000_000
TEXT_BYTES_MAX = 4096


class DriverChange:
    """Asked again and again; reads the file each two seconds. A version counts when it was read twice."""

    def __init__(
        self, file: Path, clock: Clock, *, restarted_for: str | None, is_library_lost: Callable[[], bool]
    ) -> None:
        """`restarted_for`: the version for which this process began anew, as `version` was then."""
        self._file = file
        self._clock = clock
        self._restarted_for = restarted_for
        self._is_library_lost = is_library_lost
        self.version = self._loaded = self._read()
        self._checked_ns = clock.monotonic_ns()

    def is_due(self) -> bool:
        """Whether a fresh process is needed now."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._checked_ns < CHECK_S * SECOND_NS:
            return False
        self._checked_ns = now_ns
        before, self.version = self.version, self._read()
        if self.version is None or self.version != before:
            return False  # no driver, or one that is being loaded
        if self._loaded is None:  # the first one: its library was not open before
            self._loaded = self.version
        has_changed = self.version != self._loaded or self._is_library_lost()
        return has_changed and self.version != self._restarted_for

    def begin_anew(self) -> None:
        """Replace this process by a fresh one with the same arguments; everything that must be closed is closed before.

        Returns when there is no driver to begin anew with."""
        if self.version is not None:
            _restart(self.version)

    def _read(self) -> str | None:
        try:
            with self._file.open("rb") as file:
                text = file.read(TEXT_BYTES_MAX).decode("utf-8", "replace")
        except OSError:
            return None
        # The first line names the version and when it was built; the second the compiler.
        return " ".join(text.partition("\n")[0].split()) or None


def _restart(version: str) -> None:
    given = list(sys.orig_argv)[1:]
    while OPTION in given:
        at = given.index(OPTION)
        del given[at : at + 2]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *given, OPTION, version])
