"""Segment files and the two ways to append to them, with the same bytes.

`MappedSegment` appends by `mmap.write()`: one C call under the interpreter's lock that tests for room, copies
and moves the position, so that no thread and no signal handler can come between. The file is preallocated in
full (a sparse mapping kills the process with SIGBUS when the disk is full) and its last RESERVE_BYTES stay out
of the mapping: they are for the run's lifecycle when the disk has no more room.

`WrittenSegment` appends by `os.write` on O_APPEND, under a lock: for network, FUSE and copy-on-write file
systems and for interpreters without a global lock, where `mmap` is not safe between threads. There a reserve
cannot be preallocated in the same file; a ballast file beside it is given up instead.

Both raise ValueError for "no room here, go to the next segment" and OSError for what the disk says. A sealed
segment refuses every append: whoever still holds it is led to its successor. Every step may be cut by a signal
handler that logs, or by KeyboardInterrupt, and may then be repeated: `publish`, `seal` and `close` do no harm
the second time.
"""

import mmap
import os
import struct
import threading
from pathlib import Path
from typing import Protocol

from .interruption import is_from_handler

__all__ = ["MIN_SEGMENT_BYTES", "RESERVE_BYTES", "MappedSegment", "Segment", "WrittenSegment"]

RESERVE_BYTES = 64 << 10
# The last part of the reserve is kept for the record that says how the run ended.
VITAL_BYTES = 16 << 10
MIN_SEGMENT_BYTES = 256 << 10

_OPEN_FLAGS = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_HEAD = struct.Struct("<I")


class Segment(Protocol):
    """A file that takes whole records; see the module."""

    number: int

    def write(self, record: bytes, /) -> int:
        """Append; ValueError when there is no room."""

    def write_reserved(self, record: bytes, *, vital: bool) -> bool:
        """Append to the reserve of a sealed segment; False when it is used up."""

    def publish(self, path: Path) -> None:
        """Give the file its final name; harmless when repeated. OSError when that cannot be done."""

    def seal(self) -> None:
        """Refuse all later appends."""

    def discard(self) -> None:
        """Remove a file that was never published."""

    def close(self) -> None:
        """Seal, cut the file to what is written, and let go of it."""

    def forget_inherited(self) -> None:
        """In a forked child: let go of the file and leave it as it is; takes no lock."""


class MappedSegment:
    """A preallocated, mapped file."""

    __slots__ = ("_map", "_new_path", "_path", "_reserve", "_reserve_end", "_sealed_from", "number", "write")

    def __init__(self, path: Path, number: int, *, size_bytes: int) -> None:
        fd = os.open(path, os.O_RDWR | _OPEN_FLAGS, 0o600)
        try:
            os.posix_fallocate(fd, 0, size_bytes)
            self._map: mmap.mmap | None = mmap.mmap(fd, size_bytes - RESERVE_BYTES)
        except BaseException:
            # Also for KeyboardInterrupt: a half-made file must not stay.
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        # Without it the first touch reads ahead as far as the disk is set to: milliseconds.
        self._map.madvise(mmap.MADV_RANDOM)
        self._path = self._new_path = path
        self._reserve: mmap.mmap | None = None
        self._reserve_end = size_bytes
        self._sealed_from = -1
        self.number = number
        self.write = self._map.write

    def publish(self, path: Path) -> None:
        _rename(self._path, path)
        self._path = path

    def seal(self) -> None:
        mapping = self._map
        if mapping is None:
            return
        try:
            if self._sealed_from < 0:
                # Records that slip in before the seek are found by walking the heads from here.
                self._sealed_from = mapping.tell()
            # Also when it is sealed already: who did so may have been cut off just before this line.
            mapping.seek(0, os.SEEK_END)
        except ValueError:
            if not mapping.closed:
                raise
            return  # a signal handler in between has closed it

    def write_reserved(self, record: bytes, *, vital: bool) -> bool:
        mapping = self._map
        if mapping is None:
            return False
        if self._reserve is None:
            self.seal()
            reserve = self._open_whole()
            if reserve is None:
                return False
            reserve.seek(self._written_bytes(mapping))
            if self._reserve is None:  # else a signal handler was here first, and wrote
                self._reserve = reserve
        room = self._reserve_end - self._reserve.tell() - (0 if vital else VITAL_BYTES)
        if len(record) > room:
            return False
        self._reserve.write(record)
        return True

    def discard(self) -> None:
        self._drop_maps()
        # Never the published name: readers may have been there.
        self._new_path.unlink(missing_ok=True)

    def close(self) -> None:
        mapping = self._map
        if mapping is None:
            return
        self.seal()
        try:
            end = self._written_bytes(mapping) if self._reserve is None else self._reserve.tell()
        except ValueError:
            if not mapping.closed:
                raise
            return  # as in seal
        self._drop_maps()
        try:
            # Safe after unmapping; readers use read calls, never a mapping.
            os.truncate(self._path, end)
        except OSError as error:
            if is_from_handler(error):
                raise
            return  # the agent has taken the file, or the disk refuses: zeros at the end mean the same

    def forget_inherited(self) -> None:
        self._drop_maps()

    def _open_whole(self) -> mmap.mmap | None:
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            if is_from_handler(error):
                raise
            return None  # unlinked by somebody: nothing can be kept there any more
        try:
            return mmap.mmap(fd, self._reserve_end)
        except (OSError, ValueError) as error:
            if is_from_handler(error):
                raise
            return None
        finally:
            os.close(fd)

    def _written_bytes(self, mapping: mmap.mmap) -> int:
        position, limit = max(self._sealed_from, 0), len(mapping)
        while position + _HEAD.size <= limit:
            words = _HEAD.unpack_from(mapping, position)[0] & 0xFFFF
            if not words:
                break
            position += words * 4
        return position

    def _drop_maps(self) -> None:
        # Closing under the interpreter's lock: a thread that comes late gets ValueError, never a dead mapping.
        mapping, self._map = self._map, None
        if mapping is not None:
            mapping.close()
        if self._reserve is not None:
            self._reserve.close()
            self._reserve = None


