"""Which run the process that started a worker is at: the one it had at the worker's birth, or a later one.

Workers that are used again (joblib, executors) and fork servers keep the environment of their birth, so it may name a
run that has ended since. The parent holds the lock of its journal while its run goes on; when it does not any more,
the parent's newest journal whose lock it holds is the run it is at now. Only reads; costs about 2 us while the run
goes on. Limits: a parent whose journals lie in another folder is not seen; SCANNED_MAX journals are looked at.
"""

import os
from pathlib import Path
from typing import NamedTuple

from trainledger_schemas.clock import Clock, SystemClock
from trainledger_schemas.ids import id_text
from trainledger_schemas.journal import HEADER_BYTES, SegmentHeader

from .identity import parent_of
from .placement import choose_folder, lock_owner
from .settings import PARENT, RUN_ID, WRAPPED, Settings, set_variables

__all__ = ["Found", "ParentRun", "export_later_run", "open_parent_run"]

SCANNED_MAX = 1000
# A journal that was made this long ago has its lock and its first segment.
SETTLED_NS = 1_000_000_000
_LOCK_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class Found(NamedTuple):
    """A run that the parent is at, and its journal there."""

    run_id: str
    journal: str


class ParentRun:
    """The journal of the process `pid` in `folder`, a user's folder of journals. One that is not there has ended."""

    def __init__(self, folder: Path, pid: int, journal: bytes, clock: Clock) -> None:
        self._folder = folder
        self._pid = pid
        self._journal = id_text(journal)
        self._clock = clock
        self._scanned_at_ns = 0
        try:
            # Kept open: the agent takes the folder away when it has read the journal of a run that has ended.
            self._fd = os.open(folder / self._journal / "writer.lock", _LOCK_FLAGS)
        except OSError:
            self._fd = -1

    def later_run(self) -> Found | None:
        """The run that the parent is at now if this one has ended; None while it goes on, and without another.

        Raises OSError for a folder that cannot be read.
        """
        if self._fd >= 0 and lock_owner(self._fd):
            return None
        changed_ns = self._folder.stat().st_mtime_ns
        if changed_ns == self._scanned_at_ns:
            return None
        found = self._newest()
        if found is None and self._clock.wall_ns() - changed_ns > SETTLED_NS:
            self._scanned_at_ns = changed_ns
        return found

    def export(self, found: Found) -> None:
        """Make the environment of this process that of a child of the parent at that run."""
        set_variables({RUN_ID: found.run_id, PARENT: f"{self._pid}:{found.journal}", WRAPPED: None})

    def close(self) -> None:
        """Let go of the lock's file."""
        if self._fd >= 0:
            os.close(self._fd)

    def _newest(self) -> Found | None:
        with os.scandir(self._folder) as entries:
            folders = sorted(entries, key=_changed_ns, reverse=True)
        for entry in folders[:SCANNED_MAX]:
            header = _header_of(Path(entry.path))
            # By the header first: to open and close the lock of a journal of our own would free it.
            if header is None or header.pid != self._pid or entry.name == self._journal:
                continue
            if _owner_of(Path(entry.path) / "writer.lock") == self._pid:
                return Found(id_text(header.run_id), entry.name)
        return None


def open_parent_run(settings: Settings) -> ParentRun | None:
    """The run of the parent that the environment names, if it names one of a parent."""
    parent = parent_of(settings)
    if parent is None or settings.wrapped or parent[0] == os.getpid():
        return None
    folder = choose_folder(settings).folder
    return None if folder is None else ParentRun(folder, *parent, clock=SystemClock())


def export_later_run(settings: Settings) -> bool:
    """Bring the environment up to the run that the parent is at, if that has changed; whether it had."""
    parent = open_parent_run(settings)
    if parent is None:
        return False
    try:
        later = parent.later_run()
    except OSError:  # a folder that is gone: the environment stays as it is
        later = None
    parent.close()
    if later is not None:
        parent.export(later)
    return later is not None


def _changed_ns(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat(follow_symlinks=False).st_ctime_ns
    except OSError:  # the agent has just taken it
        return 0


def _header_of(folder: Path) -> SegmentHeader | None:
    try:
        with min(folder.glob("*.tlj")).open("rb") as file:
            return SegmentHeader.parse(file.read(HEADER_BYTES))
    except (OSError, ValueError):  # no journal, or none any more
        return None


def _owner_of(path: Path) -> int:
    try:
        fd = os.open(path, _LOCK_FLAGS)
    except OSError:
        return 0
    try:
        return lock_owner(fd)
    finally:
        os.close(fd)
