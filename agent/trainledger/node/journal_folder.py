"""The folder of one journal, opened as what it is: something that an unknown user made.

Everything goes by descriptor and without following links. A folder belongs to the user whose id names the
folder above it; a segment is a plain file of that user with one name. Whatever else lies there (links, pipes,
devices, other people's files, second names of files elsewhere) is refused, never opened for reading and never
removed. Sizes are bounded, so that a sparse file of a terabyte is as cheap as any other.

A folder keeps the segment that was opened last and the lock file open, for the next look; each time they are asked
for, it is checked anew that they are still what they were when they were opened. What somebody removed meanwhile and
did not replace stays readable: its writer has it open too, and goes on.
"""

import os
import re
import stat
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from trainledger_schemas.errors import CorruptDataError
from trainledger_schemas.ids import id_bytes, id_text
from trainledger_schemas.journal import HEADER_BYTES, SEGMENT_SUFFIX, SegmentHeader, segment_name

__all__ = [
    "LOCK_NAME",
    "SEGMENT_BYTES_MAX",
    "JournalFolder",
    "JournalPlace",
    "RefusedError",
    "Segment",
    "find_journals",
]

# Above it the rest of a segment is not looked at; the SDK's have 8 MiB.
SEGMENT_BYTES_MAX = 64 << 20
SEGMENTS_MAX = 100_000
JOURNALS_PER_USER_MAX = 20_000
REMOVED_NAMES_MAX = 10_000
LOCK_NAME = "writer.lock"
_SEGMENT = re.compile(r"(\d{6,9})" + re.escape(SEGMENT_SUFFIX))
_USER = re.compile(r"0|[1-9]\d{0,9}")
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# To go through a folder without the right to list it.
_PASSAGE_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: opening a pipe must not wait for a writer.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class RefusedError(CorruptDataError):
    """Something in a journal folder is not what the SDK makes; it is left alone."""


class JournalPlace(NamedTuple):
    """A folder that is named like a journal; `inode` tells it from another one under the same name."""

    uid: int
    journal_id: bytes
    inode: int


