"""One node without servers: agent, worker and tables in one process. The composition root of `up` and one-shots.

The home folder has one owner, under a lock that names it:

    <home>/spool/       the log (trainledger_schemas.spool)
    <home>/tables/      chDB
    <home>/pending/     intents of the worker
    <home>/home.lock    JSON {"pid", "kind"} of the owner
    <home>/api.sock     where `up` answers

`open_session` finds the right way for a command: a cluster's ClickHouse if one is set, the API of a live `up`,
or this process as owner for as long as the command takes. One-shots wait for each other.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from threading import RLock
from typing import Any

import pyarrow as pa

from trainledger.node.daemon import NodeAgent
from trainledger.node.node_settings import AgentSettings
from trainledger.node.reader_lock import ReaderKind
from trainledger_schemas.clock import Clock, SystemClock
from trainledger_schemas.errors import HomeLockedError, RetryableError, UsageError

from .admin_events import admin_record
from .derive import Derivation
from .home_lock import HomeLock
from .ingest_settings import WorkerSettings
from .rebuild import rebuild_generation, verify_generation
from .remote_session import RemoteSession
from .session import Session
from .settings import IngestSettings
from .sources.spool import SpoolSource
from .storage.migrate import Schema, migrate
from .storage.opening import VIEWS, open_server, open_tables
from .tables_session import TablesSession
from .worker import Worker

__all__ = ["Embedded", "make_topics", "open_session", "open_up"]

ONE_SHOT_WAIT_S = 120.0
UP_WAIT_S = 30.0
POLL_S = 0.1


class Embedded:
    """Owner of a home: reads journals, takes events in, answers queries.

    All steps of agent and worker run under one lock, so that an API thread may drain while the loop of `up`
    goes on; queries run beside them.
    """

    views = VIEWS

    def __init__(self, settings: IngestSettings, *, kind: str, lock: HomeLock, clock: Clock) -> None:
        self._lock = lock
        self._kind = kind
        self._clock = clock
        self._settings = settings
        self._turn = RLock()
        # Embedded, the spool is the log: publishing is the work of `trainledger agent`.
        agent_settings = replace(AgentSettings.from_env(), kafka=None)
        reader: ReaderKind = "up" if kind == "up" else "one-shot"
        self._agent = NodeAgent.open(
            settings.home, settings.node_folder, kind=reader, settings=agent_settings, clock=clock
        )
        self._store = open_tables(settings)
        self._schema = migrate(self._store)
        self._derivation = Derivation(self._store, self._schema.generation)
        self._worker = self._new_worker(self._schema, self._derivation)
        self._derivation.catch_up()

    @classmethod
    def open(
        cls, settings: IngestSettings, *, kind: str, clock: Clock | None = None, wait_s: float = 0.0
    ) -> "Embedded":
        """Take the home; raises HomeLockedError if another process has it for longer than `wait_s`."""
        lock = HomeLock.acquire(settings.home, kind=kind, wait_s=wait_s, clock=clock or SystemClock())
        try:
            return cls(settings, kind=kind, lock=lock, clock=clock or SystemClock())
        except BaseException:
            lock.release()
            raise

    def step(self) -> int:
        """One round of agent and worker; returns how many records came into the tables."""
        with self._turn:
            self._agent.step()
            return self._worker.step(0.0)

    def drain(self) -> None:
        """Bring everything written before the call into the tables, the open hour's bill included."""
        with self._turn:
            if self._kind == "up":
                self._agent.drain()
            else:
                self._agent.one_shot()
            self._worker.drain()

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        return self._store.query(sql, parameters)

    def user_query(self, sql: str) -> pa.Table:
        return self._store.user_query(sql)

    def append_admin(self, event_type: str, fields: Mapping[str, Any]) -> None:
        with self._turn:
            self._agent.spool.append(
                event_type, admin_record(event_type, fields, clock=self._clock), key=b"admin"
            )
            self._agent.spool.sync()
            self._worker.drain()

    def run_cost(self, run_id: str) -> dict[str, Any]:
        """What a run has cost so far; None while any part is unpriced or nobody watched it."""
        rows = self._store.rows(
            f"SELECT cost, currency FROM {VIEWS}.runs WHERE run_id = {{id:UUID}}", {"id": run_id}
        )
        row = rows[0] if rows else {"cost": None, "currency": None}
        return {"cost": None if row["cost"] is None else str(row["cost"]), "currency": row["currency"]}

    def rebuild(self) -> list[dict[str, Any]]:
        with self._turn:
            self._worker.drain()
            outcome = rebuild_generation(
                self._store, self._schema, source=self._new_source(), worker_for=self._new_worker
            )
            self._worker.close()
            self._schema = outcome.schema
            self._derivation = Derivation(self._store, outcome.schema.generation)
            self._worker = self._new_worker(outcome.schema, self._derivation)
            return outcome.rows

    def verify(self) -> list[dict[str, Any]]:
        with self._turn:
            self._worker.drain()
            return verify_generation(self._store, self._schema, self._new_source())

    def close(self) -> None:
        """Write what is pending, then let go of everything. A second call does nothing."""
        with self._turn:
            if self._lock.held:
                if self._kind == "up":
                    self._agent.drain()
                    self._worker.drain()
                self._worker.close()
                self._agent.close()
                self._store.close()
                self._lock.release()

    def _new_source(self) -> SpoolSource:
        return SpoolSource(self._settings.home / "spool", self._agent.spool.synced_end, clock=self._clock)

    def _new_worker(self, schema: Schema, derivation: Derivation) -> Worker:
        pending = self._settings.home / "pending" / schema.generation
        pending.mkdir(parents=True, exist_ok=True)
        return Worker(
            self._new_source(),
            self._store,
            schema.tables,
            clock=self._clock,
            settings=WorkerSettings(pending=pending),
            on_batch=derivation.refresh,
        )


