"""All journals of a node folder into the spool: found, read, spooled, and removed when that is safe.

One pass: for each journal ask whether its writer lives, read what is new, append the events; then fsync the
spool, then save the cursors if that is due, then remove segments that lie wholly below them. A writer that is
dead and whose journal is read to its end gets a `writer_gone`, and its folder goes once that is on disk. The
order is what makes a crash at any point harmless: what was spooled but not noted is read again and trimmed by
the spool's own journal ends; nothing is removed that is not on disk in the spool.

A journal whose folder somebody else removes is read on as far as it was held open, and its writer is followed by its
process; then its end is told with evidence `journal_removed`.

Limits: a pass reads at most `journal_bytes_max` of one journal in a round and `pass_bytes_max` in all, so
that one busy writer cannot starve the rest; a drain goes round until each journal had nothing more once, at
most `drain_s_max`.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from trainledger_schemas.clock import Clock
from trainledger_schemas.events import TOPIC_LOGS, TOPIC_METRICS, TOPIC_RUNS
from trainledger_schemas.journal import SegmentHeader
from trainledger_schemas.journal_readers import note_reader
from trainledger_schemas.positions import JournalRange, split_position

from .collect_report import CollectReport
from .collector_settings import CollectorSettings
from .container_images import ContainerImages
from .cursor import JournalCursor, JournalCursors
from .identity import NodeIdentity
from .journal_folder import JournalFolder, JournalPlace, RefusedError, find_journals
from .journal_reader import Chunk, JournalReader
from .open_journals import OpenJournals
from .removed_journals import (
    EVIDENCE_REMOVED,
    is_alive,
    live_writer_of,
    process_of,
    removed_folder,
    removed_journals,
)
from .spool import Spool
from .translate import NewEvent, translate
from .writer_state import LiveWriter, WriterState, live_writer, probe_writer, seen_fields

__all__ = ["CollectReport", "Collector", "CollectorSettings", "LiveWriter"]

JOURNAL_TOPICS = (TOPIC_RUNS, TOPIC_METRICS, TOPIC_LOGS)


@dataclass(slots=True)
class _Pass:
    """The state of one call of collect()."""

    report: CollectReport = field(default_factory=CollectReport)
    live: dict[bytes, LiveWriter] = field(default_factory=dict)
    visited: set[bytes] = field(default_factory=set)
    settled: set[bytes] = field(default_factory=set)


class Collector:
    """Reads one node folder into one spool, whose `cursors` it may share. The caller holds the folder's reader lock."""

    def __init__(
        self,
        node_folder: Path,
        spool: Spool,
        *,
        clock: Clock,
        settings: CollectorSettings,
        identity: NodeIdentity,
        cursors: JournalCursors | None = None,
    ) -> None:
        self.node_folder = node_folder.resolve()
        self._spool = spool
        self._clock = clock
        self._settings = settings
        self._identity = identity
        self._images = ContainerImages(clock, settings.container_sockets, cri_sockets=settings.cri_sockets)
        self._cursors = cursors or JournalCursors(spool.folder)
        self._folders = OpenJournals(self.node_folder, held_max=settings.held_max)
        self._readers: OrderedDict[bytes, JournalReader] = OrderedDict()
        self._live: dict[bytes, LiveWriter] = {}
        self._segments_from: dict[bytes, int] = {}
        self._stuck: set[bytes] = set()
        self._told_removed: set[bytes] = set()
        self._last_visited = b""
        if self._cursors.is_whole:
            for journal_id in spool.journals() - set(self._cursors.entries):
                spool.forget_journal(journal_id)

    def collect(self, *, drain: bool = False) -> CollectReport:
        """One pass over all journals; with `drain`, until everything written before the call is spooled.

        Blocks on the disk. Raises what Spool.append raises; a repeat goes on where it stopped.
        """
        give_up_ns = self._clock.monotonic_ns() + round(self._settings.drain_s_max * 1e9)
        current = _Pass()
        while True:
            current.report.complete = True
            found = self._round(current)
            self._spool.sync()
            if drain or any(self._is_removable(place.journal_id) for place in found):
                self._cursors.save()
            else:
                self._cursors.save_due(self._clock.monotonic_ns())
            self._remove_read(found)
            if current.report.complete or not drain or self._clock.monotonic_ns() >= give_up_ns:
                break
        # A journal whose turn did not come lives on as it was.
        kept = {journal: writer for journal, writer in self._live.items() if journal not in current.visited}
        self._live = kept | current.live
        current.report.journals_live = len(self._live)
        return current.report

    def live_writers(self) -> list[LiveWriter]:
        """The writers that lived in the last pass."""
        return list(self._live.values())

    def close(self) -> None:
        """Make what was collected durable; the folder and the spool stay their owners'. A repeat is harmless."""
        self._folders.close()
        self._spool.sync()
        self._cursors.save()

    def _round(self, current: _Pass) -> list[JournalPlace]:
        """Give each journal its turn; the journals that were found."""
        found, current.report.refused = find_journals(self.node_folder)
        held = self._folders.removed(set(found))
        self._folders.keep_only({*found, *held})
        self._register(found)
        self._follow_removed(found, held, current)
        left = self._settings.pass_bytes_max
        for place in self._in_turn([*found, *held]):
            journal_id = place.journal_id
            if journal_id in current.settled or journal_id in self._stuck:
                continue
            if left <= 0:
                current.report.complete = False
                break
            self._last_visited = journal_id
            current.visited.add(journal_id)
            taken = 0
            try:
                with self._folders.use(place) as folder:
                    taken = self._visit(folder, current)
                    left -= taken
                    if journal_id in current.live:
                        self._folders.keep(place, folder)
            except FileNotFoundError:
                continue  # removed since it was listed
            except RefusedError:
                current.report.refused += 1
            # What is left in a removed folder can be read only for as long as it is held.
            is_needed = taken and place in held and not self._cursors.entries[journal_id].finished
            if journal_id not in current.live and not is_needed:
                self._folders.let_go(place)
        return found

    def _follow_removed(self, found: list[JournalPlace], held: list[JournalPlace], current: _Pass) -> None:
        """Note folders that are missing, and ask for the processes of those of which nothing is held."""
        listed = {place.journal_id for place in found}
        readable = {place.journal_id for place in held}
        for journal_id, process in removed_journals(self._cursors.entries, self.node_folder, listed):
            if journal_id not in self._told_removed:
                self._told_removed.add(journal_id)
                current.report.removed.append(removed_folder(self.node_folder, process.uid, journal_id))
            if journal_id in readable:
                continue
            current.visited.add(journal_id)
            if is_alive(process):
                current.live[journal_id] = self._live.get(journal_id) or live_writer_of(journal_id, process)
            else:
                current.live.pop(journal_id, None)
                self._append_gone(process.run_id, journal_id, EVIDENCE_REMOVED)
                current.report.journals_gone += 1

    def _register(self, found: Iterable[JournalPlace]) -> None:
        """Note journals that are new, durably, before anything of them is spooled (see `cursor`)."""
        entries = self._cursors.entries
        new = [place.journal_id for place in found if place.journal_id not in entries]
        if new:
            note_reader(self.node_folder, self._identity.producer_id)
            for journal_id in new:
                entries[journal_id] = JournalCursor(str(self.node_folder))
            # A pass that failed may have left positions that are spooled and not on disk.
            self._spool.sync()
            self._cursors.save()

    def _in_turn(self, found: list[JournalPlace]) -> list[JournalPlace]:
        """The journals, beginning behind the one that was visited last: a pass may end in the middle."""
        places = [n for n, place in enumerate(found) if place.journal_id == self._last_visited]
        first = places[0] + 1 if places else 0
        return found[first:] + found[:first]

    def _visit(self, folder: JournalFolder, current: _Pass) -> int:
        """Read one journal for its turn; how many bytes it took."""
        cursor = self._cursors.entries[folder.journal_id]
        if cursor.finished:
            return 0  # its folder is removed at the end of the pass
        header = self._header_of(folder, split_position(cursor.position)[0])
        if header is None:
            self._leave_headless(folder, current)
            return 0
        state = probe_writer(folder, header, boot_id=self._identity.boot_id)
        writer = live_writer(folder, header, state, self._live.get(folder.journal_id))
        if not cursor.seen:
            self._append_seen(header, writer, state)
            cursor.seen = True
            cursor.process = process_of(writer)
        if state.alive:
            current.live[folder.journal_id] = writer
        reader = self._reader(folder.journal_id, cursor)
        taken = self._read(folder, reader, cursor, state=state, report=current.report)
        if reader.is_done and not cursor.finished:
            evidence = EVIDENCE_REMOVED if folder.journal_id in self._told_removed else state.evidence
            self._append_gone(header.run_id, folder.journal_id, evidence)
            current.report.journals_gone += 1
            current.live.pop(folder.journal_id, None)
        if taken < self._settings.journal_bytes_max:
            current.settled.add(folder.journal_id)
        else:
            current.report.complete = False
        return taken

    def _header_of(self, folder: JournalFolder, number_first: int) -> SegmentHeader | None:
        """The header of this segment, else of the first one that can be read; None if there is none."""
        for number in self._candidates(folder, number_first):
            try:
                segment = folder.open_segment(number)
            except (FileNotFoundError, RefusedError):
                continue
            return segment.header
        return None

    def _candidates(self, folder: JournalFolder, number_first: int) -> Iterator[int]:
        yield number_first
        yield from folder.segments()

    def _reader(self, journal_id: bytes, cursor: JournalCursor) -> JournalReader:
        reader = self._readers.pop(journal_id, None)
        if reader is None:
            reader = JournalReader(journal_id, cursor.position)
        self._readers[journal_id] = reader
        while len(self._readers) > self._settings.readers_max:
            self._readers.popitem(last=False)  # it is made again from the cursor when its turn comes
        return reader

    def _read(
        self,
        folder: JournalFolder,
        reader: JournalReader,
        cursor: JournalCursor,
        *,
        state: WriterState,
        report: CollectReport,
    ) -> int:
        taken, torn = 0, reader.torn
        try:
            while taken < self._settings.journal_bytes_max:
                chunk = reader.read(folder, is_dead=not state.alive)
                if chunk is None:
                    break
                self._spool_chunk(chunk, cursor, report)
                cursor.position = chunk.end
                taken += _size_bytes(chunk)
                if state.alive and reader.has_read_all(folder):
                    break
        except BaseException:
            # The reader is ahead of what is spooled: the next try begins with one made from the cursor.
            self._readers.pop(folder.journal_id, None)
            raise
        cursor.position = reader.position
        report.journals_read += bool(taken)
        report.bytes += taken
        report.torn += reader.torn - torn
        return taken

    def _spool_chunk(self, chunk: Chunk, cursor: JournalCursor, report: CollectReport) -> None:
        journal_id = chunk.header.journal_id
        ends = {topic: self._spool.journal_end(topic, journal_id) for topic in JOURNAL_TOPICS}
        translation = translate(chunk, ends)
        cursor.exit_seen |= translation.exit_seen
        with self._spool.batch() if len(translation.events) > 1 else nullcontext():
            for event in translation.events:
                self._append(event, journal_id, chunk.header.run_id)
                report.events += 1
                report.points += event.points
        report.claims_dropped += translation.claims_dropped
        report.lost += translation.lost

    def _append(self, event: NewEvent, journal_id: bytes, run_id: bytes) -> None:
        prev_end = self._spool.journal_end(event.topic, journal_id)
        source = JournalRange(journal_id, prev_end, event.start, event.end)
        if event.topic == TOPIC_METRICS:
            self._spool.append_metrics(event.fields, key=run_id, source=source)
        else:
            self._spool.append(event.type_name, event.fields, key=run_id, source=source)

    def _append_seen(self, header: SegmentHeader, writer: LiveWriter, state: WriterState) -> None:
        at_us = self._clock.wall_ns() // 1000
        fields = seen_fields(header, writer, state, at_us=at_us, images=self._images)
        self._spool.append("writer_seen", fields, key=header.run_id)

    def _append_gone(self, run_id: bytes, journal_id: bytes, evidence: str) -> None:
        cursor = self._cursors.entries[journal_id]
        fields = {
            "run_id": run_id,
            "writer_id": journal_id,
            "at_us": self._clock.wall_ns() // 1000,
            "evidence": evidence,
            "exit_seen": cursor.exit_seen,
        }
        self._spool.append("writer_gone", fields, key=run_id)
        cursor.finished = True

    def _leave_headless(self, folder: JournalFolder, current: _Pass) -> None:
        if folder.segments():
            current.report.refused += 1  # no header that checks: nobody can say whose data it is
            return
        # A process died between making its folder and its first segment, or is doing it right now.
        age_ns = self._clock.wall_ns() - folder.changed_ns()
        if age_ns > self._settings.empty_age_s_max * 1e9 and folder.remove()[0]:
            self._forget(folder.journal_id)

    def _remove_read(self, found: list[JournalPlace]) -> None:
        """Remove what is on disk in the spool and below the saved cursors."""
        is_changed = False
        for place in found:
            journal_id = place.journal_id
            if not self._is_removable(journal_id):
                continue
            cursor = self._cursors.entries[journal_id]
            try:
                with self._folders.use(place) as folder:
                    if cursor.finished:
                        is_changed |= self._remove_finished(folder)
                    else:
                        self._remove_segments(folder, cursor)
            except (FileNotFoundError, RefusedError):
                continue  # gone, or counted when it was visited
        if self._forget_removed({place.journal_id for place in found}) or is_changed:
            self._cursors.save()

    def _is_removable(self, journal_id: bytes) -> bool:
        cursor = self._cursors.entries.get(journal_id)
        if cursor is None or journal_id in self._stuck:
            return False
        return cursor.finished or self._segments_from.get(journal_id, 0) < split_position(cursor.position)[0]

    def _remove_finished(self, folder: JournalFolder) -> bool:
        is_gone, removed = folder.remove()
        if is_gone:
            self._forget(folder.journal_id)
        elif not removed:
            self._stuck.add(folder.journal_id)  # something in it cannot be removed: not tried again
        return is_gone

    def _remove_segments(self, folder: JournalFolder, cursor: JournalCursor) -> None:
        below, _ = split_position(cursor.position)
        if folder.journal_id not in self._segments_from:
            numbers = folder.segments()
            self._segments_from[folder.journal_id] = numbers[0] if numbers else below
        for number in range(self._segments_from[folder.journal_id], below):
            folder.remove_segment(number)
        self._segments_from[folder.journal_id] = max(below, self._segments_from[folder.journal_id])

    def _forget_removed(self, found: set[bytes]) -> bool:
        """Drop the cursors of journals of this folder that are gone, and of which nothing is left to say."""
        gone = [
            journal_id
            for journal_id, cursor in self._cursors.entries.items()
            if (cursor.finished or not cursor.seen)
            and cursor.folder == str(self.node_folder)
            and journal_id not in found
        ]
        for journal_id in gone:
            self._forget(journal_id)
        return bool(gone)

    def _forget(self, journal_id: bytes) -> None:
        self._cursors.entries.pop(journal_id, None)
        self._readers.pop(journal_id, None)
        self._segments_from.pop(journal_id, None)
        self._told_removed.discard(journal_id)
        self._spool.forget_journal(journal_id)


def _size_bytes(chunk: Chunk) -> int:
    first, start = split_position(chunk.start)
    last, end = split_position(chunk.end)
    return end - start if first == last else end
