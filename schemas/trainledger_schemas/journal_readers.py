"""Which spools have ever read a journal folder: `<node folder>/readers`, a UUID a line, added to and never taken from.

Whoever removes what the journals' claims name must have the events of all of them: the same folder may have been read
into another home before. The file belongs to the owner of the folder's agent; one that somebody else made is no such
file.
"""

import os
import stat
from pathlib import Path

from .ids import id_text

__all__ = ["READERS_FILE", "note_reader", "read_readers"]

READERS_FILE = "readers"
BYTES_MAX = 1 << 20


def note_reader(node_folder: Path, producer_id: bytes) -> None:
    """Add a spool, durably, before it takes anything in; a repeat is harmless. Raises OSError."""
    line = id_text(producer_id)
    if line in (read_readers(node_folder) or ()):
        return
    fd = os.open(
        node_folder / READERS_FILE,
        os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
        0o644,
    )
    try:
        if _is_ours(os.fstat(fd), (os.geteuid(),)):
            os.write(fd, f"{line}\n".encode("ascii"))
            os.fsync(fd)
    finally:
        os.close(fd)


def read_readers(node_folder: Path) -> frozenset[str] | None:
    """The spools, as UUID text; None where there is no such file, or one that nobody can vouch for."""
    try:
        fd = os.open(node_folder / READERS_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        info = os.fstat(fd)
        if not _is_ours(info, (0, os.geteuid(), node_folder.stat().st_uid)) or info.st_size > BYTES_MAX:
            return None
        return frozenset(os.read(fd, BYTES_MAX).decode("ascii", "replace").split())
    finally:
        os.close(fd)


def _is_ours(info: os.stat_result, owners: tuple[int, ...]) -> bool:
    return stat.S_ISREG(info.st_mode) and info.st_uid in owners and info.st_nlink == 1
