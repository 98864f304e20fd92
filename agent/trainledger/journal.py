"""The writer of one journal: who may write, where the next record goes, and what happens when it cannot.

One process, one run, one journal. Rows come in through `write` (the current segment's own method, swapped at
rotation) and, when that has no room, through `append`. A full disk, the budget or an I/O error never reaches
training: rows are dropped and counted, tried again each second, and the count is written as a GAP record as
soon as there is room. Claims may also use the reserve at the end of the last segment.

A rotation makes the next segment in a file of a name of its own, with all definitions and the record that needed
room, then seals the old segment, renames the file and swaps `write`. Threads wait for it at a lock; a signal
handler that logs cannot wait. Before the file is offered as `_pending` the handler rotates by itself, and the
rotation that it cut into is thrown away and tried anew; after that it finishes what it finds. So at any moment
there is one segment that takes records, and it is visible to readers. KeyboardInterrupt leaves the same states
behind, and the next append clears them up.
"""

import fcntl
import itertools
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainledger_schemas.clock import Clock, read_boot_id, wall_ns
from trainledger_schemas.ids import IdSource, id_text
from trainledger_schemas.journal import (
    CLAIM,
    GAP,
    WRITTEN_BY_WRITE,
    SegmentHeader,
    pack_control,
    segment_name,
)

from .interruption import is_from_handler
from .placement import Placement
from .process_facts import read_process_facts
from .segment import MIN_SEGMENT_BYTES, RESERVE_BYTES, MappedSegment, Segment, WrittenSegment
from .settings import Settings

__all__ = ["JournalWriter", "json_bytes"]

SEGMENT_BYTES = 8 << 20
# Most runs are small; later segments are larger.
FIRST_SEGMENT_BYTES = 1 << 20
RETRY_NS = 1_000_000_000
BUDGET_MIB_WITHOUT_AGENT = 4096
BUDGET_MIB_WITH_AGENT = 256
EXIT_CLAIM = "run_exited"
NEVER_NS = 1 << 62


