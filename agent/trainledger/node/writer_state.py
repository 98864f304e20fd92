"""Whether the process that writes a journal lives, and which process of this machine it is.

A writer holds a POSIX record lock on `writer.lock` as long as it lives; the kernel lets it go at any death.
The lock is asked for with F_GETLK, which takes nothing, and which names the holder by its pid as *this*
process sees it: that is the mapping out of a container's pid namespace, without a search. Where the kernel
does not name it, the processes' own list of pids by namespace (NSpid) is searched.

A record lock is lost when its process closes any descriptor of the file. So the lock of a journal that this
very process writes is never opened here.
"""

import fcntl
import os
import pwd
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainledger_schemas.journal import SegmentHeader

from ..process_facts import read_start_ticks
from ..redaction import redact
from .container_images import ContainerImages
from .journal_folder import JournalFolder, RefusedError

__all__ = ["LiveWriter", "WriterState", "live_writer", "lock_holder", "probe_writer", "seen_fields"]

# struct flock on 64-bit Linux: type, whence, start, length, pid.
_FLOCK = struct.Struct("@hhqqi4x")
_TEXT_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class WriterState:
    """`pid` as this process sees it, 0 if not found; `evidence` why it counts as dead, "" while it lives."""

    alive: bool
    pid: int
    evidence: str


@dataclass(frozen=True, slots=True)
class LiveWriter:
    """A process that holds its journal's lock; `pid` as the agent sees it, 0 if it was not found."""

    run_id: bytes
    writer_id: bytes
    parent_writer: bytes | None
    pid: int
    uid: int
    owner: str
    start_ticks: int
    cgroup: str | None


def probe_writer(folder: JournalFolder, header: SegmentHeader, *, boot_id: bytes) -> WriterState:
    """Ask for the writer of a journal; takes no lock and does not block."""
    if any(header.boot_id) and any(boot_id) and header.boot_id != boot_id:
        return WriterState(False, 0, "other_boot")
    if _is_this_process(folder, header):
        return WriterState(True, os.getpid(), "")
    try:
        fd = folder.lock_file()
    except (FileNotFoundError, RefusedError):
        pid = find_process(header, folder.uid)
        return WriterState(True, pid, "") if pid else WriterState(False, 0, "process_gone")
    holder = lock_holder(fd)
    if holder is None:
        return WriterState(False, 0, "lock_free")
    return WriterState(True, holder or find_process(header, folder.uid), "")


def live_writer(
    folder: JournalFolder, header: SegmentHeader, state: WriterState, known: LiveWriter | None
) -> LiveWriter:
    """What is known of a writer; looked up once in its life."""
    if known is not None and known.pid == state.pid:
        return known
    parent = header.parent_journal
    return LiveWriter(
        run_id=header.run_id,
        writer_id=header.journal_id,
        parent_writer=parent if any(parent) else None,
        pid=state.pid,
        uid=folder.uid,
        owner=owner_name(folder.uid),
        start_ticks=header.start_ticks,
        cgroup=read_cgroup(state.pid) if state.pid else None,
    )


def seen_fields(
    header: SegmentHeader, writer: LiveWriter, state: WriterState, *, at_us: int, images: ContainerImages
) -> dict[str, Any]:
    """The fields of `writer_seen`; asks the container runtime about a container that is new."""
    image = images.image_of(writer.pid)
    return {
        "run_id": header.run_id,
        "writer_id": header.journal_id,
        "at_us": at_us,
        "parent_writer": writer.parent_writer,
        "pid": writer.pid,
        "uid": writer.uid,
        "owner": writer.owner,
        "start_ticks": header.start_ticks,
        "cgroup": writer.cgroup,
        "alive": state.alive,
        "image_digest": None if image is None else image.digest,
        "image_name": None if image is None or image.name is None else redact(image.name),
    }


def lock_holder(fd: int) -> int | None:
    """The pid that holds a write lock on a file; 0 if the kernel does not name it, None if nobody does.

    A lock of the calling process itself is not seen: that is how record locks are.
    """
    ask = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, ask))
    return None if kind == fcntl.F_UNLCK else max(0, pid)


def find_process(header: SegmentHeader, uid: int) -> int:
    """The pid, as this process sees it, of the process of a user that a header names; 0 if there is none.

    The header is the writer's word: a process of another user is never found by it.
    """
    if not header.start_ticks:
        return 0
    if header.pid_namespace == _pid_namespace("self"):
        is_it = read_start_ticks(header.pid) == header.start_ticks and _owner_of(header.pid) == uid
        return header.pid if is_it else 0
    for pid in _all_pids():
        if _owner_of(pid) != uid:
            continue
        if read_start_ticks(pid) == header.start_ticks and _innermost_pid(pid) == header.pid:
            namespace = _pid_namespace(str(pid))
            if namespace in (0, header.pid_namespace):  # 0: not allowed to look; start and pid must do
                return pid
    return 0


def read_cgroup(pid: int) -> str | None:
    """The path of a process's control group (version 2; else the first one listed), None if unknown."""
    lines = _read_text(f"/proc/{pid}/cgroup").splitlines()
    unified = [line for line in lines if line.startswith("0::")]
    for line in unified or lines[:1]:
        return line.split(":", 2)[-1]
    return None


@lru_cache(maxsize=1024)
def owner_name(uid: int) -> str:
    """The name of a user, or its number as text. Kept: a directory service may be slow to answer."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def _is_this_process(folder: JournalFolder, header: SegmentHeader) -> bool:
    # The header is the writer's word, so another user's journal is never taken for ours.
    return (
        header.pid == os.getpid()
        and folder.uid == os.geteuid()
        and header.pid_namespace in (0, _pid_namespace("self"))
        and header.start_ticks in (0, read_start_ticks(os.getpid()))
    )


def _all_pids() -> Iterator[int]:
    with suppress(OSError), os.scandir("/proc") as entries:
        yield from (int(entry.name) for entry in entries if entry.name.isdecimal())


def _owner_of(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return -1


def _innermost_pid(pid: int) -> int:
    for line in _read_text(f"/proc/{pid}/status").splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return 0


def _pid_namespace(pid: str) -> int:
    try:
        return Path(f"/proc/{pid}/ns/pid").stat().st_ino
    except OSError:
        return 0


def _read_text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(_TEXT_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return ""
