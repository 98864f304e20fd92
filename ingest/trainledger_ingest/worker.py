"""The worker: reads an event log and brings each event into the tables exactly once.

Guarantees: what `on_batch` was told is in the tables; whatever is killed at whatever moment, the next worker
goes on without losing or doubling a row, if the log, the intents and the tables survive. Any number of workers
may share a Kafka group; a spool has one, under the home folder's lock.

A store or broker that cannot be reached is tried again for ever, with growing waits, while the partitions are
paused and group membership is kept. A poison record where nothing may be missing stops its partition alone
(`stopped`); the others go on. Everything else that would lose or double something is raised.
"""

import logging
from collections.abc import Callable, Mapping
from threading import Event as StopEvent

from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import RetryableError, SettingsError
from trainledger_schemas.events import TOPIC_ADMIN
from trainledger_schemas.positions import TopicPartition

from .batch import BatchLimits
from .dead_letters import PoisonError
from .dirty import Dirty
from .ingest_settings import WorkerSettings
from .insert import BatchWriter
from .intents import FileIntents, IntentLog, SourceIntents
from .ledger import Ledger
from .partition_reader import PartitionReader, Surroundings, open_partition
from .sources.source import FencedError, Source, SourceRecord
from .storage.migrate import Tables
from .storage.store import Store
from .worker_counts import WorkerCounts

__all__ = ["Worker"]

RUN_POLL_S = 1.0

_log = logging.getLogger(__name__)