class WrittenSegment:
    """A file that grows by write calls; one lock, because a write gives the interpreter's lock away."""

    __slots__ = ("_ballast", "_fd", "_lock", "_new_path", "_path", "_room_bytes", "number")

    def __init__(self, path: Path, number: int, *, size_bytes: int, ballast: Path) -> None:
        _make_ballast(ballast)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | _OPEN_FLAGS, 0o600)
        self._path = self._new_path = path
        self._lock = threading.RLock()
        self._room_bytes = size_bytes - RESERVE_BYTES
        self._ballast = ballast
        self.number = number

    def write(self, record: bytes, /) -> int:
        with self._lock:
            if self._room_bytes < len(record):
                raise ValueError("segment is full")
            return self._write_whole(record)

    def _write_whole(self, record: bytes) -> int:
        try:
            written = os.write(self._fd, record)
        except BaseException:
            # A full disk, or an exception of a signal handler just behind the call: what is in the file is not
            # known. A torn record may only stand at the end, so nothing may follow it here.
            self._room_bytes = 0
            raise
        if written != len(record):
            self._room_bytes = 0
            raise ValueError(f"{written} of {len(record)} bytes were written")
        self._room_bytes -= written
        return written

    def publish(self, path: Path) -> None:
        _rename(self._path, path)
        self._path = path

    def seal(self) -> None:
        with self._lock:
            self._room_bytes = 0

    def write_reserved(self, record: bytes, *, vital: bool) -> bool:
        if self._fd < 0:
            return False
        with self._lock:
            self._room_bytes = 0
            try:
                if vital:
                    self._ballast.unlink(missing_ok=True)
                return os.write(self._fd, record) == len(record)
            except OSError as error:
                if is_from_handler(error):
                    raise
                return False

    def discard(self) -> None:
        self.close()
        self._new_path.unlink(missing_ok=True)

    def close(self) -> None:
        with self._lock:
            self._room_bytes = 0
            self.forget_inherited()

    def forget_inherited(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _rename(new: Path, final: Path) -> None:
    try:
        os.rename(new, final)
    except FileNotFoundError:
        # A signal handler that logged in the middle of a rotation has finished it; else the folder is gone.
        if not os.path.lexists(final):
            raise


def _make_ballast(path: Path) -> None:
    """Occupy RESERVE_BYTES of the disk, so that the end of the run can be written when it is full."""
    try:
        fd = os.open(path, os.O_WRONLY | _OPEN_FLAGS, 0o600)
    except FileExistsError:
        return
    try:
        # Random: file systems that compress, which this way of appending is for, would keep nothing for zeros.
        os.write(fd, os.urandom(RESERVE_BYTES))
    finally:
        os.close(fd)
