"""One reader for a journal folder: `<node folder>/reader.lock`, held by fcntl.lockf, naming its holder.

The file says {"pid": n, "kind": "up" | "agent" | "one-shot", "home": folder}. The lock ends with the process,
whatever ends it. Two rules come from how POSIX record locks work: a lock belongs to the process, so one process
must not take it twice; and closing *any* descriptor of the file lets it go, so the holder never opens it again.
"""

import fcntl
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from trainledger_schemas.clock import Clock, SystemClock
from trainledger_schemas.errors import HomeLockedError

from .writer_state import lock_holder

__all__ = ["LOCK_FILE", "STAYING_KINDS", "LockHolder", "ReaderKind", "ReaderLock", "acquire"]

ReaderKind = Literal["up", "agent", "one-shot"]
STAYING_KINDS = frozenset({"up", "agent"})
LOCK_FILE = "reader.lock"
_POLL_S = 0.05
_RECORD_BYTES_MAX = 8192


@dataclass(frozen=True, slots=True)
class LockHolder:
    """Who holds a folder, by its own word; `kind` is "unknown" where the file does not say."""

    pid: int | None
    kind: str
    home: str


class ReaderLock:
    """The right to read a journal folder, until `release` or the end of the process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """Let the folder go; harmless when repeated."""
        if self._fd >= 0:
            # Emptied first: whoever looks next must not be told of a reader that is gone.
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> "ReaderLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def acquire(
    node_folder: Path, kind: ReaderKind, *, home: Path, wait_s: float, clock: Clock | None = None
) -> ReaderLock:
    """Take the folder, waiting up to `wait_s` seconds for another reader to leave.

    Does not wait for a reader that stays: one of kind "up" or "agent" (a one-shot is waited for). Raises
    HomeLockedError, which names pid and kind, when it is not to be had; OSError when the folder cannot be
    written or the lock file is not a plain file.
    """
    clock = clock or SystemClock()
    give_up_ns = clock.monotonic_ns() + round(wait_s * 1e9)
    fd = _open(node_folder / LOCK_FILE)
    try:
        while not _try_lock(fd):
            holder = _holder(fd)
            if holder.kind in STAYING_KINDS or clock.monotonic_ns() >= give_up_ns:
                raise _locked(node_folder, holder)
            clock.sleep(_POLL_S)
        record = {"pid": os.getpid(), "kind": kind, "home": str(home)}
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(record).encode(), 0)
    except BaseException:
        # Also for KeyboardInterrupt while waiting: the descriptor must not stay.
        os.close(fd)
        raise
    return ReaderLock(fd)


def _open(path: Path) -> int:
    # The node folder may be writable by all: a link or a pipe under this name is somebody's trick.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(path, flags, 0o644)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{path} is not a plain file; remove it")
    return fd


def _try_lock(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _holder(fd: int) -> LockHolder:
    try:
        record = json.loads(os.pread(fd, _RECORD_BYTES_MAX, 0))
        return LockHolder(int(record["pid"]), str(record["kind"]), str(record["home"]))
    except (ValueError, KeyError, TypeError):
        # It has just taken the lock, or is no reader at all: the kernel knows its pid.
        return LockHolder(lock_holder(fd) or None, "unknown", "")


def _locked(node_folder: Path, holder: LockHolder) -> HomeLockedError:
    return HomeLockedError(
        f"journals in {node_folder} are read by process {holder.pid or 'unknown'} ({holder.kind},"
        f" home {holder.home or 'unknown'}); stop it, or use its home folder",
        pid=holder.pid,
        kind=holder.kind,
    )
