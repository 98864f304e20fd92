"""A log in memory, for tests and for replaying what is already at hand. One process, no durability."""

from collections.abc import Mapping

from trainledger_schemas.errors import FatalSourceError, RetryableSourceError
from trainledger_schemas.ids import IdSource, id_text, random_id
from trainledger_schemas.positions import LogPosition, TopicPartition

from .source import COMMIT_METADATA_BYTES_MAX, FencedError, SourceCapabilities, SourceRecord

__all__ = ["MemoryLog", "MemorySource"]

POLL_RECORDS_MAX = 500


class MemoryLog:
    """Topics, records and commits: what a broker would keep. Several MemorySources may read one log."""

    def __init__(self, topics: Mapping[str, int], *, new_id: IdSource = random_id) -> None:
        self.topics = dict(topics)
        self.ids = {topic: id_text(new_id()) for topic in topics}
        self.records: dict[TopicPartition, list[SourceRecord]] = {
            TopicPartition(topic, number): [] for topic, count in topics.items() for number in range(count)
        }
        self.commits: dict[TopicPartition, tuple[int, str]] = {}
        self.owners: dict[TopicPartition, MemorySource] = {}

    def append(self, topic: str, value: bytes, *, partition: int = 0, key: bytes = b"") -> int:
        """Add a record; returns its offset."""
        records = self.records[TopicPartition(topic, partition)]
        offset = records[-1].offset + 1 if records else 0
        records.append(SourceRecord(topic, partition, offset, key, value))
        return offset


class MemorySource:
    """A reader of all partitions of a MemoryLog. Making another reader takes them away from the one before,
    as a rebalance does: its commits are refused until its next `poll`, which takes them back."""

    capabilities = SourceCapabilities(intents=True, complete_polls=True)

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._epoch = 0
        self._is_closed = False
        self._take_all()

    def assignment(self) -> frozenset[TopicPartition]:
        return self._assigned

    def epoch(self) -> int:
        return self._epoch

    def poll(self, timeout_s: float) -> list[SourceRecord]:
        """See `Source.poll`; never waits, because nothing can come while it does."""
        if self._is_closed:
            raise RetryableSourceError("the memory source is closed")
        if any(self._log.owners.get(partition) is not self for partition in self._log.records):
            self._take_all()
        found: list[SourceRecord] = []
        for partition in sorted(self._assigned - self._paused):
            wanted = self._positions[partition]
            fresh = [r for r in self._log.records[partition] if r.offset >= wanted][:POLL_RECORDS_MAX]
            if fresh:
                self._positions[partition] = fresh[-1].offset + 1
            found += fresh
        return found

    def seek(self, position: LogPosition) -> None:
        partition = TopicPartition(position.topic, position.partition)
        if not self.begin(partition) <= position.offset <= self.end(partition):
            raise FatalSourceError(f"{position.topic}/{position.partition} has no offset {position.offset}")
        self._positions[partition] = position.offset

    def begin(self, partition: TopicPartition) -> int:
        records = self._log.records[partition]
        return records[0].offset if records else 0

    def end(self, partition: TopicPartition) -> int:
        records = self._log.records[partition]
        return records[-1].offset + 1 if records else 0

    def topic_id(self, topic: str) -> str:
        return self._log.ids[topic]

    def partitions(self, topic: str) -> int:
        return self._log.topics[topic]

    def pause(self, partition: TopicPartition) -> None:
        self._paused.add(partition)

    def resume(self, partition: TopicPartition) -> None:
        self._paused.discard(partition)

    def commit(self, partition: TopicPartition, offset: int, metadata: str) -> None:
        if len(metadata.encode()) > COMMIT_METADATA_BYTES_MAX:
            raise ValueError(f"commit metadata of {len(metadata.encode())} bytes")
        if self._log.owners.get(partition) is not self:
            raise FencedError(f"{partition.topic}/{partition.partition} has another owner")
        self._log.commits[partition] = (offset, metadata)

    def committed(self, partition: TopicPartition) -> tuple[int, str] | None:
        return self._log.commits.get(partition)

    def close(self) -> None:
        self._is_closed = True

    def _take_all(self) -> None:
        self._assigned = frozenset(self._log.records)
        self._paused.clear()
        for partition in self._assigned:
            self._log.owners[partition] = self
            self._positions[partition] = self.begin(partition)
        self._epoch += 1
