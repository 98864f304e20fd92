"""Publishing to a real broker: through its death, and never in the way."""

import gc
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from support.broker import Broker
from support.journals import JournalFile
from support.polling import poll_until
from trainledger.node.daemon import NodeAgent
from trainledger.node.identity import load_identity
from trainledger.node.kafka_client import create_topics
from trainledger.node.node_settings import AgentSettings, KafkaSettings
from trainledger.node.publisher import Publisher
from trainledger.node.spool import Spool, SpoolSettings
from trainledger_schemas.avro_codec import decode_event
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import FatalSourceError, RetryableSourceError
from trainledger_schemas.events import TOPIC_LOGS, TOPIC_METRICS, TOPIC_NODES, TOPIC_RUNS, TOPICS
from trainledger_schemas.partitioning import partition_of

pytestmark = [
    pytest.mark.kafka,
    # The client drops the sockets of failed connection attempts without closing them; the collector does it.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of this module's own: its tests kill it, and the topic names are the real ones."""
    with Broker(tmp_path_factory.mktemp("kafka")) as broker:
        create_topics(broker.bootstrap)
        yield broker


@pytest.fixture(autouse=True)
def dropped_sockets() -> Iterator[None]:
    """Collects them here, where their warning is expected, and not in somebody else's test."""
    yield
    gc.collect()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    folder = tmp_path / "spool"
    spool = Spool.open(folder, identity=load_identity(folder), clock=CLOCK, settings=SpoolSettings())
    yield spool
    spool.close()


def settings_for(broker: Broker, **changed: Any) -> KafkaSettings:
    return KafkaSettings(broker.bootstrap, **{"cursor_interval_s": 0.05, **changed})


@contextmanager
def publishing(spool: Spool, settings: KafkaSettings) -> Iterator[Publisher]:
    publisher = Publisher(spool.folder, settings, synced_end=spool.synced_end, clock=CLOCK)
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.stop(0.0)


def append_gone(spool: Spool, count: int, *, first: int = 0) -> None:
    """`count` events of the runs topic, over 16 runs."""
    with spool.batch():
        for number in range(first, first + count):
            run_id = bytes([number % 16]) * 16
            fields = {
                "run_id": run_id,
                "writer_id": number.to_bytes(16, "big"),
                "at_us": number,
                "evidence": "lock_free",
                "exit_seen": False,
            }
            spool.append("writer_gone", fields, key=run_id)
    spool.sync()


def append_lines(spool: Spool, count: int, *, line_bytes: int) -> None:
    """`count` log chunks of about `line_bytes` of text each."""
    for number in range(count):
        fields = {
            "run_id": bytes(16),
            "writer_id": bytes(16),
            "stream": "stdout",
            "first_line": number,
            "at_us": [number],
            "offset": [number],
            "text": [noise(number, line_bytes)],
        }
        spool.append("log_chunk", fields, key=bytes(16))
    spool.sync()


def noise(seed: int, count: int) -> str:
    """Text that does not compress below half of its length."""
    digests = (hashlib.sha256(f"{seed}/{part}".encode()).hexdigest() for part in range(count // 64 + 1))
    return "".join(digests)[:count]


def read_topic(broker: Broker, topic: str, producer_id: bytes) -> dict[int, list[Any]]:
    """Records of one producer by partition, in the broker's order: (seq, key, payload)."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        partitions = [TopicPartition(topic, number) for number in range(TOPICS[topic].partitions)]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        found: dict[int, list[Any]] = {partition.partition: [] for partition in partitions}
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for partition, records in consumer.poll(1000).items():
                for record in records:
                    envelope = decode_event(record.value).record["envelope"]
                    if envelope["producer_id"] == producer_id:
                        found[partition.partition].append((envelope["seq"], record.key, record.value))
        return found
    finally:
        consumer.close(timeout_ms=2000)


def producer_of(spool: Spool) -> bytes:
    return load_identity(spool.folder).producer_id


def first_copies(records: list[Any]) -> list[Any]:
    """Records without repeats; a repeat must be the same to the byte."""
    seen: dict[int, Any] = {}
    for record in records:
        assert seen.setdefault(record[0], record) == record
    return list(seen.values())


def test_everything_spooled_arrives_once_in_its_partition_and_in_order(
    own_broker: Broker, spool: Spool
) -> None:
    append_gone(spool, 500)
    with publishing(spool, settings_for(own_broker)) as publisher:
        assert publisher.stop(30.0)
    found = read_topic(own_broker, TOPIC_RUNS, producer_of(spool))
    assert sum(len(records) for records in found.values()) == 500
    for partition, records in found.items():
        assert [seq for seq, _, _ in records] == sorted(seq for seq, _, _ in records)
        assert all(partition_of(key, TOPICS[TOPIC_RUNS].partitions) == partition for _, key, _ in records)
    assert publisher.published()[TOPIC_RUNS] == 500
    assert json.loads((spool.folder / "published.cursor").read_text())[TOPIC_RUNS] == 500


def test_publisher_that_starts_again_goes_on_behind_its_cursor(own_broker: Broker, spool: Spool) -> None:
    append_gone(spool, 100)
    with publishing(spool, settings_for(own_broker)) as publisher:
        assert publisher.stop(30.0)
    append_gone(spool, 50, first=100)
    with publishing(spool, settings_for(own_broker)) as publisher:
        assert publisher.stop(30.0)
        assert publisher.status().acknowledged_records == 50
    found = read_topic(own_broker, TOPIC_RUNS, producer_of(spool))
    assert sum(len(records) for records in found.values()) == 150


def test_broker_that_is_killed_while_publishing_loses_nothing_and_blocks_nobody(
    own_broker: Broker, spool: Spool
) -> None:
    count = 0
    with publishing(spool, settings_for(own_broker)) as publisher:
        for _ in range(2):
            append_gone(spool, 1500, first=count)
            poll_until(lambda: publisher.published().get(TOPIC_RUNS, 0) > count)  # noqa: B023 - called at once
            own_broker.kill()
            begin_ns = CLOCK.monotonic_ns()
            append_gone(spool, 500, first=count + 1500)
            assert (CLOCK.monotonic_ns() - begin_ns) / 1e9 < 5.0
            count += 2000
            own_broker.start()
        assert publisher.stop(60.0)
    found = read_topic(own_broker, TOPIC_RUNS, producer_of(spool))
    unique = {partition: first_copies(records) for partition, records in found.items()}
    assert sum(len(records) for records in unique.values()) == count
    for records in unique.values():
        assert [seq for seq, _, _ in records] == sorted(seq for seq, _, _ in records)


def test_records_that_the_broker_refuses_are_sent_again_on_a_new_producer(
    own_broker: Broker, spool: Spool
) -> None:
    admin = KafkaAdminClient(bootstrap_servers=own_broker.bootstrap)
    topic = ConfigResource(ConfigResourceType.TOPIC, TOPIC_LOGS, configs={"max.message.bytes": "2000"})
    try:
        admin.alter_configs([topic])
        append_lines(spool, 20, line_bytes=8000)
        append_gone(spool, 10)
        with publishing(spool, settings_for(own_broker)) as publisher:
            poll_until(lambda: publisher.status().producers >= 2)
            assert publisher.published().get(TOPIC_LOGS, 0) == 0
            topic.configs["max.message.bytes"] = "5000000"
            admin.alter_configs([topic])
            assert publisher.stop(60.0)
    finally:
        admin.close()
    found = read_topic(own_broker, TOPIC_LOGS, producer_of(spool))
    assert sum(len(first_copies(records)) for records in found.values()) == 20


def test_bytes_in_flight_stay_bounded_while_the_broker_is_away(own_broker: Broker, spool: Spool) -> None:
    in_flight_bytes_max = 5 << 20
    with publishing(spool, settings_for(own_broker, in_flight_bytes_max=in_flight_bytes_max)) as publisher:
        poll_until(lambda: publisher.status().is_connected)
        own_broker.pause()
        try:
            append_lines(spool, 400, line_bytes=100_000)
            publisher.wake()
            poll_until(lambda: publisher.status().in_flight_bytes > 900_000)
            peak = max(publisher.status().in_flight_bytes for _ in range(100_000))
            assert peak <= in_flight_bytes_max + 100_200
        finally:
            own_broker.resume()
        assert publisher.stop(60.0)
    found = read_topic(own_broker, TOPIC_LOGS, producer_of(spool))
    assert sum(len(first_copies(records)) for records in found.values()) == 400


def test_other_partition_count_than_before_stops_publishing_and_says_why(
    own_broker: Broker, spool: Spool
) -> None:
    (spool.folder / "topics.json").write_text(json.dumps({TOPIC_RUNS: {"partitions": 3}}))
    append_gone(spool, 10)
    with publishing(spool, settings_for(own_broker)) as publisher:
        poll_until(lambda: publisher.failure is not None)
        assert isinstance(publisher.failure, FatalSourceError)
        assert "gets a new name" in str(publisher.failure)
        assert publisher.published() == {}
    append_gone(spool, 10, first=10)  # collecting goes on


def test_agent_publishes_journals_and_its_own_events_until_the_end(
    own_broker: Broker, tmp_path: Path
) -> None:
    JournalFile(tmp_path / "journals").rows(30)
    settings = AgentSettings(kafka=settings_for(own_broker))
    agent = NodeAgent.open(tmp_path / "home", tmp_path / "journals", kind="agent", settings=settings)
    try:
        agent.step()
        assert agent.publish(30.0)
    finally:
        agent.close(leaving=True)
    metrics = read_topic(own_broker, TOPIC_METRICS, agent.identity.producer_id)
    assert sum(len(records) for records in metrics.values()) == 1
    nodes = read_topic(own_broker, TOPIC_NODES, agent.identity.producer_id)
    records = [record for records in nodes.values() for record in records]
    last = decode_event(records[-1][2])
    assert (last.type, last.record["leaving"]) == ("node_present", True)
    assert {key for _, key, _ in records} == {agent.identity.node_id.encode()}


def test_partition_counts_seen_first_are_stored(own_broker: Broker, spool: Spool) -> None:
    with publishing(spool, settings_for(own_broker)) as publisher:
        poll_until(lambda: publisher.status().is_connected)
    stored = json.loads((spool.folder / "topics.json").read_text())
    assert stored == {name: {"partitions": rule.partitions} for name, rule in TOPICS.items()}


def test_damaged_cursor_is_refused_and_says_how_to_mend_it(own_broker: Broker, spool: Spool) -> None:
    (spool.folder / "published.cursor").write_text("[1, 2")
    with pytest.raises(FatalSourceError, match="remove it"):
        Publisher(spool.folder, settings_for(own_broker), synced_end=spool.synced_end, clock=CLOCK)


def test_topics_are_made_with_their_counts_and_retention_and_a_repeat_changes_nothing(
    own_broker: Broker,
) -> None:
    states = create_topics(own_broker.bootstrap)
    assert [state.topic for state in states] == list(TOPICS)
    assert not any(state.was_created for state in states)
    assert {state.topic: state.partitions for state in states} == {
        name: rule.partitions for name, rule in TOPICS.items()
    }
    assert all(state.replication == 1 for state in states)
    admin = KafkaAdminClient(bootstrap_servers=own_broker.bootstrap)
    try:
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in TOPICS]
        configs = admin.describe_configs(resources, config_filter="all")["topic"]
    finally:
        admin.close()
    assert configs[TOPIC_NODES]["retention.ms"]["value"] == "-1"
    assert int(configs[TOPIC_METRICS]["retention.ms"]["value"]) > 0
    assert configs[TOPIC_RUNS]["min.insync.replicas"]["value"] == "1"


def test_topics_that_are_not_as_wanted_are_named_and_left_alone(own_broker: Broker) -> None:
    states = {state.topic: state for state in create_topics(own_broker.bootstrap, partitions={TOPIC_RUNS: 7})}
    assert any("4 partitions, not 7" in difference for difference in states[TOPIC_RUNS].differences)
    assert states[TOPIC_RUNS].partitions == 4


def test_no_broker_is_a_retryable_error_that_names_the_address() -> None:
    with pytest.raises(RetryableSourceError, match=r"127\.0\.0\.1:1"):
        create_topics(KafkaSettings("127.0.0.1:1"))
