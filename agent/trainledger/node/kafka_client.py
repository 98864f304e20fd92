"""The one place of the agent that speaks to Kafka's client library: connect, give up, make topics, look at them.

The library's own errors end here: callers see RetryableSourceError (the broker is away or refuses for now), with
the address and how to mend it. A call blocks for METADATA_WAIT_MS a step at most, whatever the broker does.
"""

import gc
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, KafkaTimeoutError, TopicAlreadyExistsError

from trainledger.node.kafka_options import client_options, producer_options, topic_options
from trainledger.node.node_settings import KafkaSettings, parse_kafka
from trainledger_schemas.errors import RetryableSourceError
from trainledger_schemas.events import TOPICS

__all__ = [
    "SENDER_JOIN_S",
    "BrokerView",
    "TopicState",
    "abandon",
    "check_reachable",
    "connect_producer",
    "create_topics",
    "look_at_broker",
    "partition_count",
    "send_acknowledged",
]

SENDER_JOIN_S = 10.0
CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it is at the broker; `differences` from what it should be, as words for a person."""

    topic: str
    partitions: int
    replication: int
    was_created: bool
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BrokerView:
    """A cluster as a client sees it: how many brokers, the topics that are there, and those that are not."""

    brokers: int
    topics: tuple[TopicState, ...]
    missing: tuple[str, ...]

    @property
    def differences(self) -> tuple[str, ...]:
        """What is not as it should be, each with its topic's name."""
        return tuple(f"{state.topic}: {text}" for state in self.topics for text in state.differences)


def create_topics(
    kafka: str | KafkaSettings, *, partitions: Mapping[str, int] | None = None
) -> list[TopicState]:
    """Make the topics that are missing and compare the others; a repeat is harmless, nothing is changed.

    `kafka`: as TRAINLEDGER_KAFKA has it, or settings. `partitions`: other counts than the defaults, by topic name;
    a count is for ever. Three replicas, and two that must have a record, where the cluster has three brokers.
    Raises RetryableSourceError when the broker cannot be reached or refuses.
    """
    with _administering(kafka) as admin:
        wanted = _wanted(len(admin.describe_cluster()["brokers"]), partitions or {})
        present = set(admin.list_topics())
        missing = {name: options for name, options in wanted.items() if name not in present}
        if missing:
            try:
                admin.create_topics(missing, wait_for_metadata=True)
            except TopicAlreadyExistsError:
                pass  # somebody made them at the same time; what there is now is compared below
        return _compare(admin, wanted, set(missing))


def look_at_broker(kafka: str | KafkaSettings) -> BrokerView:
    """What is there, changing nothing. Raises RetryableSourceError when the broker cannot be reached or refuses."""
    with _administering(kafka) as admin:
        brokers = len(admin.describe_cluster()["brokers"])
        wanted = _wanted(brokers, {})
        present = set(admin.list_topics())
        found = {name: options for name, options in wanted.items() if name in present}
        states = _compare(admin, found, set()) if found else []
        return BrokerView(brokers, tuple(states), tuple(name for name in wanted if name not in present))


@contextmanager
def _administering(kafka: str | KafkaSettings) -> Iterator[Any]:
    settings = parse_kafka(kafka) if isinstance(kafka, str) else kafka
    # First by hand: the admin client would leave a thread behind.
    check_reachable(settings)
    try:
        admin = KafkaAdminClient(**client_options(settings))
    except KafkaError as error:
        raise RetryableSourceError(f"no Kafka broker at {settings.bootstrap}: {error}") from error
    try:
        yield admin
    except KafkaError as error:
        raise RetryableSourceError(f"Kafka at {settings.bootstrap} refused: {error}") from error
    finally:
        admin.close()


def _wanted(brokers: int, partitions: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    return {
        name: topic_options(name, brokers, partitions.get(name, rule.partitions))
        for name, rule in TOPICS.items()
    }


def _compare(admin: Any, wanted: Mapping[str, dict[str, Any]], created: set[str]) -> list[TopicState]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
    configs = admin.describe_configs(resources, config_filter="all")["topic"]
    states = []
    for described in admin.describe_topics(list(wanted)):
        name, options = described["name"], wanted[described["name"]]
        count = len(described["partitions"])
        replication = min((len(item["replica_nodes"]) for item in described["partitions"]), default=0)
        differences = []
        if count != options["num_partitions"]:
            differences.append(f"{count} partitions, not {options['num_partitions']} (fixed for ever)")
        if replication < options["replication_factor"]:
            differences.append(f"{replication} replicas, not {options['replication_factor']}")
        for key, value in options["configs"].items():
            found = configs.get(name, {}).get(key, {}).get("value")
            if found != value:
                differences.append(f"{key} is {found}, not {value}")
        states.append(TopicState(name, count, replication, name in created, tuple(differences)))
    return sorted(states, key=lambda state: TOPICS[state.topic].number)


def connect_producer(settings: KafkaSettings) -> Any:
    """A producer that has reached a broker; end it by `abandon`. Raises RetryableSourceError."""
    try:
        return KafkaProducer(**producer_options(settings))
    except KafkaError as error:
        # A client that could not connect leaves its sockets to the garbage collector, which may not come by
        # before a broker that is away for hours has cost all file descriptors.
        gc.collect()
        raise RetryableSourceError(
            f"no Kafka broker at {settings.bootstrap} ({error}); start it, or correct TRAINLEDGER_KAFKA"
        ) from error


def check_reachable(settings: KafkaSettings) -> None:
    """Raise RetryableSourceError, with the reason for each, when no bootstrap server takes a connection."""
    reasons = []
    for server in settings.address().servers():
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
            return
        except (OSError, ValueError, OverflowError) as error:
            reasons.append(f"{server}: {error}")
    raise RetryableSourceError(
        f"no Kafka broker answers ({'; '.join(reasons)}); start it, or correct TRAINLEDGER_KAFKA"
    )


def partition_count(producer: Any, topic: str) -> int:
    """How many partitions a topic has at the broker; raises RetryableSourceError when it is not known there."""
    try:
        found: set[int] = producer.partitions_for(topic)
    except KafkaError as error:
        raise RetryableSourceError(
            f'topic {topic} is not known at the broker: make it with "trainledger admin topics" ({error})'
        ) from error
    return len(found)


def send_acknowledged(
    producer: Any, topic: str, *, partition: int, key: bytes, value: bytes, timeout_s: float
) -> int:
    """Send one record and wait for all replicas; its offset. Raises RetryableSourceError: outcome unknown."""
    try:
        future = producer.send(topic, value=value, key=key, partition=partition)
        return int(future.get(timeout=timeout_s).offset)
    except KafkaTimeoutError as error:
        raise RetryableSourceError(f"the broker did not acknowledge it within {timeout_s:g} s") from error
    except KafkaError as error:
        raise RetryableSourceError(f"the broker refused it: {error}") from error


def abandon(producer: Any) -> None:
    """Stop a producer for good without sending anything more. `close()` alone leaves its thread writing."""
    sender = producer._sender
    producer._unregister_cleanup()
    sender.force_close()
    sender.join(SENDER_JOIN_S)
    # Marked closed by hand: the destructor would wait for records that will never be sent, and mute the
    # client's log for the whole process.
    producer._closed = True
