"""One reader for a journal folder: `<node folder>/reader.lock`, held by fcntl.lockf, naming its holder.

The file says {"pid": n, "kind": "up" | "agent" | "one-shot", "home": folder}. The lock ends with the process,
whatever ends it. Two rules come from how POSIX record locks work: a lock belongs to the process, so one process
must not take it twice; and closing *any* descriptor of the file lets it go, so the holder never opens it again.

In a folder that all users write to (mode 1733, read by the node's agent) the file is the agent's and others may only
read it: to them the folder is always taken, by the agent that holds it or by the user whose file it is. Nobody else
must read journals there while the agent is away: it would miss what they removed.
"""

import fcntl
import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from trainledger_schemas.clock import Clock, SystemClock
from trainledger_schemas.errors import HomeLockedError

from .writer_state import lock_holder, owner_name

__all__ = ["LOCK_FILE", "STAYING_KINDS", "LockHolder", "ReaderKind", "ReaderLock", "acquire"]

ReaderKind = Literal["up", "agent", "one-shot"]
STAYING_KINDS = frozenset({"up", "agent"})
LOCK_FILE = "reader.lock"
_POLL_S = 0.05
_RECORD_BYTES_MAX = 8192
_MODE = 0o644


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
    HomeLockedError, which names pid and kind, when it is not to be had: kind "agent" without a pid when the file is
    another user's and nobody holds it now. Raises OSError when the folder cannot be written or the lock file is not
    a plain file.
    """
    clock = clock or SystemClock()
    give_up_ns = clock.monotonic_ns() + round(wait_s * 1e9)
    fd, is_ours = _open(node_folder / LOCK_FILE)
    try:
        while not (is_ours and _try_lock(fd)):
            if not is_ours and lock_holder(fd) is None:
                raise _of_another_user(node_folder, os.fstat(fd).st_uid)
            holder = _holder(fd)
            if holder.kind in STAYING_KINDS or clock.monotonic_ns() >= give_up_ns:
                raise _locked(node_folder, holder)
            clock.sleep(_POLL_S)
        record = {"pid": os.getpid(), "kind": kind, "home": str(home)}
        with suppress(OSError):
            os.fchmod(fd, _MODE)  # whatever the umask: others are told who reads
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(record).encode(), 0)
    except BaseException:
        # Also for KeyboardInterrupt while waiting: the descriptor must not stay.
        os.close(fd)
        raise
    return ReaderLock(fd)


def _open(path: Path) -> tuple[int, bool]:
    """A descriptor, and whether it can be locked: without the right to write it can only be asked about."""
    # The node folder may be writable by all: a link or a pipe under this name is somebody's trick.
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd, is_ours = _open_for_writing(path, os.O_RDWR | flags), True
    except PermissionError:
        try:
            fd, is_ours = os.open(path, os.O_RDONLY | flags), False
        except PermissionError as error:
            raise _of_another_user(path.parent, path.lstat().st_uid) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(f"{path} is not a plain file; remove it")
    return fd, is_ours


def _open_for_writing(path: Path, flags: int) -> int:
    try:
        # Without O_CREAT: the kernel refuses that in such a folder for another user's file, to root too.
        return os.open(path, flags)
    except FileNotFoundError:
        return os.open(path, flags | os.O_CREAT, _MODE)


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


def _of_another_user(node_folder: Path, uid: int) -> HomeLockedError:
    return HomeLockedError(
        f"journals in {node_folder} are read by an agent of user {owner_name(uid)}, which does not run or does not say"
        f" who it is; start it, or set TRAINLEDGER_DIR to a folder of your own",
        kind="agent",
    )
