"""Tables filled as in production: events of a log in memory, a real worker, the real derived tables and views."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from support.ingest_events import START_US, Producer, fixed_id
from trainledger_ingest.derive import Derivation
from trainledger_ingest.ingest_settings import WorkerSettings
from trainledger_ingest.log_state import LogState
from trainledger_ingest.session import Progress
from trainledger_ingest.sources.memory import MemoryLog, MemorySource
from trainledger_ingest.storage.migrate import Schema, migrate
from trainledger_ingest.storage.store import Store
from trainledger_ingest.worker import Worker
from trainledger_schemas.avro_codec import encode_event
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.events import EVENT_TOPICS, TOPICS
from trainledger_schemas.ids import id_text
from trainledger_schemas.point_codec import PointBlock

__all__ = ["FilledTables", "StoreSession", "id_of"]

SECOND_US = 1_000_000
OFFSET_STEP = 40


def id_of(number: int) -> str:
    """The text of `fixed_id(number)`."""
    return id_text(fixed_id(number))


class StoreSession:
    """The session of a command over the tables of a test; only what reports ask of one."""

    def __init__(self, store: Store) -> None:
        self.views = store.database
        self._store = store

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        return self._store.query(sql, parameters)

    def user_query(self, sql: str, *, is_export: bool = False) -> pa.Table:
        return self._store.query(sql)

    def append_admin(self, event_type: str, *fields: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def close_period(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def publish(self) -> bool | None:
        return None

    def has_tables_open(self) -> bool:
        return True

    def rebuild(self, progress: Progress | None = None) -> list[dict[str, Any]]:
        raise NotImplementedError

    def log_state(self) -> LogState:
        return LogState(0)

    def verify(self) -> list[dict[str, Any]]:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held."""


