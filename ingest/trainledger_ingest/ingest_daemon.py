"""`trainledger ingest`: a worker from Kafka into ClickHouse, or into the embedded tables of a home.

Prints one line that starts with `ready` on stdout once it reads, logs JSON lines on stderr, and ends clean when it
is told to stop. A store that cannot be reached, at the start too, is tried again for ever.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event

from trainledger_schemas.clock import Clock, SystemClock
from trainledger_schemas.errors import RetryableError, UsageError
from trainledger_schemas.events import TOPIC_ADMIN
from trainledger_schemas.exposition import Exposition
from trainledger_schemas.kafka_address import parse_kafka_address
from trainledger_schemas.positions import TopicPartition
from trainledger_schemas.structured_log import Repeats, say

from .admin_events import admin_record
from .alert_channels import AlertChannel
from .alert_watch import alert_watch
from .derive import Derivation
from .dirty import Dirty
from .home_lock import HomeLock
from .ingest_settings import KafkaSourceSettings, WorkerSettings
from .manifest_index import ManifestIndex
from .reproduce.blob_places import known_blobs
from .settings import IngestSettings
from .sources.kafka import KafkaSource
from .storage.chdb import ChdbStore
from .storage.clickhouse import ClickHouseStore
from .storage.migrate import Schema, migrate
from .storage.opening import open_server, open_tables
from .tables_place import VIEWS, mark_fed_by_kafka
from .worker import Worker

__all__ = ["IngestOptions", "run_ingest"]

POLL_S = 1.0
LAG_INTERVAL_S = 10.0
OPEN_RETRY_S = 5.0
# Where it is noted which alerts were sent: the worker that reads it tells.
_ADMIN = TopicPartition(TOPIC_ADMIN, 0)

_Store = ChdbStore | ClickHouseStore


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """What the command line says. `once`: to the end that the topics had at the start; `metrics`: HOST:PORT;
    `alerts`: where alerts go."""

    group: str
    once: bool = False
    metrics: str | None = None
    alerts: tuple[AlertChannel, ...] = ()


def run_ingest(
    settings: IngestSettings, options: IngestOptions, *, stop: Event, announce: Callable[[str], None]
) -> None:
    """Consume until `stop` is set, or with `once` until the end that the topics had at the start.

    `announce` gets the line that says it is ready. Raises UsageError without a broker or for a home whose tables
    have another source, SettingsError for a metrics address that cannot be listened on, HomeLockedError when the
    home's tables are in use, FatalError when going on would lose or double something."""
    if settings.kafka is None:
        raise UsageError(
            "set TRAINLEDGER_KAFKA to the bootstrap servers, as in TRAINLEDGER_KAFKA=broker:9092"
        )
    address = parse_kafka_address(settings.kafka)
    clock = SystemClock()
    with _opened_store(settings, stop=stop, clock=clock, is_daemon=not options.once) as opened:
        if opened is None:
            return
        store, schema = opened
        derivation = Derivation(store, schema.generation)
        derivation.catch_up()
        index = ManifestIndex(store, schema.generation, blobs=lambda: known_blobs(settings), clock=clock)
        source = KafkaSource(
            KafkaSourceSettings(
                ",".join(address.servers()),
                f"{options.group}-{schema.generation}",
                security=address.security_options(),
            )
        )
        worker = Worker(
            source,
            store,
            schema.tables,
            clock=clock,
            settings=WorkerSettings(),
            on_batch=partial(_take_note, derivation, index),
        )
        try:
            with _served(options.metrics, worker) as served:
                about = {"pid": os.getpid(), "kafka": address.bootstrap, "tables": schema.generation}
                about |= {} if served is None else {"metrics": served.address}
                say(logging.INFO, "ready", dict(about), daemon="ingest")
                announce("ready ingest " + " ".join(f"{name}={value}" for name, value in about.items()))
                if options.once:
                    worker.drain(stop=stop)
                else:
                    with _alerts(store, settings, options, clock) as duty:
                        _run(worker, stop, clock, index, duty)
        finally:
            worker.close()
    say(logging.INFO, "ended", daemon="ingest")


