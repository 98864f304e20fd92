"""Kafka topics as a log, read as one member of a consumer group (kafka-python).

What the library needs from its user, found by trying and kept here:
 - a join that completes between two polls is dropped, so every poll waits a second at least;
 - a member can stay outside its group for ever without an error, so the client is made anew when its group
   state was not stable for `unstable_s_max`;
 - the broker accepts commits of a live member for partitions that are another's, so `commit` looks at the
   assignment of the last poll first;
 - a topic that was deleted and made again may be read on without an error, so its id is looked up each
   TOPIC_CHECK_S (and compared with the ledger whenever a partition is opened);
 - `close()` can hang while a join is pending, so it gets a limit.
New partitions are paused until the worker has set their position: the position in the group's commits is that
of the last intent, which retention may already have passed.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import kafka
from kafka import errors as kafka_errors

from trainledger_schemas.clock import Clock, SystemClock
from trainledger_schemas.errors import FatalSourceError, RetryableSourceError
from trainledger_schemas.positions import LogPosition, TopicPartition

from ..ingest_settings import KafkaSourceSettings
from .source import COMMIT_METADATA_BYTES_MAX, FencedError, SourceCapabilities, SourceRecord

__all__ = ["KafkaSource"]

POLL_MS_MIN = 1000
POLL_RECORDS_MAX = 2000
CALL_TIMEOUT_MS = 10_000
CLOSE_TIMEOUT_MS = 2000
TOPIC_CHECK_S = 30.0

_FENCED = (
    kafka_errors.CommitFailedError,
    kafka_errors.RebalanceInProgressError,
    kafka_errors.FencedInstanceIdError,
    kafka_errors.UnknownMemberIdError,
    kafka_errors.IllegalGenerationError,
)
_FATAL = (
    kafka_errors.AuthorizationError,
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedVersionError,
    kafka_errors.OffsetMetadataTooLargeError,
)

_log = logging.getLogger(__name__)


class KafkaSource:
    """A member of the group that reads the settings' topics. Connects at the first call that needs it."""

    capabilities = SourceCapabilities(intents=True, complete_polls=False)

    def __init__(self, settings: KafkaSourceSettings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._consumer: Any = None
        self._epoch = 0
        self._stable_ns = 0
        self._topics: dict[str, tuple[str, int]] = {}
        self._next_check_ns = 0
        self._is_closed = False

    def assignment(self) -> frozenset[TopicPartition]:
        if self._consumer is None:
            return frozenset()
        return frozenset(TopicPartition(tp.topic, tp.partition) for tp in self._consumer.assignment())

    def epoch(self) -> int:
        return self._epoch

    def poll(self, timeout_s: float) -> list[SourceRecord]:
        """See `Source.poll`; waits a second at least, or the member would fall out of its group."""
        consumer = self._open_consumer()
        with _source_errors("polling"):
            try:
                polled = consumer.poll(timeout_ms=max(POLL_MS_MIN, round(timeout_s * 1000)))
            except kafka_errors.NoOffsetForPartitionError as error:
                self._write_first_positions(error.args[0])
                polled = {}
        self._watch_group()
        self._check_topics()
        found = [
            SourceRecord(tp.topic, tp.partition, record.offset, record.key or b"", record.value or b"")
            for tp, records in polled.items()
            for record in records
        ]
        return sorted(found, key=lambda record: (record.topic, record.partition, record.offset))

    def seek(self, position: LogPosition) -> None:
        with _source_errors("seeking"):
            self._open_consumer().seek(
                kafka.TopicPartition(position.topic, position.partition), position.offset
            )

    def begin(self, partition: TopicPartition) -> int:
        return self._edge(partition, lambda consumer: consumer.beginning_offsets)

    def end(self, partition: TopicPartition) -> int:
        return self._edge(partition, lambda consumer: consumer.end_offsets)

    def topic_id(self, topic: str) -> str:
        return self._described(topic)[0]

    def partitions(self, topic: str) -> int:
        return self._described(topic)[1]

    def pause(self, partition: TopicPartition) -> None:
        if self._consumer is not None and partition in self.assignment():
            self._consumer.pause(_foreign(partition))

    def resume(self, partition: TopicPartition) -> None:
        if self._consumer is not None and partition in self.assignment():
            self._consumer.resume(_foreign(partition))

    def commit(self, partition: TopicPartition, offset: int, metadata: str) -> None:
        if len(metadata.encode()) > COMMIT_METADATA_BYTES_MAX:
            raise ValueError(f"commit metadata of {len(metadata.encode())} bytes")
        if partition not in self.assignment():
            raise FencedError(f"{partition.topic}/{partition.partition} is not assigned to this member")
        self._commit({_foreign(partition): kafka.OffsetAndMetadata(offset, metadata, -1)})

    def committed(self, partition: TopicPartition) -> tuple[int, str] | None:
        with _source_errors("reading the group's commits"):
            found = self._open_consumer().committed(
                _foreign(partition), metadata=True, timeout_ms=CALL_TIMEOUT_MS
            )
        return None if found is None else (int(found.offset), str(found.metadata or ""))

    def close(self) -> None:
        self._is_closed = True
        self._close_consumer()

    def _open_consumer(self) -> Any:
        if self._is_closed:
            raise RetryableSourceError("the Kafka source is closed")
        if self._consumer is None:
            with _source_errors(f"connecting to {self._settings.bootstrap_servers}"):
                self._consumer = self._new_consumer()
            self._stable_ns = self._clock.monotonic_ns()
        return self._consumer

    def _new_consumer(self) -> Any:
        settings = self._settings
        consumer = kafka.KafkaConsumer(
            **_connection(settings),
            group_id=settings.group_id,
            enable_auto_commit=False,
            auto_offset_reset="none",
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=max(300, settings.session_timeout_ms // 5),
            max_poll_interval_ms=settings.poll_interval_ms_max,
            max_poll_records=POLL_RECORDS_MAX,
            max_partition_fetch_bytes=settings.fetch_bytes,
            fetch_max_bytes=4 * settings.fetch_bytes,
            allow_auto_create_topics=False,
        )
        for topic in settings.topics:
            # A cold metadata cache gives an empty first assignment and a second rebalance.
            consumer.partitions_for_topic(topic)
        consumer.subscribe(list(settings.topics), listener=_Listener(self._on_assigned))
        return consumer

    def _on_assigned(self, partitions: Any) -> None:
        self._epoch += 1
        if self._consumer is not None:
            self._consumer.pause(*partitions)

    def _write_first_positions(self, partitions: Any) -> None:
        """A new group, or one whose commits ran out, begins at the oldest record; the ledger then moves it on."""
        begins = self._consumer.beginning_offsets(list(partitions), timeout_ms=CALL_TIMEOUT_MS)
        for partition, offset in begins.items():
            self._consumer.seek(partition, offset)
        self._commit({tp: kafka.OffsetAndMetadata(offset, "", -1) for tp, offset in begins.items()})

    def _commit(self, offsets: dict[Any, Any]) -> None:
        with _source_errors("committing"):
            try:
                self._open_consumer().commit(offsets, timeout_ms=CALL_TIMEOUT_MS)
            except _FENCED as error:
                raise FencedError(f"the group refused the commit: {error}") from error

    def _watch_group(self) -> None:
        now_ns = self._clock.monotonic_ns()
        state = self._consumer.group_metadata().state
        if str(getattr(state, "value", state)) == "<stable>":
            self._stable_ns = now_ns
        elif now_ns - self._stable_ns > self._settings.unstable_s_max * 1e9:
            _log.warning("outside a stable group for %.0f s: a new client", self._settings.unstable_s_max)
            self._close_consumer()
            self._epoch += 1

    def _check_topics(self) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._next_check_ns or self._consumer is None:
            return
        known, self._topics = self._topics, {}
        for topic, (topic_id, _) in known.items():
            found = self._described(topic)[0]
            if found != topic_id:
                self._topics = known  # a repeat must find the same
                raise FatalSourceError(
                    f"topic {topic} was deleted and made anew while it was read (its id was {topic_id} and is "
                    f"{found}). Run `trainledger admin rebuild`, or bring the old topic back"
                )
        self._next_check_ns = now_ns + round(TOPIC_CHECK_S * 1e9)

    def _described(self, topic: str) -> tuple[str, int]:
        if topic not in self._topics:
            with _source_errors(f"describing {topic}"):
                admin = kafka.KafkaAdminClient(**_connection(self._settings))
                try:
                    answers = admin.describe_topics(list(self._settings.topics))
                finally:
                    admin.close()
            for answer in answers:
                if not answer.get("error_code"):
                    found = (str(answer["topic_id"]), len(answer["partitions"]))
                    self._topics[str(answer["name"])] = found
        if topic not in self._topics:
            raise RetryableSourceError(f"topic {topic} does not exist; run `trainledger admin topics`")
        return self._topics[topic]

    def _edge(self, partition: TopicPartition, ask: Callable[[Any], Any]) -> int:
        with _source_errors("asking for offsets"):
            found = ask(self._open_consumer())([_foreign(partition)], timeout_ms=CALL_TIMEOUT_MS)
        return int(found[_foreign(partition)])

    def _close_consumer(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(kafka_errors.KafkaError):  # it is given up; the group puts it out by its timeout
                consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)


class _Listener(kafka.ConsumerRebalanceListener):  # type: ignore[misc] # the library has no types
    """Tells the source of new partitions from within `poll`."""

    def __init__(self, on_assigned: Callable[[Any], None]) -> None:
        self._on_assigned = on_assigned

    def on_partitions_assigned(self, assigned: Any) -> None:
        self._on_assigned(assigned)

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Nothing: what was not committed is dropped when the worker sees the new epoch."""


def _connection(settings: KafkaSourceSettings) -> dict[str, Any]:
    return {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "bootstrap_timeout_ms": CALL_TIMEOUT_MS,
        # A broker that is frozen costs half a core until its requests run out.
        "request_timeout_ms": 8000,
        "reconnect_backoff_max_ms": 1000,
        "metadata_max_age_ms": 30_000,
        **settings.security,
    }


def _foreign(partition: TopicPartition) -> Any:
    return kafka.TopicPartition(partition.topic, partition.partition)


@contextmanager
def _source_errors(during: str) -> Iterator[None]:
    try:
        yield
    except (kafka_errors.OffsetOutOfRangeError, kafka_errors.LogTruncationError) as error:
        raise FatalSourceError(
            f"{during}: the log does not hold the next record to read ({error}): it was removed or cut. "
            "Restore the topic, or run `trainledger admin rebuild`"
        ) from error
    except _FATAL as error:
        raise FatalSourceError(f"{during}: {error}; check the user's rights on the broker") from error
    except kafka_errors.KafkaError as error:
        raise RetryableSourceError(f"{during}: {error}") from error