class JournalWriter:
    """An open journal; see the module. `write` appends one sealed record, or raises ValueError or OSError.

    `dropped_rows` and `dropped_points` are counts since it was opened. `on_trouble` is told why, at each try to
    get room that failed.
    """

    write: Callable[[bytes], int]

    def __init__(
        self, folder: Path, header: SegmentHeader, *, by_write: bool, budget_bytes: int, clock: Clock
    ) -> None:
        self.folder = folder
        self.journal_id = header.journal_id
        self.dropped_rows = 0
        self.dropped_points = 0
        self.on_trouble: Callable[[str], None] | None = None
        self._header = header
        self._by_write = by_write
        self._budget_bytes = budget_bytes
        self._clock = clock
        self._lock = threading.RLock()
        self._definitions: list[bytes] = []
        self._segment: Segment | None = None
        self._pending: _Rotation | None = None
        self._attempts = itertools.count()
        self._next_number = 0
        self._retry_at_ns = 0
        # What the last GAP record does not tell yet.
        self._untold_rows = 0
        self._untold_points = 0
        self.write = _no_segment
        self._lock_fd = -1

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
        journal = cls(folder, header, by_write=place.append_by_write, budget_bytes=budget_bytes, clock=clock)
        folder.mkdir(mode=0o700)
        try:
            journal._lock_fd = _take_lock(folder / "writer.lock")
            journal._pending = journal._prepare(b"")
            journal._finish_rotation()
        except BaseException:
            # Also for KeyboardInterrupt: readers would take an empty folder for a journal that is about to begin.
            journal._let_lock_go()
            _remove_folder(folder)
            raise
        return journal

    def append(self, record: bytes, rows: int, points: int, refusal: Exception | None = None) -> bool:
        """Append where `write` had no room: rotate, or drop and count. True if it is in the file.

        `refusal` is what `write` raised. Raises nothing but what a signal handler of the user's threw.
        """
        if refusal is not None and is_from_handler(refusal):
            raise refusal
        with self._lock:
            while True:
                try:
                    self.write(record)
                    return True
                except Exception as error:  # no room here, or what the disk says: the next segment may do
                    if is_from_handler(error):
                        raise
                try:
                    if self._finish_rotation():
                        continue
                    if self._clock.monotonic_ns() < self._retry_at_ns:
                        return self._drop(rows, points)
                    rotation = self._pending = self._prepare(record)
                    self._finish_rotation()
                    if rotation.is_published:
                        return True
                except (
                    Exception
                ) as error:  # disk, budget, a folder that is gone: never trouble of the training
                    if is_from_handler(error):
                        raise
                    self._give_up(error)
                    return self._drop(rows, points)

    def append_control(self, kind: int, body: bytes, *, step: int = 0, points: int = 1) -> bool:
        """Append a control record that holds `points` points; ValueError for a body over the format's limit."""
        return self.append(pack_control(kind, body, step=step, wall_ns=wall_ns()), 1, points)

    def append_claim(self, claim: Mapping[str, Any]) -> bool:
        """Append a run event; on a full disk it takes the reserve, whose end is kept for how the run ended.

        Raises ValueError for a claim over the format's limit, or one that is no JSON.
        """
        record = pack_control(CLAIM, json_bytes(claim), step=0, wall_ns=wall_ns())
        if self.append(record, 0, 0):
            return True
        segment = self._segment
        return segment is not None and segment.write_reserved(record, vital=claim.get("type") == EXIT_CLAIM)

    def define(self, records: list[bytes]) -> None:
        """Remember definitions for all later segments, then append them to this one."""
        with self._lock:
            # A rotation that this call cut into has a segment without them.
            self._settle()
            # Before they are appended: a rotation in between must not lose them.
            self._definitions.extend(records)
            written = [self.append(record, 0, 0) for record in records]
            if not all(written) and self._segment is not None:
                # A row is shorter than its definition and may still fit where nobody could read it.
                self._segment.seal()

    def close(self) -> None:
        """Cut the last segment to what is written and free the lock. A second call does nothing."""
        with self._lock:
            if self._untold_rows and self._segment is not None:
                self._segment.write_reserved(
                    self._gap_record(self._untold_rows, self._untold_points), vital=True
                )
                self._untold_rows = self._untold_points = 0
            self.write = _no_segment
            self._retry_at_ns = NEVER_NS
            if self._pending is not None:
                self._pending.segment.discard()
                self._pending = None
            segment, self._segment = self._segment, None
            if segment is not None:
                segment.close()
            self._let_lock_go()

    def remove(self) -> None:
        """Close, and take the folder away: a journal that nobody wrote to and nobody needs."""
        self.close()
        _remove_folder(self.folder)

    def forget_inherited(self) -> None:
        """In a forked child: never write to the parent's file. The parent's lock is its own and stays."""
        self.write = _no_segment
        self._retry_at_ns = NEVER_NS
        # Not taken: a thread that is not there any more may hold it.
        self._lock = threading.RLock()
        if self._segment is not None:
            self._segment.forget_inherited()
        self._segment = self._pending = None
        self._let_lock_go()

    def _let_lock_go(self) -> None:
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)

    def _drop(self, rows: int, points: int) -> bool:
        self._untold_rows += rows
        self._untold_points += points
        self.dropped_rows += rows
        self.dropped_points += points
        return False

    def _settle(self) -> None:
        try:
            self._finish_rotation()
        except Exception as error:  # as in append
            if is_from_handler(error):
                raise
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._retry_at_ns = self._clock.monotonic_ns() + RETRY_NS
        rotation, self._pending = self._pending, None
        if rotation is not None:
            rotation.segment.discard()
        if self.on_trouble is not None:
            self.on_trouble(str(error))

    def _prepare(self, record: bytes) -> "_Rotation":
        """The next segment under a name of its own, with all that must be in it before readers see it."""
        self._check_budget()
        number, old, defined = self._next_number, self._segment, len(self._definitions)
        rows, points = self._untold_rows, self._untold_points
        parts = [self._header_of(number), *self._definitions[:defined], record]
        if rows:
            parts.insert(-1, self._gap_record(rows, points))
        content = b"".join(parts)
        size = max(self._segment_bytes(), len(content) + RESERVE_BYTES + MIN_SEGMENT_BYTES)
        path = self.folder / f"{segment_name(number)}.{next(self._attempts)}.new"
        segment = self._open_segment(path, number, size)
        try:
            # The record too: other threads could fill the segment before it.
            segment.write(content)
        except BaseException:
            segment.discard()
            raise
        return _Rotation(segment, path, old, defined=defined, rows=rows, points=points)

    def _finish_rotation(self) -> bool:
        """Publish the pending segment, or throw it away if the journal went on without it; False if there is none.

        May be cut off at any place and called again, also by whoever cut it off.
        """
        rotation = self._pending
        if rotation is None:
            return False
        old = rotation.old
        is_current = self._segment is old and len(self._definitions) == rotation.defined
        if not is_current and os.path.lexists(rotation.path):
            self._pending = None
            rotation.segment.discard()
            return True
        if old is not None:
            # Readers take the old segment as complete once the new one is there: seal it first.
            old.seal()
        rotation.segment.publish(self.folder / segment_name(rotation.segment.number))
        rotation.is_published = True
        if self._segment is old:
            # No call between these lines, so that no signal handler and no thread comes between them.
            self._untold_rows -= rotation.rows
            self._untold_points -= rotation.points
            self._next_number = rotation.segment.number + 1
            self._segment = rotation.segment
            self.write = rotation.segment.write
        if self._pending is rotation:
            self._pending = None
        if old is not None:
            old.close()
        return True

    def _open_segment(self, path: Path, number: int, size: int) -> Segment:
        if self._by_write:
            return WrittenSegment(path, number, size_bytes=size, ballast=self.folder / "ballast")
        return MappedSegment(path, number, size_bytes=size)

    def _header_of(self, number: int) -> bytes:
        clock = self._clock
        return self._header._replace(segment=number, wall_ns=clock.wall_ns(), boot_ns=clock.boot_ns()).pack()

    def _segment_bytes(self) -> int:
        stats = os.statvfs(self.folder)
        room = stats.f_bavail * stats.f_frsize
        if stats.f_blocks and room <= 16 * SEGMENT_BYTES:
            return MIN_SEGMENT_BYTES  # on a nearly full disk a small segment is better than none
        return SEGMENT_BYTES if self._next_number else FIRST_SEGMENT_BYTES

    def _check_budget(self) -> None:
        used = 0
        for name in os.listdir(self.folder):
            try:
                used += os.lstat(self.folder / name).st_size
            except FileNotFoundError:
                continue  # the agent has just taken it
        if used > self._budget_bytes:
            raise ValueError(
                f"{used >> 20} MiB are unread, over the budget of {self._budget_bytes >> 20} MiB "
                "(TRAINLEDGER_BUDGET_MIB); start an agent, or run `trainledger sync`"
            )

    def _gap_record(self, rows: int, points: int) -> bytes:
        gap = {"rows": rows, "points": points, "reason": "no room on the disk or in the budget"}
        return pack_control(GAP, json.dumps(gap).encode(), step=0, wall_ns=wall_ns())


class _Rotation:
    """A segment that is ready, and the state of the journal that it was made for."""

    __slots__ = ("defined", "is_published", "old", "path", "points", "rows", "segment")

    def __init__(
        self, segment: Segment, path: Path, old: Segment | None, *, defined: int, rows: int, points: int
    ) -> None:
        self.segment = segment
        self.path = path
        self.old = old
        self.defined = defined
        self.rows = rows
        self.points = points
        self.is_published = False


def json_bytes(value: Any) -> bytes:
    """JSON in UTF-8, lone surrogates escaped; raises ValueError or TypeError for what JSON cannot hold."""
    # Text as it is takes a third of the room of escapes. Inside JSON text an escaped surrogate is legal.
    return json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _take_lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def _remove_folder(folder: Path) -> None:
    try:
        for name in os.listdir(folder):
            os.unlink(folder / name)
        os.rmdir(folder)
    except OSError:
        return  # what cannot be removed will look like a journal without records


def _no_segment(_: bytes) -> int:
    raise ValueError("no segment is open")
