"""One node without servers: agent, worker and tables in one process. The composition root of `up` and one-shots.

The home folder has one owner, under a lock that names it:

    <home>/spool/       the log (trainledger_schemas.spool)
    <home>/tables/      chDB
    <home>/pending/     intents of the worker
    <home>/home.lock    JSON {"pid", "kind"} of the owner
    <home>/api.sock     where `up` answers

One-shots wait for each other. Journals that a live `trainledger agent` reads are left to it: the session then
answers from what that agent has spooled here. `session_choice` says when a command comes here at all. This is the
one module of the analysis side that knows the agent.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from trainledger.node.daemon import NodeAgent, spool_folder
from trainledger.node.driver_change import DriverChange
from trainledger.node.foreign_spool import durable_ends, is_given_away
from trainledger.node.identity import load_identity
from trainledger.node.journal_sync import SyncReport, sync_journals
from trainledger.node.node_settings import AgentSettings, parse_kafka
from trainledger.node.reader_lock import STAYING_KINDS, ReaderKind
from trainledger.node.spool import Spool
from trainledger_schemas.clock import Clock, SystemClock
from trainledger_schemas.errors import HomeLockedError, NotFoundError, RetryableError, UsageError
from trainledger_schemas.positions import LogPosition

from .admin_events import admin_key, admin_record
from .cost.statements import close_month
from .derive import Derivation
from .dirty import Dirty
from .home_lock import HomeLock
from .idle_work import IdleWork
from .ingest_settings import WorkerSettings
from .log_state import LogState, state_of_spool
from .rebuild import rebuild_generation, verify_generation
from .reports.run_cost import cost_so_far
from .reproduce.blob_places import known_blobs
from .session import Progress, Say
from .settings import IngestSettings
from .sources.spool import SpoolSource
from .storage.migrate import Schema, migrate
from .storage.opening import open_tables
from .tables_place import VIEWS
from .tables_session import NOT_YET
from .told_drain import drain_and_tell
from .worker import Worker

if TYPE_CHECKING:
    from trainledger.node.admin_log import AdminLog

__all__ = ["AdminSender", "Embedded", "make_topics", "sync_node"]

PUBLISH_S = 60.0
ADMIN_PUBLISH_S = 15.0


@dataclass(frozen=True, slots=True)
class _Node:
    """What this process has of the node. Without `agent`, another one reads the journals; without `spool`, it
    writes the spool too: then `ends` says how far that may be read, or is None where it is no log to read."""

    agent: NodeAgent | None
    spool: Spool | None
    ends: Mapping[str, int] | None = field(default_factory=dict)

    def synced_end(self, topic: str) -> int:
        return self.spool.synced_end(topic) if self.spool is not None else (self.ends or {}).get(topic, 0)

    def close(self, *, leaving: bool = True) -> None:
        if self.agent is not None:
            self.agent.close(leaving=leaving)
        elif self.spool is not None:
            self.spool.close()


class Embedded:
    """Owner of a home: reads journals, takes events in, answers queries.

    All steps of agent and worker run under one lock, so that an API thread may drain while the loop of `up` goes on;
    queries run beside them."""

    views = VIEWS

    def __init__(
        self, settings: IngestSettings, *, kind: ReaderKind, lock: HomeLock, clock: Clock, say: Say
    ) -> None:
        """Use `open`; this is for it alone."""
        self._lock = lock
        self._kind = kind
        self._clock = clock
        self._settings = settings
        self._say = say
        self._turn = RLock()
        agent_settings = AgentSettings.from_env()
        self._publishes = agent_settings.kafka is not None
        self._node = _open_node(settings, agent_settings, kind=kind, clock=clock, say=say)
        try:
            self._store = open_tables(settings)
            self._schema = migrate(self._store)
            self._derivation = Derivation(self._store, self._schema.generation)
            self._idle = self._new_idle_work(self._schema)
            self._worker: Worker | None = None
            if self._node.ends is not None:
                self._worker = self._new_worker(self._schema, self._derivation)
            self._derivation.catch_up()
        except BaseException:
            # Also for KeyboardInterrupt: the next try in this process must not meet our own locks.
            self._node.close()
            raise

    @classmethod
    def open(
        cls,
        settings: IngestSettings,
        *,
        kind: ReaderKind,
        clock: Clock | None = None,
        wait_s: float = 0.0,
        say: Say = lambda _: None,
    ) -> "Embedded":
        """Take the home; raises HomeLockedError if another process has it for longer than `wait_s`."""
        lock = HomeLock.acquire(settings.home, kind=kind, wait_s=wait_s, clock=clock or SystemClock())
        try:
            return cls(settings, kind=kind, lock=lock, clock=clock or SystemClock(), say=say)
        except BaseException:
            lock.release()
            raise

    def step(self) -> int:
        """One round of agent and worker; returns how many records came into the tables."""
        with self._turn:
            if self._node.agent is not None:
                self._node.agent.step()
            return self._worker.step(0.0) if self._worker is not None else 0

    def drain(self, progress: Progress | None = None) -> None:
        """Bring everything written before the call into the tables, the open hour's bill included."""
        with self._turn:
            if self._node.agent is not None and self._kind == "up":
                self._node.agent.drain()
            elif self._node.agent is not None:
                self._node.agent.one_shot()
            if self._worker is not None:
                drain_and_tell(self._worker, progress)

    def tidy(self, *, at_once: bool = False) -> bool:
        """Use an idle moment, see `IdleWork`; whether there may be more to do."""
        with self._turn:
            return self._idle.step(at_once=at_once)

    def has_tables_open(self) -> bool:
        return True

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        return self._store.query(sql, parameters)

    def user_query(self, sql: str, *, is_export: bool = False) -> pa.Table:
        return self._store.user_query(sql, is_export=is_export)

    def append_admin(self, event_type: str, *fields: Mapping[str, Any]) -> None:
        records = [admin_record(event_type, item, clock=self._clock) for item in fields]
        if self._node.spool is None or self._worker is None:
            self._send_around(event_type, records)
            return
        with self._turn:
            with self._node.spool.batch():
                for record in records:
                    self._node.spool.append(event_type, record, key=admin_key(record))
            self._worker.drain()
        if self._publishes and self._node.agent is None:
            self._say(f"{event_type} counts on this node; `trainledger sync` brings it to Kafka")
        elif self._publishes and self._kind != "up" and not self._publish(ADMIN_PUBLISH_S):
            raise RetryableError(
                f"{event_type} counts on this node, but Kafka has not taken it; it stays in the spool: "
                "run `trainledger sync` when the broker is back"
            )

    def close_period(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        with self._turn:
            self._own_worker().drain()
            return close_month(self._store, self._schema, fields, clock=self._clock, append=self.append_admin)

    def publish(self) -> bool | None:
        is_published = self._publish(PUBLISH_S) if self._publishes and self._node.agent is not None else None
        if self._node.agent is not None:
            self._node.agent.upload(PUBLISH_S)
        return is_published

    def run_cost(self, run_id: str) -> dict[str, Any]:
        """See `cost_so_far`."""
        return cost_so_far(self._store, self._schema.generation, run_id)

    def log_state(self) -> LogState:
        with self._turn:
            folder = str(self._settings.node_folder) if self._node.agent is not None else None
            return state_of_spool(self._worker, self._new_source(), self._store, self._schema, folder)

    def rebuild(self, progress: Progress | None = None) -> list[dict[str, Any]]:
        with self._turn:
            worker, older = self._own_worker(), self._schema
            worker.drain()
            outcome = rebuild_generation(
                self._store,
                older,
                source=self._new_source(),
                worker_for=self._new_worker,
                before_switch=lambda fresh: self._new_idle_work(fresh).index_all(older.generation),
                progress=progress,
            )
            worker.close()
            self._schema = outcome.schema
            self._idle = self._new_idle_work(self._schema)
            self._derivation = Derivation(self._store, outcome.schema.generation)
            self._worker = self._new_worker(outcome.schema, self._derivation)
            return outcome.rows

    def verify(self) -> list[dict[str, Any]]:
        with self._turn:
            self._own_worker().drain()
            return verify_generation(self._store, self._schema, self._new_source())

    def driver_change(self, restarted_for: str | None) -> DriverChange | None:
        """See `NodeAgent.driver_change`; None where another process is the node's agent."""
        return None if self._node.agent is None else self._node.agent.driver_change(restarted_for)

    def close(self, *, leaving: bool = True) -> None:
        """Write what is pending, then let go of everything. A second call does nothing. `leaving`: no agent follows."""
        with self._turn:
            if self._lock.held:
                if self._kind == "up":
                    self.drain()
                else:
                    self._idle.finish(self._say)
                if self._worker is not None:
                    self._worker.close()
                self._node.close(leaving=leaving)
                self._store.close()
                self._lock.release()

    def _send_around(self, event_type: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Send events of the administrator to Kafka because this home's log is another process's."""
        if self._settings.kafka is None:
            raise UsageError(
                f"{event_type} cannot be written: the log in {self._settings.home} belongs to a live "
                "`trainledger agent`; stop it for this command, or set TRAINLEDGER_KAFKA to send it to a cluster"
            )
        with closing(AdminSender(self._settings.kafka)) as sender:
            for record in records:
                sender.send(event_type, record)
        self._say(NOT_YET)

    def _new_idle_work(self, schema: Schema) -> IdleWork:
        spool = self._node.spool
        compress = None if spool is None else partial(spool.compress_read, segments_max=1)
        blobs = partial(known_blobs, self._settings)
        return IdleWork(self._store, schema, compress=compress, blobs=blobs, clock=self._clock)

    def _on_batch(self, derivation: Derivation, dirty: Dirty) -> None:
        derivation.refresh(dirty)
        self._idle.note(dirty)

    def _publish(self, timeout_s: float) -> bool:
        if (agent := self._node.agent) is None:
            return False
        is_published = agent.publish(timeout_s)
        if agent.failure is not None:
            raise agent.failure
        return is_published

    def _own_worker(self) -> Worker:
        if self._worker is None:
            raise UsageError(f"the log of {self._settings.home} goes to Kafka: nothing to compare with")
        return self._worker

    def _new_source(self) -> SpoolSource:
        return SpoolSource(spool_folder(self._settings.home), self._node.synced_end, clock=self._clock)

    def _new_worker(self, schema: Schema, derivation: Derivation) -> Worker:
        pending = self._settings.home / "pending" / schema.generation
        pending.mkdir(parents=True, exist_ok=True)
        return Worker(
            self._new_source(),
            self._store,
            schema.tables,
            clock=self._clock,
            settings=WorkerSettings(pending=pending),
            on_batch=partial(self._on_batch, derivation),
        )


def sync_node(settings: IngestSettings) -> SyncReport:
    """Journals to spool, and to Kafka if it is set; the tables are somebody else's."""
    agent_settings = replace(AgentSettings.from_env(), node_folder=settings.node_folder)
    return sync_journals(agent_settings, home=settings.home, clock=SystemClock())


def make_topics(kafka: str) -> list[dict[str, Any]]:
    """Create the topics at the brokers of TRAINLEDGER_KAFKA, or check them; a row a topic."""
    # Loaded here: the Kafka client costs 0.3 s, and no other command of an embedded node needs it.
    from trainledger.node.kafka_client import create_topics

    return [asdict(state) for state in create_topics(kafka)]


class AdminSender:
    """Sends an administrator's events to Kafka; connects at the first one."""

    def __init__(self, kafka: str | None) -> None:
        self._kafka = kafka
        self._log: AdminLog | None = None

    def send(self, event_type: str, record: Mapping[str, Any]) -> LogPosition:
        if self._log is None:
            if self._kafka is None:
                raise UsageError(
                    f"{event_type} reaches these tables through Kafka: set TRAINLEDGER_KAFKA to the bootstrap servers"
                )
            # Loaded here, as in make_topics.
            from trainledger.node.admin_log import AdminLog

            self._log = AdminLog(parse_kafka(self._kafka), node_id=AgentSettings.from_env().node_id)
        return self._log.append(event_type, record, key=admin_key(record))

    def close(self) -> None:
        if self._log is not None:
            self._log.close()


def _open_node(
    settings: IngestSettings, agent_settings: AgentSettings, *, kind: ReaderKind, clock: Clock, say: Say
) -> _Node:
    """Journals and spool, as far as no live agent has them; a line says what was left to it."""
    try:
        agent = NodeAgent.open(
            settings.home, settings.node_folder, kind=kind, settings=agent_settings, clock=clock
        )
        return _Node(agent, agent.spool)
    except HomeLockedError as error:
        if kind == "up" or error.kind not in STAYING_KINDS:
            raise
        owner = (
            f"process {error.pid} ({error.kind})"
            if error.pid
            else "an agent of another user (not seen running)"
        )
    folder = spool_folder(settings.home)
    left = f"journals in {settings.node_folder} are left to {owner}, which reads them; this answers from "
    try:
        spool = Spool.open(
            folder,
            identity=load_identity(folder, node_id=agent_settings.node_id),
            clock=clock,
            settings=agent_settings.spool,
            kind=kind,
            wait_s=agent_settings.lock_wait_s,
        )
        say(f"{left}what was read into {settings.home} before")
        return _Node(None, spool)
    except HomeLockedError as error:
        if error.kind not in STAYING_KINDS:
            raise
    if not is_given_away(folder):
        say(f"{left}what it has read into {settings.home}")
        return _Node(None, None, durable_ends(folder))
    if not settings.tables.is_dir():
        raise NotFoundError(
            f"journals in {settings.node_folder} are left to {owner}, which publishes to Kafka, and there are no "
            f"tables in {settings.home}: set TRAINLEDGER_CLICKHOUSE to ask those of the cluster"
        )
    say(f"{left}the tables in {settings.home} as they are; what it reads now goes to Kafka")
    return _Node(None, None, None)
