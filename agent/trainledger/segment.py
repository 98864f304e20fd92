"""Segment files and the two ways to append to them, with the same bytes.

`MappedSegment` appends by `mmap.write()`: one C call under the interpreter's lock that tests for room, copies
and moves the position, so that no thread and no signal handler can come between. The file is preallocated in
full (a sparse mapping kills the process with SIGBUS when the disk is full) and its last RESERVE_BYTES stay out
of the mapping: they are for the run's lifecycle when the disk has no more room.

`WrittenSegment` appends by `os.write` on O_APPEND, under a lock: for network, FUSE and copy-on-write file
systems and for interpreters without a global lock, where `mmap` is not safe between threads. There a reserve
cannot be preallocated in the same file; a ballast file beside it is given up instead.

Both raise ValueError for "no room here, go to the next segment" and OSError for what the disk says. A sealed
segment refuses every append: whoever still holds it is led to its successor.
"""

import mmap
import os
import struct
import threading
from pathlib import Path
from typing import Protocol

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
        """Give the file its final name; harmless when repeated."""

    def seal(self) -> None:
        """Refuse all later appends."""

    def discard(self) -> None:
        """Remove a file that was never published."""

    def close(self) -> None:
        """Seal, cut the file to what is written, and let go of it."""


class MappedSegment:
    """A preallocated, mapped file."""

    __slots__ = ("_map", "_path", "_reserve", "_reserve_end", "_sealed_from", "number", "write")

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
        self._path = path
        self._reserve: mmap.mmap | None = None
        self._reserve_end = size_bytes
        self._sealed_from = -1
        self.number = number
        self.write = self._map.write

    def publish(self, path: Path) -> None:
        try:
            os.rename(self._path, path)
        except FileNotFoundError:
            # A signal handler that logged in the middle of a rotation has finished it already.
            return
        self._path = path

    def seal(self) -> None:
        if self._map is None or self._sealed_from >= 0:
            return
        # Records that slip in between the two lines are found by walking the heads from here.
        self._sealed_from = self._map.tell()
        self._map.seek(0, os.SEEK_END)

    def write_reserved(self, record: bytes, *, vital: bool) -> bool:
        if self._map is None:
            return False
        if self._reserve is None:
            self.seal()
            reserve = self._open_whole()
            if reserve is None:
                return False
            reserve.seek(self._written_bytes())
            self._reserve = reserve
        room = self._reserve_end - self._reserve.tell() - (0 if vital else VITAL_BYTES)
        if len(record) > room:
            return False
        self._reserve.write(record)
        return True

    def discard(self) -> None:
        self._drop_maps()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._map is None:
            return
        self.seal()
        end = self._written_bytes() if self._reserve is None else self._reserve.tell()
        self._drop_maps()
        try:
            # Safe after unmapping; readers use read calls, never a mapping.
            os.truncate(self._path, end)
        except OSError:
            return  # the agent has taken the file, or the disk refuses: zeros at the end mean the same

    def _open_whole(self) -> mmap.mmap | None:
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None  # unlinked by somebody: nothing can be kept there any more
        try:
            return mmap.mmap(fd, self._reserve_end)
        except (OSError, ValueError):
            return None
        finally:
            os.close(fd)

    def _written_bytes(self) -> int:
        if self._map is None:
            return 0
        position, limit = max(self._sealed_from, 0), len(self._map)
        while position + _HEAD.size <= limit:
            words = _HEAD.unpack_from(self._map, position)[0] & 0xFFFF
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

    __slots__ = ("_ballast", "_fd", "_lock", "_path", "_room_bytes", "number")

    def __init__(self, path: Path, number: int, *, size_bytes: int, ballast: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | _OPEN_FLAGS, 0o600)
        self._path = path
        self._lock = threading.RLock()
        self._room_bytes = size_bytes
        self._ballast = ballast
        self.number = number

    def write(self, record: bytes, /) -> int:
        with self._lock:
            if self._room_bytes < len(record):
                raise ValueError("segment is full")
            return self._write_whole(record)

    def _write_whole(self, record: bytes) -> int:
        written = os.write(self._fd, record)
        if written != len(record):
            # A torn record: readers drop what stands at the end, so nothing may follow it here.
            self._room_bytes = 0
            raise ValueError(f"{written} of {len(record)} bytes were written")
        self._room_bytes -= written
        return written

    def publish(self, path: Path) -> None:
        try:
            os.rename(self._path, path)
        except FileNotFoundError:
            return  # as in MappedSegment
        self._path = path

    def seal(self) -> None:
        with self._lock:
            self._room_bytes = 0

    def write_reserved(self, record: bytes, *, vital: bool) -> bool:
        if self._fd < 0:
            return False
        if vital:
            self._ballast.unlink(missing_ok=True)
        with self._lock:
            try:
                return os.write(self._fd, record) == len(record)
            except OSError:
                return False

    def discard(self) -> None:
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        with self._lock:
            self._room_bytes = 0
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)