class Worker:
    """See the module's text. Not for two threads at once. `on_batch` gets what each batch touched, after its
    ledger row; it may be told the same twice."""

    def __init__(
        self,
        source: Source,
        store: Store,
        tables: Tables,
        *,
        clock: Clock,
        settings: WorkerSettings,
        on_batch: Callable[[Dirty], None],
    ) -> None:
        ledger = Ledger(store, tables)
        self._source = source
        self._clock = clock
        self._settings = settings
        self._on_batch = on_batch
        self._around = Surroundings(
            source=source,
            store=store,
            tables=tables,
            ledger=ledger,
            writer=BatchWriter(store, tables, intents=_intents(source, settings), ledger=ledger, clock=clock),
            clock=clock,
            limits=BatchLimits(
                settings.batch_points, settings.batch_bytes, round(settings.batch_age_s * 1e9)
            ),
        )
        self._readers: dict[TopicPartition, PartitionReader] = {}
        self._epoch: int | None = None
        self._dirty = Dirty()
        self._outage = _Outage(settings)
        self.counts = WorkerCounts()
        self._next_skip_check_ns = 0

    @property
    def stopped(self) -> Mapping[TopicPartition, PoisonError]:
        """The partitions that wait for an administrator, and why."""
        return {p: reader.stopped for p, reader in self._readers.items() if reader.stopped is not None}

    @property
    def outage(self) -> RetryableError | None:
        """Why nothing goes on at the moment: the store or the source cannot be reached."""
        return self._outage.error

    def lag(self) -> dict[TopicPartition, int]:
        """Records of each partition of this worker that are not taken yet. Asks the source; as `step`, not for two
        threads. Raises RetryableError."""
        return {
            partition: max(0, self._source.end(partition) - reader.next_offset)
            for partition, reader in self._readers.items()
        }

    def reads(self, partition: TopicPartition) -> bool:
        """Whether it is this worker's now, as of its last round."""
        return partition in self._readers

    def has_all_of(self, partition: TopicPartition) -> bool:
        """Whether it is this worker's, and all that it holds is in the tables. As `lag`."""
        reader = self._readers.get(partition)
        return reader is not None and reader.is_clean and self._source.end(partition) <= reader.next_offset

    def step(self, timeout_s: float) -> int:
        """One round: read some records, waiting up to `timeout_s` for the first, and write what is due.

        Returns how many records were read. Raises FatalError of any kind."""
        if self._outage.error is not None:
            if not self._wait_out(timeout_s):
                return 0
            timeout_s = 0.0  # it was spent
        try:
            if self._epoch is None:
                # A source whose assignment never changes is read from the right place at once.
                self._follow_assignment()
            self._finish_pending()
            records = self._source.poll(timeout_s)
            fresh = self._follow_assignment()
            taken = self._take(records, fresh)
            self._close_due(fresh, had_records=bool(records))
            self._check_stopped(at_once=False)
        except FencedError as error:
            self.counts.note_fenced()
            _log.warning("the partitions went to another worker: %s", error)
            self._forget()
            return 0
        except RetryableError as error:
            self._begin_outage(error)
            return 0
        self._outage.end()
        return taken

    def drain(self, *, timeout_s: float | None = None, stop: StopEvent | None = None) -> None:
        """Bring in everything that the log held when the call began; less if `stop` is set meanwhile.

        Raises the PoisonError of a stopped partition after the others are done; with `timeout_s`, the error
        that kept it from ending in time. Without, it waits for ever for a store that cannot be reached."""
        deadline_ns = None if timeout_s is None else self._clock.monotonic_ns() + round(timeout_s * 1e9)
        ends: dict[TopicPartition, int] | None = None
        while stop is None or not stop.is_set():
            taken = self.step(self._outage.wait_s(self._clock.monotonic_ns()))
            if self._outage.error is None:
                if ends is None and self._readers:
                    ends = {partition: self._source.end(partition) for partition in self._readers}
                is_empty = taken == 0 and self._source.capabilities.complete_polls
                if ends is not None and self._is_read(ends, is_empty) and self._flush():
                    break
            elif deadline_ns is not None and self._clock.monotonic_ns() >= deadline_ns:
                raise self._outage.error
        for error in self.stopped.values():
            raise error

    def run(self, stop: StopEvent) -> None:
        """Step until `stop` is set. What is not yet written then is read again by the next worker."""
        while not stop.is_set():
            self.step(RUN_POLL_S)

    def close(self) -> None:
        """Let go of the source. Nothing is lost: what was not written is read again."""
        self._readers.clear()
        self._source.close()

    def _finish_pending(self) -> None:
        """Write what an outage or a failed refresh left over, then read on."""
        for reader in list(self._readers.values()):
            if reader.has_pending:
                self._write(reader)
        self._tell()
        if self._outage.error is not None:
            for reader in self._readers.values():
                reader.rewind()

    def _follow_assignment(self) -> set[TopicPartition]:
        """Open partitions that are new; their records of this poll came from another position."""
        self._drop_lost()
        self._epoch = self._source.epoch()
        fresh = self._source.assignment() - set(self._readers)
        for partition in sorted(fresh):
            self._readers[partition] = open_partition(partition, self._around)
        return set(fresh)

    def _drop_lost(self) -> None:
        if self._source.epoch() != self._epoch:
            self._forget()
        for partition in set(self._readers) - self._source.assignment():
            del self._readers[partition]

    def _take(self, records: list[SourceRecord], fresh: set[TopicPartition]) -> int:
        taken = 0
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            reader = self._readers.get(partition)
            if reader is None or partition in fresh or reader.stopped or record.offset < reader.next_offset:
                continue
            taken += 1
            self.counts.note_record(record)
            if reader.ends_before(record.offset):
                self._close(reader)
            try:
                decoded = reader.decode(record)
            except PoisonError as error:
                if reader.has_records():
                    self._close(reader)
                reader.stop(error)
                _log.error("%s", error)
                continue
            if reader.add(record, decoded):
                self._close(reader)
        return taken + len(fresh)

    def _close_due(self, fresh: set[TopicPartition], *, had_records: bool) -> None:
        for partition, reader in list(self._readers.items()):
            is_at_end = not had_records and partition not in fresh
            if reader.is_due() or (is_at_end and self._is_cut_whole(reader)):
                self._close(reader)

    def _is_cut_whole(self, reader: PartitionReader) -> bool:
        # The last record of a repeated cut may be gone for good (thinned away since): then nothing more comes.
        end = reader.cut_end
        can_tell = self._source.capabilities.complete_polls
        return end is not None and can_tell and self._source.end(reader.partition) >= end

    def _close(self, reader: PartitionReader) -> None:
        reader.close_batch()
        self._write(reader)
        self._tell()

    def _write(self, reader: PartitionReader) -> None:
        batch = reader.write_pending()
        self.counts.note_batch(batch, at_us=self._clock.wall_ns() // 1000)
        self._dirty.merge([batch.dirty])
        if reader.partition.topic == TOPIC_ADMIN:
            self._check_stopped(at_once=True)

    def _tell(self) -> None:
        if self._dirty:
            self._on_batch(self._dirty)
            self._dirty = Dirty()

    def _check_stopped(self, *, at_once: bool) -> None:
        now_ns = self._clock.monotonic_ns()
        if not self.stopped or (now_ns < self._next_skip_check_ns and not at_once):
            return
        self._next_skip_check_ns = now_ns + round(self._settings.skip_check_s * 1e9)
        for reader in self._readers.values():
            if reader.restart_if_skipped():
                _log.warning("%s goes on behind a skipped record", reader.partition)

    def _is_read(self, ends: Mapping[TopicPartition, int], is_empty: bool) -> bool:
        return bool(self._readers) and all(
            is_empty or reader.stopped or reader.next_offset >= ends.get(partition, 0)
            for partition, reader in self._readers.items()
        )

    def _flush(self) -> bool:
        """Write what is open; True when all is in the tables and nothing was set going again meanwhile."""
        stopped = len(self.stopped)
        try:
            for reader in list(self._readers.values()):
                if reader.has_records() and reader.cut_end is None:
                    self._close(reader)
        except FencedError:
            self._forget()
            return False
        except RetryableError as error:
            self._begin_outage(error)
            return False
        return len(self.stopped) >= stopped and all(reader.is_clean for reader in self._readers.values())

    def _forget(self) -> None:
        """Drop everything in memory; the next round reads ledger and intents again."""
        self._readers.clear()
        self._epoch = None

    def _begin_outage(self, error: RetryableError) -> None:
        wait_s = self._outage.begin(error, self._clock.monotonic_ns())
        self.counts.note_retry()
        _log.warning("trying again in %.1f s: %s", wait_s, error)
        for partition in self._source.assignment():
            self._source.pause(partition)

    def _wait_out(self, timeout_s: float) -> bool:
        """Wait for the next try, still polling: a group member that does not poll is put out."""
        before_ns = self._clock.monotonic_ns()
        wait_s = min(timeout_s, self._outage.wait_s(before_ns))
        if wait_s > 0:
            try:
                self._source.poll(wait_s)  # gives nothing: all partitions are paused
                self._drop_lost()
            except RetryableError as error:
                _log.debug("the source cannot be reached: %s", error)
            left_s = wait_s - (self._clock.monotonic_ns() - before_ns) / 1e9
            if left_s > 0:
                self._clock.sleep(left_s)
        return self._outage.wait_s(self._clock.monotonic_ns()) <= 0


class _Outage:
    # What cannot be reached, how often that was tried, and when to try again.
    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._tries = 0
        self._next_ns = 0
        self.error: RetryableError | None = None

    def begin(self, error: RetryableError, now_ns: int) -> float:
        longer: float = self._settings.retry_s_min * (1 << min(self._tries, 30))
        wait_s = min(self._settings.retry_s_max, longer)
        self._tries += 1
        self._next_ns = now_ns + round(wait_s * 1e9)
        self.error = error
        return wait_s

    def end(self) -> None:
        self._tries = 0
        self.error = None

    def wait_s(self, now_ns: int) -> float:
        if self.error is None:
            return 0.0
        return max(0.0, (self._next_ns - now_ns) / 1e9)


def _intents(source: Source, settings: WorkerSettings) -> IntentLog:
    if source.capabilities.intents:
        return SourceIntents(source)
    if settings.pending is None:
        raise SettingsError("this source keeps no commits: the worker needs a folder for its intents")
    return FileIntents(settings.pending)