def open_up(settings: IngestSettings) -> Embedded:
    """Take the home as `up`: another `up` is refused at once, a one-shot is waited for."""
    return Embedded.open(settings, kind="up", wait_s=UP_WAIT_S)


def open_session(settings: IngestSettings, *, say: Callable[[str], None]) -> Session:
    """The session that fits the settings; see the module. It covers everything written before the call."""
    clock = SystemClock()
    if settings.clickhouse is not None:
        store = open_server(settings.clickhouse)
        return TablesSession(store, migrate(store), send=_no_log, release=lambda: None, say=say, clock=clock)
    if settings.kafka is not None and settings.tables.is_dir():
        return _kafka_fed_tables(settings, say, clock)
    deadline_ns = clock.monotonic_ns() + int(ONE_SHOT_WAIT_S * 1e9)
    while True:
        try:
            if HomeLock.owner_kind(settings.home) == "up":
                return RemoteSession.open(settings.api_socket, views=VIEWS)
            embedded = Embedded.open(settings, kind="one-shot", wait_s=1.0, clock=clock)
        except (HomeLockedError, RetryableError):
            # Somebody else was first, or `up` is starting or ending: look again who has it.
            if clock.monotonic_ns() > deadline_ns:
                raise
            clock.sleep(POLL_S)
            continue
        embedded.drain()
        return embedded


def _kafka_fed_tables(settings: IngestSettings, say: Callable[[str], None], clock: Clock) -> Session:
    lock = HomeLock.acquire(settings.home, kind="one-shot", wait_s=ONE_SHOT_WAIT_S, clock=clock)
    store = open_tables(settings)
    return TablesSession(store, migrate(store), send=_no_log, release=lock.release, say=say, clock=clock)


def _no_log(event_type: str, _: Mapping[str, Any]) -> None:
    raise UsageError(
        f"{event_type} of a cluster is sent where its agents run; this version sets prices embedded"
    )


def make_topics(bootstrap_servers: str) -> list[dict[str, Any]]:
    """Create the topics, or check them; a row a topic."""
    # Loaded here: the Kafka client costs 0.3 s, and no other command of an embedded node needs it.
    from trainledger.node.publisher import create_topics

    return [asdict(state) for state in create_topics(bootstrap_servers)]