class Segment:
    """One open segment with a header that checks. `size_bytes` may grow until it is sealed.

    It belongs to its folder, which closes it with itself or when another segment is opened."""

    def __init__(self, fd: int, header: SegmentHeader) -> None:
        self._fd = fd
        self.header = header

    @property
    def size_bytes(self) -> int:
        """The size of the file now, as far as it is read."""
        return min(os.fstat(self._fd).st_size, SEGMENT_BYTES_MAX)

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; fewer at the end of the file."""
        return os.pread(self._fd, max(0, min(count, SEGMENT_BYTES_MAX - offset)), offset)

    def is_sound(self, uid: int, folder_fd: int) -> bool:
        """Whether it is still a file of the user with one name, or none: it may have been replaced, or linked."""
        return _is_sound(self._fd, uid, folder_fd, segment_name(self.header.segment))

    def close(self) -> None:
        """Let the file go; harmless when repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class JournalFolder:
    """A journal's folder, open. Raises RefusedError or FileNotFoundError when it is not to be had."""

    def __init__(self, node_folder: Path, uid: int, journal_id: bytes) -> None:
        self.journal_id = journal_id
        self.uid = uid
        self._name = id_text(journal_id)
        self.path = node_folder / str(uid) / self._name
        self._segment: Segment | None = None
        self._lock_fd = -1
        self._above_fd = _open_folder(os.open(node_folder, _PASSAGE_FLAGS), str(uid), uid)
        try:
            self.fd = _open_folder(os.dup(self._above_fd), self._name, uid)
        except BaseException:
            # Also for KeyboardInterrupt: descriptors must not pile up.
            os.close(self._above_fd)
            raise

    def __enter__(self) -> "JournalFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the folder go, with what is open in it."""
        self._drop_segment()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
        os.close(self.fd)
        os.close(self._above_fd)

    @property
    def inode(self) -> int:
        """What tells this folder from another one of its name."""
        return os.fstat(self.fd).st_ino

    def segments(self) -> list[int]:
        """The numbers of the segments, ascending; of a folder with too many names, those met first; of a folder that
        was removed, none."""
        try:
            with os.scandir(self.fd) as entries:
                matches = (_SEGMENT.fullmatch(entry.name) for entry in islice(entries, SEGMENTS_MAX))
                return sorted(int(match[1]) for match in matches if match)
        except FileNotFoundError:
            return []

    def open_segment(self, number: int) -> Segment:
        """A segment; FileNotFoundError when there is none, RefusedError when its header does not check."""
        known = self._segment
        if known is not None and known.header.segment == number and known.is_sound(self.uid, self.fd):
            return known
        self._drop_segment()
        self._segment = self._new_segment(number)
        return self._segment

    def has_segment(self, number: int) -> bool:
        """Whether a segment is there with a header that checks."""
        # Asked each second of the one that is not there yet: without an exception it costs half.
        if not os.access(segment_name(number), os.F_OK, dir_fd=self.fd):
            return False
        try:
            self._new_segment(number).close()
        except (FileNotFoundError, RefusedError):
            return False
        return True

    def lock_file(self) -> int:
        """A descriptor of the writer's lock file, which stays the folder's; raises as `open_file`."""
        if self._lock_fd >= 0:
            if _is_sound(self._lock_fd, self.uid, self.fd, LOCK_NAME):
                return self._lock_fd
            os.close(self._lock_fd)
            self._lock_fd = -1
        self._lock_fd = self.open_file(LOCK_NAME)
        return self._lock_fd

    def _drop_segment(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _new_segment(self, number: int) -> Segment:
        fd = self.open_file(segment_name(number))
        try:
            header = SegmentHeader.parse(os.pread(fd, HEADER_BYTES, 0))
            if header.journal_id != self.journal_id or header.segment != number:
                raise RefusedError(f"{self.path}/{segment_name(number)} has the header of another segment")
        except CorruptDataError as error:
            os.close(fd)
            raise RefusedError(f"{self.path}/{segment_name(number)}: {error}") from error
        return Segment(fd, header)

    def open_file(self, name: str) -> int:
        """A descriptor of a plain file of the owner with one name; FileNotFoundError, or RefusedError."""
        try:
            fd = os.open(name, _FILE_FLAGS, dir_fd=self.fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise RefusedError(f"{self.path}/{name} cannot be opened: {error.strerror}") from error
        if not _is_plain(os.fstat(fd), self.uid):
            os.close(fd)
            raise RefusedError(f"{self.path}/{name} is not a plain file of user {self.uid} with one name")
        return fd

    def changed_ns(self) -> int:
        """When a name in the folder last came or went, wall time."""
        return os.fstat(self.fd).st_mtime_ns

    def remove_segment(self, number: int) -> bool:
        """Remove a segment's name; False when it is not there or must stay."""
        try:
            os.unlink(segment_name(number), dir_fd=self.fd)
        except OSError:
            return False
        return True

    def remove(self) -> tuple[bool, int]:
        """Remove the folder with what is in it: whether it is gone, and how many names went.

        At most REMOVED_NAMES_MAX names a call. Folders inside are left, and then this one stays too. Names
        only are removed: whatever a link points at, or has another name, is not touched.
        """
        removed = 0
        with os.scandir(self.fd) as entries:
            names = [entry.name for entry in islice(entries, REMOVED_NAMES_MAX)]
        # The lock goes last: what is left of a removal that was cut off still looks like a dead journal.
        for name in sorted(names, key=lambda name: (name == LOCK_NAME, name)):
            try:
                os.unlink(name, dir_fd=self.fd)
                removed += 1
            except OSError:
                continue  # a folder, or not ours to remove: rmdir below finds it
        try:
            os.rmdir(self._name, dir_fd=self._above_fd)
        except FileNotFoundError:
            return True, removed
        except OSError:
            return False, removed
        return True, removed


def find_journals(node_folder: Path) -> tuple[list[JournalPlace], int]:
    """All that is named like a journal, and how many folders were refused.

    A reader that may not list the node folder (it is made so that users cannot see each other) finds the
    journals of its own user.
    """
    found: list[JournalPlace] = []
    refused = 0
    for uid in _users(node_folder):
        try:
            above = os.open(node_folder, _PASSAGE_FLAGS)
            found += _places(_open_folder(above, str(uid), uid), uid)
        except RefusedError:
            refused += 1
        except FileNotFoundError:
            continue
    return found, refused


def _users(node_folder: Path) -> list[int]:
    try:
        with os.scandir(node_folder) as entries:
            return sorted(int(entry.name) for entry in entries if _USER.fullmatch(entry.name))
    except FileNotFoundError:
        return []
    except PermissionError:
        return [os.geteuid()]


def _places(fd: int, uid: int) -> list[JournalPlace]:
    try:
        with os.scandir(fd) as entries:
            names = sorted((entry.name, entry.inode()) for entry in islice(entries, JOURNALS_PER_USER_MAX))
    finally:
        os.close(fd)
    ids = ((_journal_id(name), inode) for name, inode in names)
    return [JournalPlace(uid, journal_id, inode) for journal_id, inode in ids if journal_id is not None]


@lru_cache(maxsize=4096)
def _journal_id(name: str) -> bytes | None:
    # Kept: the same names are met each second.
    try:
        journal_id = id_bytes(name)
    except ValueError:
        return None
    return journal_id if id_text(journal_id) == name else None


def _is_plain(status: os.stat_result, uid: int) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == uid


def _is_sound(fd: int, uid: int, folder_fd: int, name: str) -> bool:
    status = os.fstat(fd)
    is_removed = stat.S_ISREG(status.st_mode) and status.st_nlink == 0 and status.st_uid == uid
    return _is_plain(status, uid) or (is_removed and not os.access(name, os.F_OK, dir_fd=folder_fd))


def _open_folder(above_fd: int, name: str, uid: int) -> int:
    """Open a folder of `uid` inside another; takes `above_fd` over."""
    try:
        fd = os.open(name, _FOLDER_FLAGS, dir_fd=above_fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RefusedError(f"folder {name} cannot be opened: {error.strerror}") from error
    finally:
        os.close(above_fd)
    if os.fstat(fd).st_uid != uid:
        os.close(fd)
        raise RefusedError(f"folder {name} does not belong to user {uid}")
    return fd