class FilledTables:
    """A log, its worker and its tables. Times are microseconds since 1970."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.schema: Schema = migrate(store)
        self.session = StoreSession(store)
        self.log = MemoryLog(dict.fromkeys(TOPICS, 1))
        self.producer = Producer()
        self.derivation = Derivation(store, self.schema.generation)
        self._folder = folder
        self._journal_ends: dict[int, int] = {}
        self._line_numbers: dict[tuple[int, str], int] = {}
        self._source = MemorySource(self.log)
        self._worker = self.worker_for(self.schema, self.derivation, source=self._source)

    def worker_for(
        self, schema: Schema, derivation: Derivation, *, source: MemorySource | None = None
    ) -> Worker:
        """A worker over the whole log into the tables of `schema`."""
        return Worker(
            source or MemorySource(self.log),
            self.store,
            schema.tables,
            clock=SystemClock(),
            settings=WorkerSettings(pending=self._folder / f"pending-{schema.generation}"),
            on_batch=derivation.refresh,
        )

    def take_in(self) -> None:
        """Bring everything in the log into the tables."""
        self._worker.drain()

    def event(
        self,
        event_type: str,
        spooled_us: int,
        /,
        *,
        node: str = "node-1",
        clocks: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Append an event of any type but metrics, as if spooled at `spooled_us`; `clocks` go into its envelope."""
        topic = EVENT_TOPICS[event_type]
        booted = START_US - 86_400 * SECOND_US
        known = {"node_id": node, "wall_us": spooled_us, "boot_us": spooled_us - booted} | dict(clocks or {})
        envelope = self.producer.envelope(None, topic=topic) | known
        if event_type == "reservation":
            fields["node"] = node  # it is about the node, whoever brings it in
        self.log.append(topic, encode_event(event_type, {"envelope": envelope, **fields}))

    def started(self, run: int, writer: int, at_us: int, *, node: str = "node-1", **fields: Any) -> None:
        """A process begins to write for a run."""
        defaults: dict[str, Any] = {
            "parent_writer": None, "role": "sdk", "joined": "new", "project": "p", "experiment": None,
            "team": None, "name": None, "group": None, "tags": [], "parent_run": None, "user": "ann", "uid": 1000,
            "host": node, "pid": 100 + writer, "start_ticks": 1, "pid_namespace": 1, "rank": None,
            "local_rank": None, "world_size": None, "launcher": "python", "restart_hint": None,
            "argv": ["train.py"], "config": [],
        }  # fmt: skip
        known = {"run_id": fixed_id(run), "writer_id": fixed_id(writer), "at_us": at_us}
        self.event("run_started", at_us, node=node, **(defaults | known | fields))

    def exited(self, run: int, writer: int, at_us: int, status: str = "finished", **fields: Any) -> None:
        """A process says how it ended."""
        known: dict[str, Any] = {
            "run_id": fixed_id(run), "writer_id": fixed_id(writer), "at_us": at_us, "role": "sdk", "status": status,
            "cause": "finish", "exit_code": None, "signal": None, "message": None, "cpu_us": None,
        }  # fmt: skip
        self.event("run_exited", at_us, **(known | fields))

    def points(self, run: int, writer: int, **series: Sequence[float]) -> None:
        """One point of each series at steps 0, 1 ...; all series are of one length."""
        values = np.array(list(series.values()), dtype=np.float64).T
        steps = np.arange(len(values), dtype=np.int64)
        self._block(run, writer, tuple(series), steps, START_US + steps * 1000, values)

    def logged(self, run: int, writer: int, *rows: tuple[int, int, float], key: str = "loss") -> None:
        """Rows (time, step, value) of one metric, each an event of its own."""
        for at_us, step, value in rows:
            steps, times = np.array([step], np.int64), np.array([at_us], np.int64)
            self._block(run, writer, (key,), steps, times, np.array([[value]]))

    def _block(
        self, run: int, writer: int, keys: tuple[str, ...], steps: Any, times: Any, values: Any
    ) -> None:
        block = PointBlock(keys, steps, times, self._offsets(writer, len(steps)), values)
        source = (fixed_id(writer), int(block.offset[0]), int(block.offset[-1]) + OFFSET_STEP)
        payload = self.producer.metrics([block], run=run, writer=writer, source=source)
        self.log.append(EVENT_TOPICS["metrics"], payload)

    def log_lines(self, run: int, writer: int, *lines: tuple[int, str], stream: str = "stdout") -> None:
        """Lines (time, text) of a stream, numbered on from those before."""
        offsets = [int(offset) for offset in self._offsets(writer, len(lines))]
        first = self._line_numbers.get((writer, stream), 1)
        self._line_numbers[writer, stream] = first + len(lines)
        topic = EVENT_TOPICS["log_chunk"]
        source = (fixed_id(writer), offsets[0], offsets[-1] + OFFSET_STEP)
        fields = {
            "run_id": fixed_id(run), "writer_id": fixed_id(writer), "stream": stream, "first_line": first,
            "at_us": [at_us for at_us, _ in lines], "offset": offsets, "text": [text for _, text in lines],
        }  # fmt: skip
        envelope = self.producer.envelope(source, topic=topic)
        self.log.append(topic, encode_event("log_chunk", {"envelope": envelope, **fields}))

    def _offsets(self, writer: int, count: int) -> Any:
        start = self._journal_ends.get(writer, 0)
        self._journal_ends[writer] = start + count * OFFSET_STEP
        return start + np.arange(count, dtype=np.int64) * OFFSET_STEP

    def present(self, *times_us: int, node: str = "node-1", writers: Sequence[tuple[int, int]] = ()) -> None:
        """The node is there at each time, with these (run, writer) alive."""
        alive = [{"run_id": fixed_id(run), "writer_id": fixed_id(writer)} for run, writer in writers]
        for at_us in times_us:
            self.event(
                "node_present", at_us, node=node, at_us=at_us, host=node, cores=4, memory_bytes=1 << 33,
                agent_version="test", leaving=False, busy_us=None, writers=alive,
            )  # fmt: skip

    def alive(self, start_us: int, end_us: int, *, node: str = "node-1", step_s: int = 30) -> None:
        """A node event each `step_s` from start to end."""
        self.present(*range(start_us, end_us, step_s * SECOND_US), end_us, node=node)

    def usage(
        self, start_us: int, end_us: int, *runs: tuple[int, int], node: str = "node-1", cores: float = 1
    ) -> None:
        """These (run, writer) used `cores` cores each in the window."""
        used = round((end_us - start_us) * cores)
        rows = [
            {
                "kind": "run", "run_id": fixed_id(run), "writer_id": fixed_id(writer), "owner": "ann",
                "cpu_us": used, "memory_peak_bytes": 1 << 20,
            }
            for run, writer in runs
        ]  # fmt: skip
        self.event("process_usage", end_us, node=node, start_us=start_us, end_us=end_us, cores=4, usage=rows)

    def price(self, number: int, at_us: int, *, pattern: str = "*", nano: int, **fields: Any) -> None:
        """A price from hour `from_hour_us` on; default the epoch, so all hours have it."""
        known: dict[str, Any] = {
            "at_us": at_us, "price_id": fixed_id(number), "pattern": pattern, "nano_per_hour": nano,
            "currency": "USD", "from_hour_us": 0, "presence": "observed", "owned_from_us": None,
            "owned_to_us": None, "host_share_ppm": None, "device_weights": {}, "set_by": "test", "note": None,
        }  # fmt: skip
        self.event("price_set", at_us, **(known | fields))

    def rows(self, view: str, *, columns: str = "*", rest: str = "") -> list[dict[str, Any]]:
        """Rows of a public view."""
        return self.store.rows(f"SELECT {columns} FROM {self.schema.views_database}.{view} {rest}")
