"""Publishes the spool to Kafka, in order, for ever, and never in the way of collecting.

Guarantees: every record below the spool's synced end reaches the broker at least once, records of one partition
in spool order; what is sent again (after a crash, or on a new producer) is the same frame with the same
(producer id, seq), which the reader drops. The cursor moves only behind records that the broker acknowledged
with all replicas. A broker that is down costs a bounded window of memory and nothing else.

What of kafka-python 3.0.12 this works around (each measured): an idempotent producer hangs for ever once
`delivery_timeout_ms` has passed, so that is set to its maximum; `close()` can leave a sender thread that writes
later, so a producer that is given up is stopped through its private `_sender`; `send()` never blocks, so the
bytes in flight are bounded here; the reconnect back-off grows to 30 s unless told otherwise.

Partition counts: a key's partition depends on N, so N of a topic name is fixed for ever. N is what the topic
has at the broker when it is first published to; it is stored in `<spool>/topics.json`, and another N later on
stops the publisher (never the agent).
"""

import json
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainledger.node.identity import write_durably
from trainledger.node.kafka_client import SENDER_JOIN_S, abandon, connect_producer, partition_count
from trainledger.node.kafka_options import METADATA_WAIT_MS
from trainledger.node.node_settings import KafkaSettings
from trainledger.node.published_cursor import TopicProgress, load_cursor, save_cursor
from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import FatalError, FatalSourceError
from trainledger_schemas.events import TOPICS
from trainledger_schemas.partitioning import partition_of
from trainledger_schemas.spool_reader import SpoolReader
from trainledger_schemas.structured_log import Repeats, say

__all__ = ["Publisher", "PublisherStatus"]

TOPICS_FILE = "topics.json"
READ_BYTES_MAX = 1 << 20
IDLE_S = 0.2
BUSY_S = 0.02
BACK_OFF_S = 1.0


@dataclass(frozen=True, slots=True)
class PublisherStatus:
    """What the publisher is doing, for metrics and people."""

    is_connected: bool
    in_flight_bytes: int
    acknowledged_records: int
    producers: int
    failure: str


