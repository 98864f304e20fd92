"""What the worker asks of an event log: replayable partitions, read by offset.

An offset always means *next to read*. Every implementation (spool, Kafka, memory) promises: the records of
one partition come in order, each once between two seeks; a record is the same bytes at every reading;
`seek` holds until the next one. Not promised: any order between partitions, offsets without holes, or that
an assignment lasts longer than the next `poll`.
"""

from dataclasses import dataclass
from typing import Protocol

from trainledger_schemas.errors import RetryableError
from trainledger_schemas.positions import LogPosition, TopicPartition

__all__ = ["COMMIT_METADATA_BYTES_MAX", "FencedError", "Source", "SourceCapabilities", "SourceRecord"]

# Kafka's brokers take 4,096 characters by default; some sites set less.
COMMIT_METADATA_BYTES_MAX = 512


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One record of the log: where it is, and its bytes."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class SourceCapabilities:
    """What this log can do.

    `intents`: `commit` is durable and fences: that of a member whose partitions went to another fails.
    `complete_polls`: an empty `poll` means that nothing lies below the ends as of the call.
    """

    intents: bool
    complete_polls: bool


class FencedError(RetryableError):
    """The commit was refused because the partition has, or may have, another owner: drop its work."""


class Source(Protocol):
    """An event log. Calls block; not for two threads at once.

    Any call may raise RetryableSourceError (not reachable for now) or FatalSourceError (the log's history
    does not fit what was asked for).
    """

    capabilities: SourceCapabilities

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions that are this reader's, as of the last `poll`."""

    def epoch(self) -> int:
        """A number that differs whenever partitions were given to this reader anew. Their positions must then
        be set by `seek`, those of partitions that stayed too."""

    def poll(self, timeout_s: float) -> list[SourceRecord]:
        """Some records of partitions that are not paused; waits up to `timeout_s` (or a little longer) for the
        first one. Sorted by offset within a partition."""

    def seek(self, position: LogPosition) -> None:
        """Read on from here. Until its first `seek` after an epoch, whether a partition gives records is open.

        Raises FatalSourceError, here or at the next `poll`, when the log has no such offset."""

    def begin(self, partition: TopicPartition) -> int:
        """The oldest offset that can be read."""

    def end(self, partition: TopicPartition) -> int:
        """The offset behind the newest record that can be read."""

    def topic_id(self, topic: str) -> str:
        """What a topic keeps for life and a topic made anew under the same name does not have."""

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has."""

    def pause(self, partition: TopicPartition) -> None:
        """Give no records of it until `resume`; a repeat is harmless."""

    def resume(self, partition: TopicPartition) -> None:
        """Undo `pause`."""

    def commit(self, partition: TopicPartition, offset: int, metadata: str) -> None:
        """Keep `offset` and `metadata` (at most COMMIT_METADATA_BYTES_MAX bytes of UTF-8), durably.

        Only with capability `intents`. Raises FencedError; after RetryableSourceError the outcome is unknown
        and a repeat is harmless."""

    def committed(self, partition: TopicPartition) -> tuple[int, str] | None:
        """What the last `commit` of any member kept; None if there was none."""

    def close(self) -> None:
        """Let go of the log. A second call does nothing."""
