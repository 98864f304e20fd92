"""`trainledger ingest`: a worker from Kafka into ClickHouse, or into the embedded tables of a home."""

from collections.abc import Callable
from threading import Event

from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import UsageError

from .derive import Derivation
from .home_lock import HomeLock
from .ingest_settings import KafkaSourceSettings, WorkerSettings
from .settings import IngestSettings
from .sources.kafka import KafkaSource
from .storage.chdb import ChdbStore
from .storage.clickhouse import ClickHouseStore
from .storage.migrate import migrate
from .storage.opening import open_server, open_tables
from .worker import Worker

__all__ = ["run_ingest"]

POLL_S = 1.0


def run_ingest(
    settings: IngestSettings, *, group: str, once: bool, stop: Event, say: Callable[[str], None]
) -> None:
    """Consume until `stop` is set, or with `once` until the end that the topics had at the start.

    Raises UsageError without a broker, HomeLockedError when the home's tables are in use."""
    if settings.kafka is None:
        raise UsageError(
            "set TRAINLEDGER_KAFKA to the bootstrap servers, as in TRAINLEDGER_KAFKA=broker:9092"
        )
    lock: HomeLock | None = None
    store: ChdbStore | ClickHouseStore
    if settings.clickhouse is not None:
        store = open_server(settings.clickhouse)
    else:
        lock = HomeLock.acquire(settings.home, kind="ingest", wait_s=0.0, clock=SystemClock())
        store = open_tables(settings)
    try:
        schema = migrate(store)
        derivation = Derivation(store, schema.generation)
        derivation.catch_up()
        source = KafkaSource(KafkaSourceSettings(settings.kafka, f"{group}-{schema.generation}"))
        worker = Worker(
            source,
            store,
            schema.tables,
            clock=SystemClock(),
            settings=WorkerSettings(),
            on_batch=derivation.refresh,
        )
        try:
            say(f"ready: {settings.kafka} into {schema.generation}")
            if once:
                worker.drain()
            while not once and not stop.is_set():
                worker.step(POLL_S)
        finally:
            worker.close()
    finally:
        store.close()
        if lock is not None:
            lock.release()