class Publisher:
    """One thread that keeps the broker up with the spool. `start` once, `stop` once."""

    def __init__(
        self,
        spool: Path,
        settings: KafkaSettings,
        *,
        synced_end: Callable[[str], int],
        clock: Clock,
        topics: Iterable[str] = tuple(TOPICS),
    ) -> None:
        """`synced_end(topic)`: what may be read; called from the publisher's thread."""
        self._spool = spool
        self._settings = settings
        self._synced_end = synced_end
        self._clock = clock
        self._repeats = Repeats(clock)
        self._readers = {topic: SpoolReader(spool, topic) for topic in topics}
        cursor = load_cursor(spool)
        self._progress: dict[str, TopicProgress] = {}
        for topic, reader in self._readers.items():
            begin = cursor.get(topic, reader.begin())
            self._progress[topic] = TopicProgress(topic, acknowledged=begin, next_offset=begin)
        self._saved = cursor
        self._saved_ns = 0
        self._partitions: dict[str, int] = {}
        self._checked_ns = 0
        self._stop_at_ns: int | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trainledger-publisher", daemon=True)
        self._acknowledged_records = 0
        self._producers = 0
        self._is_connected = False
        self.failure: FatalError | None = None

    def start(self) -> None:
        """Begin publishing; returns at once."""
        self._thread.start()

    def wake(self) -> None:
        """Say that there is something new; harmless at any time."""
        self._wake.set()

    def stop(self, timeout_s: float) -> bool:
        """Publish what is spooled for at most `timeout_s`, then stop; whether all of it was acknowledged."""
        self._stop_at_ns = self._clock.monotonic_ns() + round(timeout_s * 1e9)
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s + METADATA_WAIT_MS / 1000 + 2 * SENDER_JOIN_S)
        return self.is_caught_up()

    def is_caught_up(self) -> bool:
        """Whether the broker has acknowledged everything that is synced in the spool."""
        return all(item.acknowledged >= self._synced_end(topic) for topic, item in self._progress.items())

    def published(self) -> dict[str, int]:
        """End of what is published, by topic, as the cursor file on disk says: below it nothing is read again."""
        return dict(self._saved)

    def status(self) -> PublisherStatus:
        """A snapshot; cheap, from any thread."""
        return PublisherStatus(
            is_connected=self._is_connected,
            in_flight_bytes=sum(item.in_flight_bytes for item in self._progress.values()),
            acknowledged_records=self._acknowledged_records,
            producers=self._producers,
            failure=str(self.failure or ""),
        )

    def _run(self) -> None:
        while not self._is_over():
            producer: Any = None
            try:
                producer = connect_producer(self._settings)
                self._producers += 1
                self._publish(producer)
                return
            except FatalError as error:
                self.failure = error
                say(logging.ERROR, "publishing stopped", {"why": str(error)})
                return
            except Exception as error:
                # Beside its own errors the client raises those of its bugs (ValueError, RuntimeError): whatever it
                # was, the answer is the same, a new producer and the same frames.
                self._say_trouble(error)
            finally:
                self._is_connected = False
                if producer is not None:
                    abandon(producer)
                for item in self._progress.values():
                    item.rewind()
            if not self._is_over() and self._stopping.wait(BACK_OFF_S):
                self._clock.sleep(BUSY_S)  # the last tries before the deadline, without a busy loop

    def _publish(self, producer: Any) -> None:
        """Send and settle until told to stop; raises when this producer cannot be trusted any more."""
        self._check_partitions(producer)
        self._is_connected = True
        while True:
            moved = sum(item.settle() for item in self._progress.values())
            self._acknowledged_records += moved
            sent = sum(self._send(producer, item) for item in self._progress.values())
            is_settled = not any(item.sent for item in self._progress.values())
            is_stopping = self._stop_at_ns is not None and (
                self._is_over() or (is_settled and self.is_caught_up())
            )
            self._save_cursor(at_once=is_settled or is_stopping)
            if is_stopping:
                return
            if not moved and not sent:
                self._wake.wait(IDLE_S if is_settled else BUSY_S)
                self._wake.clear()
            if self._clock.monotonic_ns() - self._checked_ns > self._settings.metadata_age_ms_max * 1_000_000:
                self._check_partitions(producer)

    def _send(self, producer: Any, item: TopicProgress) -> int:
        """Send what there is room for; how many records."""
        # Each topic has its share, so that one whose leader is away holds up itself alone.
        room = self._settings.in_flight_bytes_max // len(self._progress) - item.in_flight_bytes
        records = self._settings.records_in_flight_max // len(self._progress) - len(item.sent)
        end = self._synced_end(item.topic)
        if room <= 0 or records <= 0 or item.next_offset >= end:
            return 0
        frames = self._readers[item.topic].read(
            self._first_readable(item), end=end, bytes_max=min(room, READ_BYTES_MAX)
        )
        if not frames:
            item.step_over(end)
        for frame in frames[:records]:
            outcome = producer.send(
                item.topic,
                value=frame.payload,
                key=frame.key,
                partition=partition_of(frame.key, self._partitions[item.topic]),
            )
            item.add(frame.offset, len(frame.payload) + len(frame.key), outcome)
        return min(len(frames), records)

    def _first_readable(self, item: TopicProgress) -> int:
        """The next offset, or the spool's begin where the budget took records away before they were sent."""
        begin = self._readers[item.topic].begin()
        if item.next_offset >= begin:
            return item.next_offset
        if TOPICS[item.topic].durable:
            raise FatalSourceError(
                f"the spool's {item.topic} begins at {begin}, and {item.next_offset} was not published yet: records"
                f" are missing from {self._spool}; put them back, or correct {self._spool}/published.cursor"
            )
        say(
            logging.WARNING,
            "records went over the spool's budget before they were published",
            {"topic": item.topic, "from": item.next_offset, "to": begin},
        )
        return begin

    def _save_cursor(self, *, at_once: bool) -> None:
        now_ns = self._clock.monotonic_ns()
        if not at_once and now_ns - self._saved_ns < self._settings.cursor_interval_s * 1e9:
            return
        offsets = {topic: item.acknowledged for topic, item in self._progress.items()}
        if offsets != self._saved:
            save_cursor(self._spool, offsets)
            self._saved = offsets
            self._saved_ns = now_ns

    def _check_partitions(self, producer: Any) -> None:
        """Compare the broker's partition counts with the stored ones; store those seen for the first time."""
        path = self._spool / TOPICS_FILE
        stored = _load_partitions(path)
        found = dict(stored)
        for topic in self._progress:
            count = partition_count(producer, topic)
            if found.setdefault(topic, count) != count:
                raise FatalSourceError(
                    f"topic {topic} has {count} partitions at the broker and had {found[topic]} before ({path}): a"
                    " run's events would stand in two partitions. A topic that must grow gets a new name; set the"
                    " count back by making the topic anew"
                )
        if found != stored:
            record = {topic: {"partitions": count} for topic, count in found.items()}
            write_durably(path, json.dumps(record).encode())
        self._partitions = found
        self._checked_ns = self._clock.monotonic_ns()

    def _say_trouble(self, error: Exception) -> None:
        if self._repeats.is_due(type(error).__name__):
            say(logging.WARNING, "the broker does not take records; trying again", {"why": repr(error)})

    def _is_over(self) -> bool:
        return self._stop_at_ns is not None and self._clock.monotonic_ns() >= self._stop_at_ns


def _load_partitions(path: Path) -> dict[str, int]:
    try:
        record = json.loads(path.read_bytes())
        return {str(topic): int(item["partitions"]) for topic, item in record.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FatalSourceError(
            f"{path} cannot be understood: {error}; write the partition counts anew"
        ) from error
