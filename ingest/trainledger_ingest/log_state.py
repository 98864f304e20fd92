"""Whether the tables are up with the log of what runs name: asked before anything is removed for good.

Topics `runs` and `admin` decide: all references and aliases are in them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trainledger_schemas.clock import Clock
from trainledger_schemas.events import TOPIC_ADMIN, TOPIC_RUNS
from trainledger_schemas.ids import id_text
from trainledger_schemas.kafka_address import parse_kafka_address
from trainledger_schemas.positions import TopicPartition

from .ingest_settings import KafkaSourceSettings
from .ledger import Ledger
from .sources.source import Source
from .storage.migrate import Schema, Tables
from .storage.store import Store
from .worker import Worker

__all__ = ["LogState", "await_log", "ends_of", "kafka_ends", "state_of_spool"]

NAMING_TOPICS = (TOPIC_RUNS, TOPIC_ADMIN)
CATCH_UP_S = 30.0
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class LogState:
    """`unread`: records that were in the log when it was asked for and are not in the tables; None where the log
    cannot be asked. `journals`: the folder whose journals are in the tables too, all that they held. `producers`:
    UUIDs of the spools that the tables have events of. `why`: what stands in the way, as words for a person."""

    unread: int | None
    journals: str | None = None
    producers: tuple[str, ...] = ()
    why: str = ""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "LogState":
        """Of `as_row`, after it was JSON."""
        return cls(row["unread"], row["journals"], tuple(row["producers"]), row["why"])

    def as_row(self) -> dict[str, Any]:
        """For the API."""
        return asdict(self)


def ends_of(source: Source) -> dict[TopicPartition, int]:
    """Where each partition that matters ends now. Raises RetryableError."""
    partitions = [TopicPartition(t, number) for t in NAMING_TOPICS for number in range(source.partitions(t))]
    return {partition: source.end(partition) for partition in partitions}


def kafka_ends(kafka: str) -> dict[TopicPartition, int]:
    """The same of the brokers in TRAINLEDGER_KAFKA. Raises RetryableError."""
    # Loaded here: the Kafka client costs 0.3 s.
    from .sources.kafka import KafkaSource

    address = parse_kafka_address(kafka)
    settings = KafkaSourceSettings(
        ",".join(address.servers()), "trainledger-ends", security=address.security_options()
    )
    source = KafkaSource(settings)
    try:
        return ends_of(source)
    finally:
        source.close()


def state_of_spool(
    worker: Worker | None, source: Source, store: Store, schema: Schema, journals: str | None
) -> LogState:
    """Of the log of this home, after its worker has read it; `worker` None: that log goes elsewhere."""
    if worker is None:
        why = "the log of this home goes to Kafka, and the tables here do not follow it"
        return LogState(
            None, why=f"{why}; set TRAINLEDGER_CLICKHOUSE and TRAINLEDGER_KAFKA to ask the cluster"
        )
    ends = ends_of(source)
    worker.drain()
    return _compare(Ledger(store, schema.tables), ends, journals=journals)


def await_log(
    ends: Mapping[TopicPartition, int],
    store: Store,
    tables: Tables,
    *,
    clock: Clock,
    wait_s: float = CATCH_UP_S,
) -> LogState:
    """Of tables that a worker elsewhere fills: waits until they have what was below `ends`, or for `wait_s`."""
    ledger = Ledger(store, tables)
    give_up_ns = clock.monotonic_ns() + round(wait_s * 1e9)
    while True:
        state = _compare(ledger, ends, journals=None)
        if not state.unread or clock.monotonic_ns() >= give_up_ns:
            return state
        clock.sleep(POLL_S)


def _compare(ledger: Ledger, ends: Mapping[TopicPartition, int], *, journals: str | None) -> LogState:
    unread = sum(max(0, end - (ledger.end(partition) or 0)) for partition, end in ends.items())
    why = f"the tables are {unread} records behind the log; see that the worker runs" if unread else ""
    return LogState(unread, journals, tuple(sorted(map(id_text, ledger.producers()))), why)