def _take_note(derivation: Derivation, index: ManifestIndex, dirty: Dirty) -> None:
    derivation.refresh(dirty)
    index.note(dirty)


@contextmanager
def _alerts(store: _Store, settings: IngestSettings, options: IngestOptions, clock: Clock) -> Iterator[Event]:
    """Watch what is told while the event that is given is set: of several workers the one that reads prices has it."""
    # Loaded here, as in session_choice.
    from .embedded import AdminSender

    duty, sender = Event(), AdminSender(settings.kafka)
    alerts = alert_watch(
        store.query,
        VIEWS,
        append=lambda kind, fields: sender.send(kind, admin_record(kind, fields, clock=clock)),
        channels=options.alerts,
        clock=clock,
        settings=settings,
    )
    try:
        with alerts.watching(is_on_duty=duty.is_set):
            yield duty
    finally:
        sender.close()


def _run(worker: Worker, stop: Event, clock: Clock, index: ManifestIndex, duty: Event) -> None:
    looked_ns: int | None = None
    repeats = Repeats(clock)
    while not stop.is_set():
        if not worker.step(POLL_S) and worker.outage is None:
            _index_a_little(index, repeats)
        if not worker.reads(_ADMIN):
            duty.clear()  # at once: another worker is about to have it
        worker.counts.note_state(stopped=len(worker.stopped), is_unreachable=worker.outage is not None)
        now_ns = clock.monotonic_ns()
        if looked_ns is None or now_ns - looked_ns >= LAG_INTERVAL_S * 1e9:
            looked_ns = now_ns
            try:
                worker.counts.note_lag(worker.lag())
                # Only with all of them in the tables is it known which alerts were sent.
                (duty.set if worker.has_all_of(_ADMIN) else duty.clear)()
            except RetryableError as error:
                say(logging.DEBUG, "the lag is not known", {"why": str(error)}, daemon="ingest")


def _index_a_little(index: ManifestIndex, repeats: Repeats) -> None:
    try:
        index.step()
    except (OSError, RetryableError) as error:
        # The events come first; the next idle round tries again.
        if repeats.is_due("index"):
            say(logging.WARNING, "manifests could not be indexed", {"why": str(error)}, daemon="ingest")


@contextmanager
def _opened_store(
    settings: IngestSettings, *, stop: Event, clock: Clock, is_daemon: bool
) -> Iterator[tuple[_Store, Schema] | None]:
    """The tables, brought up to date; None when `stop` came first."""
    lock: HomeLock | None = None
    store: _Store | None = None
    try:
        if settings.clickhouse is None:
            lock = HomeLock.acquire(settings.home, kind="ingest", wait_s=0.0, clock=clock)
            mark_fed_by_kafka(settings.home)
        repeats = Repeats(clock)
        while store is None and not stop.is_set():
            try:
                store = (
                    open_tables(settings) if settings.clickhouse is None else open_server(settings.clickhouse)
                )
                schema = migrate(store)
            except RetryableError as error:
                if not is_daemon:
                    raise
                if store is not None:
                    store.close()
                    store = None
                if repeats.is_due("store"):
                    say(
                        logging.WARNING,
                        "the tables cannot be reached; trying again",
                        {"why": str(error)},
                        daemon="ingest",
                    )
                stop.wait(OPEN_RETRY_S)
        yield None if store is None else (store, schema)
    finally:
        if store is not None:
            store.close()
        if lock is not None:
            lock.release()


@contextmanager
def _served(address: str | None, worker: Worker) -> Iterator[Exposition | None]:
    served = Exposition(address, worker.counts.samples) if address else None
    try:
        yield served
    finally:
        if served is not None:
            served.close()
