"""What the Kafka client and the topics are told. Every option that matters is given: defaults change.

Values alone, no client: `kafka_client` is the one module of the agent that imports it.
"""

from typing import Any

from trainledger.node.node_settings import KafkaSettings
from trainledger_schemas.events import TOPICS
from trainledger_schemas.spool import FRAME_BYTES_MAX

__all__ = ["METADATA_WAIT_MS", "client_options", "producer_options", "topic_options"]

# The longest frame with room for the batch around it; topics are made with the same limit.
MESSAGE_BYTES_MAX = FRAME_BYTES_MAX + (1 << 20)
# The idempotent producer never works again once this has passed for one record, so it never passes.
DELIVERY_TIMEOUT_MS = 2**31 - 1
METADATA_WAIT_MS = 5000
LOG_RETENTION_MS = 30 * 24 * 3600 * 1000
REPLICATION = 3


def topic_options(name: str, brokers: int, partitions: int) -> dict[str, Any]:
    replication = min(REPLICATION, brokers)
    return {
        "num_partitions": partitions,
        "replication_factor": replication,
        "configs": {
            "cleanup.policy": "delete",
            "retention.bytes": "-1",
            "retention.ms": "-1" if TOPICS[name].durable else str(LOG_RETENTION_MS),
            "min.insync.replicas": "2" if replication >= REPLICATION else "1",
            "compression.type": "producer",
            "max.message.bytes": str(MESSAGE_BYTES_MAX),
            # The broker's time: a node with a wrong clock must neither be refused nor shorten retention.
            "message.timestamp.type": "LogAppendTime",
        },
    }


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    address = settings.address()
    return {
        "bootstrap_servers": address.servers(),
        "client_id": "trainledger-agent",
        "request_timeout_ms": settings.request_timeout_ms,
        "reconnect_backoff_ms": 100,
        "reconnect_backoff_max_ms": settings.reconnect_backoff_ms_max,
        "retry_backoff_ms": 100,
        "bootstrap_timeout_ms": METADATA_WAIT_MS,
        "metadata_max_age_ms": settings.metadata_age_ms_max,
        **address.security_options(),
    }


def producer_options(settings: KafkaSettings) -> dict[str, Any]:
    return client_options(settings) | {
        "acks": "all",
        "enable_idempotence": True,
        "delivery_timeout_ms": DELIVERY_TIMEOUT_MS,
        "max_in_flight_requests_per_connection": 5,
        "max_block_ms": METADATA_WAIT_MS,
        "max_request_size": MESSAGE_BYTES_MAX,
        "batch_size": settings.batch_bytes_max,
        "linger_ms": settings.linger_ms,
        "compression_type": "lz4",
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }
