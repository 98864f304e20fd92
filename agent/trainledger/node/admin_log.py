"""Facts of the administrator (prices, decisions, records of a scheduler) straight into the cluster's log.

Guarantees: when `append` returns, all replicas have the event. It goes around the spool on purpose: a price that a
person set is taken now or refused now, never some day when the broker is back. What is not certain is said: after
an error without an answer the event may be in the log all the same; a repeat of the command is harmless.
Limits: an `append` blocks for 5 s each to connect and to ask for the topic, and for ACKNOWLEDGE_S.
"""

import socket
from collections.abc import Mapping
from typing import Any

from trainledger.node.kafka_client import (
    abandon,
    check_reachable,
    connect_producer,
    partition_count,
    send_acknowledged,
)
from trainledger.node.node_settings import KafkaSettings
from trainledger_schemas.avro_codec import encode_event
from trainledger_schemas.clock import Clock, SystemClock, read_boot_id
from trainledger_schemas.errors import RetryableSourceError
from trainledger_schemas.events import EVENT_TOPICS, Envelope
from trainledger_schemas.ids import IdSource, random_id
from trainledger_schemas.partitioning import partition_of
from trainledger_schemas.positions import LogPosition

__all__ = ["AdminLog"]

ACKNOWLEDGE_S = 10.0
ADMIN_KEY = b"admin"


class AdminLog:
    """Sends an administrator's events; a producer of its own, made at the first `append` and ended by `close`."""

    def __init__(
        self, settings: KafkaSettings, *, node_id: str, clock: Clock | None = None, ids: IdSource = random_id
    ) -> None:
        self._settings = settings
        self._node_id = node_id or socket.gethostname() or "localhost"
        self._clock = clock or SystemClock()
        # One command is one producer of events: its numbers begin at 0 under an id that nobody had before.
        self._producer_id = ids()
        self._next_seq = 0
        self._producer: Any = None

    def append(self, event_type: str, fields: Mapping[str, Any], *, key: bytes = ADMIN_KEY) -> LogPosition:
        """Send one event, given without its envelope; the position behind it in the log.

        Raises RetryableSourceError: no broker, no topic, or no acknowledgement in time."""
        producer = self._connected()
        topic = EVENT_TOPICS[event_type]
        partition = partition_of(key, partition_count(producer, topic))
        payload = encode_event(event_type, {"envelope": self._envelope(), **fields})
        self._next_seq += 1
        try:
            offset = send_acknowledged(
                producer,
                topic,
                partition=partition,
                key=key,
                value=payload,
                timeout_s=ACKNOWLEDGE_S,
            )
        except RetryableSourceError as error:
            self.close()
            raise RetryableSourceError(
                f"{event_type} went to Kafka at {self._settings.bootstrap}, and {error}: it may have been taken all"
                " the same. See that the broker works, then give the command again; a repeat is harmless"
            ) from error
        return LogPosition(topic, partition, offset + 1)

    def close(self) -> None:
        """Let the broker go; harmless when repeated."""
        producer, self._producer = self._producer, None
        if producer is not None:
            abandon(producer)

    def _connected(self) -> Any:
        if self._producer is None:
            check_reachable(self._settings)
            self._producer = connect_producer(self._settings)
        return self._producer

    def _envelope(self) -> Envelope:
        return {
            "producer_id": self._producer_id,
            "seq": self._next_seq,
            "node_id": self._node_id,
            "wall_us": self._clock.wall_ns() // 1000,
            "boot_id": read_boot_id(),
            "boot_us": self._clock.boot_ns() // 1000,
            "source": None,
        }
