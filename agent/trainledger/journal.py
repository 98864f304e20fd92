"""The writer of one journal: who may write, where the next record goes, and what happens when it cannot.

One process, one run, one journal. Rows come in through `write` (the current segment's own method, swapped at
rotation) and, when that has no room, through `append`. A full disk, the budget or an I/O error never reaches
training: rows are dropped and counted, tried again each second, and the count is written as a GAP record as
soon as there is room. Claims may also use the reserve at the end of the last segment.
"""

import fcntl
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainledger_schemas.clock import Clock, read_boot_id, wall_ns
from trainledger_schemas.ids import IdSource, id_text
from trainledger_schemas.journal import (
    CLAIM,
    GAP,
    HEADER_BYTES,
    WRITTEN_BY_WRITE,
    SegmentHeader,
    pack_control,
    segment_name,
)

from .placement import Placement
from .process_facts import read_process_facts
from .segment import MIN_SEGMENT_BYTES, RESERVE_BYTES, MappedSegment, Segment, WrittenSegment
from .settings import Settings

__all__ = ["JournalWriter"]

SEGMENT_BYTES = 8 << 20
# posix_fallocate zeroes memory on tmpfs: 0.2 ms a MiB.
TMPFS_SEGMENT_BYTES = 1 << 20
RETRY_NS = 1_000_000_000
BUDGET_MIB_WITHOUT_AGENT = 4096
BUDGET_MIB_WITH_AGENT = 256
EXIT_CLAIM = "run_exited"


