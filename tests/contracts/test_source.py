"""What every event log promises to the worker: one suite for the spool, Kafka and the one in memory."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import kafka
import pytest

from support.broker import Broker
from support.ingest_events import SpoolFiles
from trainledger_ingest.ingest_settings import KafkaSourceSettings
from trainledger_ingest.sources.kafka import KafkaSource
from trainledger_ingest.sources.memory import MemoryLog, MemorySource
from trainledger_ingest.sources.source import FencedError, Source, SourceRecord
from trainledger_ingest.sources.spool import SpoolSource
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import FatalSourceError
from trainledger_schemas.ids import id_text, random_id
from trainledger_schemas.positions import LogPosition, TopicPartition

WAIT_S = 40.0


class Log(Protocol):
    """A log that the suite can fill and read; topic `topic` exists and is empty at first."""

    topic: str

    def open(self) -> Source: ...
    def append(self, value: bytes, *, key: bytes = b"") -> int: ...
    def begin_anew(self) -> None: ...


class MemoryHarness:
    topic = "trainledger.runs"

    def __init__(self) -> None:
        self.log = MemoryLog({self.topic: 1})

    def open(self) -> Source:
        return MemorySource(self.log)

    def append(self, value: bytes, *, key: bytes = b"") -> int:
        return self.log.append(self.topic, value, key=key)

    def begin_anew(self) -> None:
        self.log = MemoryLog({self.topic: 1})


class SpoolHarness:
    topic = "trainledger.runs"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = SpoolFiles(folder)

    def open(self) -> Source:
        return SpoolSource(self.folder, self.files.durable_end, topics=[self.topic])

    def append(self, value: bytes, *, key: bytes = b"") -> int:
        return self.files.append(self.topic, value, key=key)

    def begin_anew(self) -> None:
        shutil.rmtree(self.folder)
        self.files = SpoolFiles(self.folder)


class KafkaHarness:
    def __init__(self, broker: Broker, *, partitions: int = 1) -> None:
        self.topic = f"contract-{id_text(random_id())}"
        self.partitions = partitions
        self.settings = KafkaSourceSettings(
            broker.bootstrap, f"group-{self.topic}", topics=(self.topic,), session_timeout_ms=6000
        )
        self._create()

    def open(self) -> Source:
        return KafkaSource(self.settings)

    def append(self, value: bytes, *, key: bytes = b"") -> int:
        producer = kafka.KafkaProducer(bootstrap_servers=self.settings.bootstrap_servers, acks="all")
        with closing(producer):
            sent = producer.send(self.topic, value, key=key, partition=0).get(timeout=30)
        return int(sent.offset)

    def begin_anew(self) -> None:
        with closing(kafka.KafkaAdminClient(bootstrap_servers=self.settings.bootstrap_servers)) as admin:
            admin.delete_topics([self.topic])
        until(self._is_gone)
        self._create()

    def _is_gone(self) -> bool:
        with closing(kafka.KafkaAdminClient(bootstrap_servers=self.settings.bootstrap_servers)) as admin:
            return self.topic not in admin.list_topics()

    def _create(self) -> None:
        wanted = {"num_partitions": self.partitions, "replication_factor": 1, "configs": {}}
        with closing(kafka.KafkaAdminClient(bootstrap_servers=self.settings.bootstrap_servers)) as admin:
            admin.create_topics({self.topic: wanted})


def until(is_so: Callable[[], bool]) -> None:
    """Poll a fact of the real world until it is so."""
    clock = SystemClock()
    deadline_ns = clock.monotonic_ns() + round(WAIT_S * 1e9)
    while not is_so():
        assert clock.monotonic_ns() < deadline_ns, "it did not come to be in time"
        clock.sleep(0.05)


def assigned(source: Source, topic: str, *, offset: int | None = None) -> TopicPartition:
    """Poll until partition 0 is ours, and set it to `offset` (its begin)."""
    partition = TopicPartition(topic, 0)

    def is_ours() -> bool:
        source.poll(0.0)
        return partition in source.assignment()

    if partition not in source.assignment():
        until(is_ours)
    source.seek(LogPosition(topic, 0, source.begin(partition) if offset is None else offset))
    source.resume(partition)
    return partition


def read(source: Source, count: int) -> list[SourceRecord]:
    """Poll until `count` records came."""
    found: list[SourceRecord] = []

    def is_enough() -> bool:
        found.extend(source.poll(0.2))
        return len(found) >= count

    until(is_enough)
    return found


@pytest.fixture(
    params=[
        pytest.param("memory", id="memory"),
        pytest.param("spool", id="spool"),
        pytest.param("kafka", id="kafka", marks=pytest.mark.kafka),
    ]
)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    if request.param == "memory":
        yield MemoryHarness()
    elif request.param == "spool":
        yield SpoolHarness(tmp_path / "spool")
    else:
        yield KafkaHarness(request.getfixturevalue("broker"))


def test_records_come_in_order_with_key_and_bytes_and_again_after_a_seek(log: Log) -> None:
    offsets = [log.append(b"value %d" % n, key=b"key") for n in range(5)]
    with closing(log.open()) as source:
        partition = assigned(source, log.topic)
        first = read(source, 5)
        assert [(r.offset, r.key, r.value) for r in first] == [
            (offset, b"key", b"value %d" % n) for n, offset in enumerate(offsets)
        ]
        source.seek(LogPosition(partition.topic, 0, offsets[2]))
        assert read(source, 3) == first[2:]


def test_begin_and_end_bound_what_can_be_read_and_grow_with_the_log(log: Log) -> None:
    with closing(log.open()) as source:
        partition = assigned(source, log.topic)
        assert source.begin(partition) == source.end(partition) == 0
        log.append(b"one")
        until(lambda: source.end(partition) == 1)
        assert source.begin(partition) == 0
        assert source.partitions(log.topic) == 1


def test_a_paused_partition_gives_nothing_until_it_is_resumed(log: Log) -> None:
    log.append(b"one")
    with closing(log.open()) as source:
        partition = assigned(source, log.topic)
        source.pause(partition)
        assert source.poll(0.0) == []
        source.resume(partition)
        assert [record.value for record in read(source, 1)] == [b"one"]


def test_a_second_reader_sees_the_same_log(log: Log) -> None:
    log.append(b"one")
    with closing(log.open()) as source:
        assigned(source, log.topic)
        first, first_id = read(source, 1), source.topic_id(log.topic)
    with closing(log.open()) as source:
        assigned(source, log.topic)
        assert read(source, 1) == first
        assert source.topic_id(log.topic) == first_id


def test_a_log_that_was_begun_anew_has_another_id(log: Log) -> None:
    log.append(b"one")
    with closing(log.open()) as source:
        assigned(source, log.topic)
        old_id = source.topic_id(log.topic)
    log.begin_anew()
    with closing(log.open()) as source:
        assert source.topic_id(log.topic) != old_id


def test_reading_on_behind_the_end_of_the_log_is_refused(log: Log) -> None:
    log.append(b"one")
    with closing(log.open()) as source, pytest.raises(FatalSourceError):
        assigned(source, log.topic, offset=50)
        read(source, 1)


def test_a_commit_is_there_for_the_next_reader_with_its_metadata(log: Log) -> None:
    log.append(b"one")
    with closing(log.open()) as source:
        if not source.capabilities.intents:
            assert source.committed(TopicPartition(log.topic, 0)) is None
            return
        partition = assigned(source, log.topic)
        source.commit(partition, 1, '{"end":2}')
    with closing(log.open()) as source:
        partition = assigned(source, log.topic)
        assert source.committed(partition) == (1, '{"end":2}')


def test_an_empty_poll_of_a_log_that_says_so_means_that_all_was_read(log: Log) -> None:
    with closing(log.open()) as source:
        if not source.capabilities.complete_polls:
            assert isinstance(source, KafkaSource)
            return
        partition = assigned(source, log.topic)
        for n in range(700):
            log.append(b"%d" % n)
        count = 0
        while found := source.poll(0.0):
            count += len(found)
        assert count == 700 == source.end(partition)


def test_a_memory_reader_whose_partitions_were_taken_cannot_commit_until_it_polls() -> None:
    log = MemoryLog({"trainledger.runs": 1})
    first = MemorySource(log)
    second = MemorySource(log)
    partition = TopicPartition("trainledger.runs", 0)
    with pytest.raises(FencedError):
        first.commit(partition, 0, "")
    second.commit(partition, 0, "mine")
    epoch = first.epoch()
    first.poll(0.0)
    assert first.epoch() != epoch
    with pytest.raises(FencedError):
        second.commit(partition, 0, "")


@pytest.mark.kafka
def test_a_kafka_member_cannot_commit_what_a_rebalance_gave_to_another(broker: Broker) -> None:
    log = KafkaHarness(broker, partitions=2)
    with closing(log.open()) as first, closing(log.open()) as second:
        until(lambda: (first.poll(0.0), len(first.assignment()) == 2)[1])
        epoch, before = first.epoch(), first.assignment()

        def is_shared() -> bool:
            second.poll(0.0)
            first.poll(0.0)
            return len(second.assignment()) == len(first.assignment()) == 1

        until(is_shared)
        assert first.epoch() != epoch
        (lost,) = before - first.assignment()
        with pytest.raises(FencedError):
            first.commit(lost, 0, "")
        (kept,) = first.assignment()
        first.commit(kept, 0, "kept")
        assert first.committed(kept) == (0, "kept")
