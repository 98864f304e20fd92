"""One partition as the worker reads it: where it stands, what is collected, what waits to be written."""

from dataclasses import dataclass

from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import DeadLetterError, FatalSourceError, RecoveryError
from trainledger_schemas.events import TOPICS
from trainledger_schemas.positions import LogPosition, TopicPartition

from .admit import Admission
from .batch import Batch, BatchBuilder, BatchLimits, FixedCut
from .dead_letters import MESSAGE_CHARS_MAX, DeadLetter, PoisonError, read_skipped
from .decode import Decoded, decode_record
from .insert import BatchWriter
from .intents import Intent
from .ledger import Ledger
from .sources.source import Source, SourceRecord
from .storage.migrate import Tables
from .storage.store import Store

__all__ = ["PartitionReader", "Surroundings", "open_partition"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all partitions of a worker share."""

    source: Source
    store: Store
    tables: Tables
    ledger: Ledger
    writer: BatchWriter
    clock: Clock
    limits: BatchLimits


class PartitionReader:
    """State of one assigned partition. `next_offset` is the next record to take."""

    def __init__(
        self,
        partition: TopicPartition,
        topic_id: str,
        *,
        start: int,
        intent: Intent | None,
        admission: Admission,
        around: Surroundings,
    ) -> None:
        self.partition = partition
        self.next_offset = start
        self.stopped: PoisonError | None = None
        self._topic_id = topic_id
        self._admission = admission
        self._around = around
        self._intent = intent
        self._pending: Batch | None = None
        self._is_fresh = True
        cut = None if intent is None else FixedCut(intent.end, intent.month)
        self._builder = self._new_builder(start, cut)
        self._skipped: frozenset[int] = frozenset()
        if TOPICS[partition.topic].poison_stops:
            self._skipped = read_skipped(around.store, around.tables, partition)

    @property
    def is_clean(self) -> bool:
        """Whether all that was taken is in the tables."""
        return self._pending is None and not self._builder.has_records and self._builder.cut is None

    @property
    def has_pending(self) -> bool:
        """Whether a closed batch waits to be written."""
        return self._pending is not None

    @property
    def cut_end(self) -> int | None:
        """Where the cut that is being repeated ends."""
        return None if self._builder.cut is None else self._builder.cut.end

    def decode(self, record: SourceRecord) -> Decoded | DeadLetter:
        """The event, or a dead letter; raises PoisonError where the partition must stop."""
        try:
            return decode_record(record)
        except DeadLetterError as error:
            if TOPICS[record.topic].poison_stops and record.offset not in self._skipped:
                raise PoisonError(self.partition, record.offset, str(error)) from error
            message = str(error)[:MESSAGE_CHARS_MAX]
            return DeadLetter(error.reason, message, self._around.clock.wall_ns() // 1000)

    def ends_before(self, offset: int) -> bool:
        """Whether the batch must close before the record at `offset`."""
        return self._builder.ends_before(offset)

    def add(self, record: SourceRecord, decoded: Decoded | DeadLetter) -> bool:
        """Take a record; True when the batch is full and must close."""
        self._builder.add(record, decoded, now_ns=self._around.clock.monotonic_ns())
        self.next_offset = record.offset + 1
        return self._builder.is_full()

    def is_due(self) -> bool:
        """Whether the batch is old enough to close."""
        return self._builder.is_due(self._around.clock.monotonic_ns())

    def has_records(self) -> bool:
        """Whether a batch is open."""
        return self._builder.has_records

    def close_batch(self) -> None:
        """Close the open batch; `write_pending` brings it in. Raises RecoveryError if a cut came out otherwise."""
        batch = self._builder.close(now_us=self._around.clock.wall_ns() // 1000)
        intent, self._intent = self._intent, None
        if intent is not None and batch.plan != dict(intent.plan):
            raise RecoveryError(
                f"records [{batch.start}, {batch.end}) of {self.partition.topic}/{self.partition.partition} now give "
                f"{batch.plan} rows and gave {dict(intent.plan)} before the crash: the log was changed, or another "
                "version runs. Start the version of before once, or run `trainledger admin rebuild`"
            )
        self._pending, self._is_fresh = batch, intent is None
        self.next_offset = max(self.next_offset, batch.end)
        self._builder = self._new_builder(batch.end, None)

    def write_pending(self) -> Batch:
        """Bring the closed batch in; after any error the next try counts what is there."""
        batch = self._pending
        if batch is None:
            raise RecoveryError("no batch waits to be written")
        is_fresh, self._is_fresh = self._is_fresh, False
        self._around.writer.write(batch, self._topic_id, is_fresh=is_fresh)
        self._pending = None
        return batch

    def stop(self, error: PoisonError) -> None:
        """Give up at a poison record until it is skipped."""
        self.stopped = error
        self._around.source.pause(self.partition)

    def restart_if_skipped(self) -> bool:
        """Go on if an administrator skipped the record at which this partition stopped."""
        if self.stopped is None:
            return False
        self._skipped = read_skipped(self._around.store, self._around.tables, self.partition)
        if self.stopped.offset not in self._skipped:
            return False
        self.stopped = None
        self.rewind()
        return True

    def rewind(self) -> None:
        """Let the source go on with the next record to take."""
        topic, number = self.partition.topic, self.partition.partition
        self._around.source.seek(LogPosition(topic, number, self.next_offset))
        if self.stopped is None:
            self._around.source.resume(self.partition)

    def _new_builder(self, start: int, cut: FixedCut | None) -> BatchBuilder:
        return BatchBuilder(
            self.partition, start, admission=self._admission, limits=self._around.limits, cut=cut
        )


def open_partition(partition: TopicPartition, around: Surroundings) -> PartitionReader:
    """Read ledger and intent, check the log against them, and set the source to where reading goes on.

    Raises FatalSourceError when the log is not the one that the ledger knows, RecoveryError when the tables are
    not what a crash can leave."""
    source, topic = around.source, partition.topic
    now_us = around.clock.wall_ns() // 1000
    around.ledger.fix_partitions(topic, source.partitions(topic), at_us=now_us)
    state = around.ledger.read(partition)
    topic_id = source.topic_id(topic)
    if state.end is not None and state.topic_id != topic_id:
        raise FatalSourceError(
            f"{topic} is not the log that was read before (its id was {state.topic_id} and is {topic_id}): it was"
            " deleted and made anew. Run `trainledger admin rebuild`, or point this installation to the old log"
        )
    begin, end = source.begin(partition), source.end(partition)
    start = begin if state.end is None else state.end
    intent = around.writer.find_cut(partition, start)
    if not begin <= start <= end:
        raise FatalSourceError(
            f"{topic}/{partition.partition} holds offsets {begin} to {end}, and reading was to go on at {start}: "
            "records were removed before they were read, or the log was cut. Restore the log, or run "
            "`trainledger admin rebuild`"
        )
    reader = PartitionReader(
        partition, topic_id, start=start, intent=intent, admission=state.admission, around=around
    )
    reader.rewind()
    return reader