class JournalWriter:
    """An open journal; see the module. `write` appends one sealed record, or raises ValueError or OSError."""

    write: Callable[[bytes], int]

    def __init__(
        self, folder: Path, header: SegmentHeader, *, by_write: bool, budget_bytes: int, clock: Clock
    ) -> None:
        self.folder = folder
        self.journal_id = header.journal_id
        self.pid = os.getpid()
        self._header = header
        self._by_write = by_write
        self._budget_bytes = budget_bytes
        self._clock = clock
        self._lock = threading.RLock()
        self._definitions: list[bytes] = []
        self._segment: Segment | None = None
        self._next_number = 0
        self._retry_at_ns = 0
        self._dropped_rows = 0
        self._dropped_points = 0
        self._rotating = False
        self._lock_fd = _take_lock(folder / "writer.lock")
        self.write = _no_segment

    @classmethod
    def create(
        cls,
        place: Placement,
        *,
        run_id: bytes,
        parent_journal: bytes = bytes(16),
        settings: Settings,
        ids: IdSource,
        clock: Clock,
    ) -> "JournalWriter":
        """Make the folder and the first segment in `place.folder`; raises OSError when that cannot be done."""
        if place.folder is None:
            raise FileNotFoundError("no folder for journals: " + "; ".join(place.reasons))
        journal_id = ids()
        facts = read_process_facts()
        header = SegmentHeader(
            segment=0,
            journal_id=journal_id,
            run_id=run_id,
            parent_journal=parent_journal,
            boot_id=read_boot_id(),
            pid=facts.pid,
            uid=facts.uid,
            start_ticks=facts.start_ticks,
            wall_ns=clock.wall_ns(),
            boot_ns=clock.boot_ns(),
            pid_namespace=facts.pid_namespace,
            flags=WRITTEN_BY_WRITE if place.append_by_write else 0,
        )
        default_mib = BUDGET_MIB_WITH_AGENT if place.reader is not None else BUDGET_MIB_WITHOUT_AGENT
        budget_bytes = (settings.budget_mib or default_mib) << 20
        folder = place.folder / id_text(journal_id)
        folder.mkdir(mode=0o700)
        journal = cls(folder, header, by_write=place.append_by_write, budget_bytes=budget_bytes, clock=clock)
        journal._rotate(b"")
        return journal

    def append(self, record: bytes, rows: int, points: int) -> bool:
        """Append where `write` had no room: rotate, or drop and count. Never raises; True if it is in the file."""
        with self._lock:
            try:
                self.write(record)
                return True
            except ValueError:
                pass  # no room in this segment
            except OSError:
                pass  # counted below if the next segment fails too
            if self._rotating and self._segment is not None:
                # A signal handler logs in the middle of a rotation: the reserve of the old segment takes it.
                return self._segment.write_reserved(record, vital=False) or self._drop(rows, points)
            now_ns = self._clock.monotonic_ns()
            if now_ns >= self._retry_at_ns:
                self._rotating = True
                try:
                    self._rotate(record)
                    return True
                except (OSError, ValueError):
                    self._retry_at_ns = now_ns + RETRY_NS
                finally:
                    self._rotating = False
            return self._drop(rows, points)

    def append_control(self, kind: int, body: bytes, *, step: int = 0) -> bool:
        """Append a control record; raises ValueError for a body over the format's limit."""
        return self.append(pack_control(kind, body, step=step, wall_ns=wall_ns()), 1, 1)

    def append_claim(self, claim: Mapping[str, Any]) -> bool:
        """Append a run event; on a full disk it takes the reserve, whose end is kept for how the run ended."""
        body = json.dumps(claim, allow_nan=False).encode()
        record = pack_control(CLAIM, body, step=0, wall_ns=wall_ns())
        if self.append(record, 0, 0):
            return True
        segment = self._segment
        return segment is not None and segment.write_reserved(record, vital=claim.get("type") == EXIT_CLAIM)

    def define(self, records: list[bytes]) -> None:
        """Remember definitions for all later segments, then append them to this one."""
        with self._lock:
            # Before they are appended: a rotation in between must not lose them.
            self._definitions.extend(records)
            for record in records:
                self.append(record, 0, 0)

    def close(self) -> None:
        """Cut the last segment to what is written and free the lock. A second call does nothing."""
        with self._lock:
            if self._dropped_rows and self._segment is not None:
                self._segment.write_reserved(self._gap_record(), vital=True)
            self.write = _no_segment
            self._retry_at_ns = 1 << 62
            if self._segment is not None:
                self._segment.close()
                self._segment = None
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
                self._lock_fd = -1

    def forget_inherited(self) -> None:
        """In a forked child: never write to the parent's file. The parent's lock is its own and stays."""
        self.write = _no_segment
        self._segment = None
        self._retry_at_ns = 1 << 62
        self._lock = threading.RLock()
        self._lock_fd = -1

    def _drop(self, rows: int, points: int) -> bool:
        self._dropped_rows += rows
        self._dropped_points += points
        return False

    def _rotate(self, record: bytes) -> None:
        self._check_budget()
        number = self._next_number
        new = self.folder / (segment_name(number) + ".new")
        head = self._header_of(number) + b"".join(self._definitions)
        size = max(
            self._segment_bytes(), HEADER_BYTES + len(head) + len(record) + RESERVE_BYTES + MIN_SEGMENT_BYTES
        )
        new.unlink(missing_ok=True)
        segment = self._open_segment(new, number, size)
        try:
            segment.write(head)
            if self._dropped_rows:
                segment.write(self._gap_record())
            if record:
                # Into the file before other threads can fill it.
                segment.write(record)
            if self._segment is not None:
                # Readers take the old segment as complete once the new one is there: seal it first.
                self._segment.seal()
            segment.publish(self.folder / segment_name(number))
        except BaseException:
            segment.discard()
            raise
        old = self._segment
        self._segment, self.write = segment, segment.write
        self._next_number = number + 1
        self._dropped_rows = self._dropped_points = 0
        if old is not None:
            old.close()

    def _open_segment(self, path: Path, number: int, size: int) -> Segment:
        if self._by_write:
            return WrittenSegment(path, number, size_bytes=size, ballast=self.folder / "ballast")
        return MappedSegment(path, number, size_bytes=size)

    def _header_of(self, number: int) -> bytes:
        clock = self._clock
        return replace(self._header, segment=number, wall_ns=clock.wall_ns(), boot_ns=clock.boot_ns()).pack()

    def _segment_bytes(self) -> int:
        if self._next_number == 0:
            return TMPFS_SEGMENT_BYTES  # most runs are small; later segments are larger
        stats = os.statvfs(self.folder)
        room = stats.f_bavail * stats.f_frsize
        # On a nearly full disk a small segment is better than none.
        return SEGMENT_BYTES if room > 16 * SEGMENT_BYTES else MIN_SEGMENT_BYTES

    def _check_budget(self) -> None:
        used = sum(entry.stat().st_size for entry in os.scandir(self.folder))
        if used > self._budget_bytes:
            raise ValueError(f"{used} bytes are unread, over the budget of {self._budget_bytes}")

    def _gap_record(self) -> bytes:
        gap = {
            "rows": self._dropped_rows,
            "points": self._dropped_points,
            "reason": "no room on the disk or in the budget",
        }
        return pack_control(GAP, json.dumps(gap).encode(), step=0, wall_ns=wall_ns())


def _take_lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def _no_segment(_: bytes) -> int:
    raise ValueError("no segment is open")
