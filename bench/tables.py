"""Programs beside a home's tables, each in a process of its own: `python -m bench.tables NAME HOME`; JSON on stdout.

settle   open the tables and wait until the engine has nothing left to merge; the CPU that this took
engine   what the engine alone takes for the rows of a home: the very Arrow blocks that the worker makes of its
         spool are inserted through the store once more, into a generation of their own, and merged
count    the points in the tables
hours    put a month of dealt node-hours and their prices into the tables, by the code that deals them
ask      time the queries of bar `query` in a new process, first and later times
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainledger_ingest.cost.closed_hours import ClosedHours, DealtNode
from trainledger_ingest.cost.node_events import HOUR_US, Kind
from trainledger_ingest.cost.node_hour import SHARES_PER_US, Line, NodeHour
from trainledger_ingest.cost.prices import Price
from trainledger_ingest.cost.report import read_report
from trainledger_ingest.cost.tables import CostTables
from trainledger_ingest.ingest_settings import WorkerSettings
from trainledger_ingest.settings import IngestSettings
from trainledger_ingest.sources.spool import SpoolSource
from trainledger_ingest.storage.chdb import ChdbStore
from trainledger_ingest.storage.migrate import APPEND_TABLES, create_tables, migrate
from trainledger_ingest.storage.opening import open_tables
from trainledger_ingest.tables_place import VIEWS
from trainledger_ingest.worker import Worker
from trainledger_schemas.clock import SystemClock

# A merge is chosen within seconds of the one before; the engine looks at least this often.
QUIET_S = 5.0
SETTLE_S_MAX = 240.0
MONTH = datetime(2026, 10, 1, tzinfo=UTC)
ASKED = 9
LAST_MIN_MAX = f"SELECT run_id, key, last, min, max FROM {VIEWS}.metric_summary"


def wait_for_merges(store: ChdbStore) -> dict[str, float]:
    """Wait until no merge ran for QUIET_S; CPU seconds of this process meanwhile."""
    cpu_s, started = time.process_time(), time.perf_counter()
    quiet_since, parts = started, -1
    while (now := time.perf_counter()) - quiet_since < QUIET_S:
        if now - started > SETTLE_S_MAX:
            raise RuntimeError(f"the engine still merges after {SETTLE_S_MAX:.0f} s")
        [row] = store.rows("SELECT count() AS merges FROM system.merges")
        [counted] = store.rows("SELECT count() AS parts FROM system.parts WHERE active")
        if int(str(row["merges"])) or int(str(counted["parts"])) != parts:
            quiet_since, parts = now, int(str(counted["parts"]))
        time.sleep(0.5)  # the questions cost CPU too
    return {"cpu_s": time.process_time() - cpu_s, "wall_s": time.perf_counter() - started, "parts": parts}


def settle(store: ChdbStore, _: Path) -> dict[str, Any]:
    """See the module."""
    return wait_for_merges(store)


def engine(store: ChdbStore, home: Path) -> dict[str, Any]:
    """See the module. Nothing but the inserts and their merges is counted."""
    before = migrate(store)
    rows = store.rows(f"SELECT topic, max(end) AS last FROM {before.generation}.ingest_ledger GROUP BY topic")
    ends = {str(row["topic"]): int(str(row["last"])) for row in rows}
    alone = create_tables(store, generation=before.number + 1)
    wait_for_merges(store)
    blocks = home.parent / "blocks"
    blocks.mkdir()
    recorder = Recorder(store, blocks)
    source = SpoolSource(home / "spool", lambda topic: ends.get(topic, 0))
    worker = Worker(
        source,
        recorder,
        alone.tables,
        clock=SystemClock(),
        settings=WorkerSettings(pending=blocks),
        on_batch=lambda dirty: None,
    )
    projected_s = time.process_time()
    worker.drain()
    worker.close()
    projected_s = time.process_time() - projected_s
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    for block, name in recorder.inserts:
        with pa.memory_map(str(block)) as file:
            store.insert(name, pa.ipc.open_file(file).read_all())
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    merges = wait_for_merges(store)
    return {
        "inserts": len(recorder.inserts),
        "rows": recorder.kept_rows,
        "cpu_s": cpu_s + merges["cpu_s"],
        "insert_cpu_s": cpu_s,
        "merge_cpu_s": merges["cpu_s"],
        "insert_wall_s": wall_s,
        # Decoding, projecting and writing the blocks to files: a second look at our own part.
        "project_cpu_s": projected_s,
    }


class Recorder:
    """A store that keeps what is inserted in files instead; all else is the real one's."""

    def __init__(self, store: ChdbStore, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self.capabilities = store.capabilities
        self.database = store.database
        self.inserts: list[tuple[Path, str]] = []
        self.kept_rows = 0

    def insert(self, table: str, data: pa.Table, *, token: str | None = None) -> None:
        """Keep a block of an event table; the small tables of the worker itself go on."""
        if table.rsplit(".", 1)[-1] not in APPEND_TABLES:
            self._store.insert(table, data, token=token)
            return
        path = self._folder / f"{len(self.inserts)}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, data.schema) as writer:
            writer.write_table(data)
        self.inserts.append((path, table))
        self.kept_rows += data.num_rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def hours(store: ChdbStore, home: Path) -> dict[str, Any]:
    """See the module: each node-hour has two runs, untracked processes, idle time and the system."""
    wanted = json.loads((home.parent / "hours.json").read_text(encoding="ascii"))
    schema = migrate(store)
    runs = [
        str(row["id"]) for row in store.rows(f"SELECT toString(run_id) AS id FROM {VIEWS}.runs ORDER BY id")
    ]
    tables = CostTables(store, schema.generation)
    closing = ClosedHours(store, schema.generation).closing()
    price = Price("00000000-0000-4000-8000-000000000001", "*", 3_500_000_000, "USD", from_hour_us=0)
    begin_us = round(MONTH.timestamp()) * 1_000_000
    for node in range(wanted["nodes"]):
        dealt = [
            (node_hour(f"node-{node:04d}", begin_us + hour * HOUR_US, runs, node + hour), price)
            for hour in range(wanted["hours"])
        ]
        # The one place where dealt hours are written; what is left out is dealing them from 17 million events.
        tables._write(DealtNode(f"node-{node:04d}", dealt, events=(), version=1), closing)
    return {"node_hours": wanted["nodes"] * wanted["hours"]}


def node_hour(node_id: str, hour_us: int, runs: list[str], number: int) -> NodeHour:
    """A full hour, dealt to five lines."""
    whole = HOUR_US * SHARES_PER_US
    parts = [whole // 3, whole // 4, whole // 10, whole // 5]
    parts.append(whole - sum(parts))
    first, second = runs[number % len(runs)], runs[(number * 7 + 1) % len(runs)]
    names = [
        (Kind.RUN, first),
        (Kind.RUN, second),
        (Kind.UNTRACKED, None),
        (Kind.SYSTEM, None),
        (Kind.IDLE, None),
    ]
    lines = tuple(
        Line(
            kind,
            run,
            1 if run else None,
            "ann" if kind is Kind.UNTRACKED else None,
            "host",
            part,
            part // 2,
            "cpu",
        )
        for (kind, run), part in zip(names, parts, strict=True)
    )
    return NodeHour(node_id, hour_us, HOUR_US, HOUR_US, lines)


class Views:
    """As much of a session as a report asks for."""

    views = VIEWS

    def __init__(self, store: ChdbStore) -> None:
        self._store = store

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """A SELECT of the product."""
        return self._store.query(sql, parameters)


def ask(store: ChdbStore, _home: Path) -> dict[str, Any]:
    """See the module."""
    views: Any = Views(store)
    start, end = "2026-10-01 00:00:00", "2026-11-01 00:00:00"
    questions: dict[str, Callable[[], int]] = {
        "last_min_max": lambda: store.query(LAST_MIN_MAX).num_rows,
        "cost_by_team": lambda: len(read_report(views, by="team", start=start, end=end).rows),
        "cost_daily_by_team": lambda: (
            store.query(
                f"SELECT team, sum(cost) AS cost FROM {VIEWS}.cost_daily "
                "WHERE day >= '2026-10-01' AND day < '2026-11-01' GROUP BY team"
            ).num_rows
        ),
    }
    answer = {}
    for name, question in questions.items():
        times, cpu_s, rows = [], time.process_time(), 0
        for _time in range(ASKED):
            started = time.perf_counter()
            rows = question()
            times.append((time.perf_counter() - started) * 1000)
        cpu_s = time.process_time() - cpu_s
        answer[name] = {
            "rows": rows,
            "cold_ms": round(times[0], 1),
            "warm_ms": round(statistics.median(times[1:]), 1),
            "cpu_ms": round(1000 * cpu_s / ASKED, 1),
        }
    return answer


def count(store: ChdbStore, _: Path) -> dict[str, Any]:
    """See the module."""
    [row] = store.rows(f"SELECT sum(points) AS points FROM {VIEWS}.metric_summary")
    [batches] = store.rows(
        f"SELECT count() AS n, uniqExact(partition) AS partitions FROM {migrate(store).generation}.ingest_ledger "
        "WHERE has(tables, 'points')"
    )
    return {
        "points": int(str(row["points"])),
        "batches": int(str(batches["n"])),
        "partitions": int(str(batches["partitions"])),
    }


PROGRAMS = {"settle": settle, "count": count, "engine": engine, "hours": hours, "ask": ask}


def main(name: str, home: Path) -> None:
    """Run one program on the tables of a home and print what it found."""
    store = open_tables(IngestSettings.from_env({}, home=home))
    try:
        answer = PROGRAMS[name](store, home)
    finally:
        store.close()
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
