"""A rebuild gives the same tables, or leaves everything as it was, wherever it dies."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pytest

from support.filled_tables import FilledTables
from support.ingest_events import START_US
from support.ingest_store import Crash, unused_store
from trainledger_ingest.derive import Derivation
from trainledger_ingest.ingest_settings import WorkerSettings
from trainledger_ingest.rebuild import RebuildOutcome, rebuild_generation, verify_generation
from trainledger_ingest.sources.memory import MemorySource
from trainledger_ingest.storage.migrate import Schema, current_generation, migrate
from trainledger_ingest.storage.store import Store
from trainledger_ingest.worker import Worker
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import RecoveryError
from trainledger_schemas.events import TOPIC_METRICS
from trainledger_schemas.positions import TopicPartition

S = 1_000_000
QUERIES = {
    "runs": "SELECT toString(run_id) AS id, name, state, attempts, cost FROM {v}.runs ORDER BY id",
    "metrics": "SELECT toString(run_id) AS id, key, step, value FROM {v}.metrics ORDER BY ALL",
    "logs": "SELECT toString(run_id) AS id, line_no, text FROM {v}.logs ORDER BY ALL",
    "cost_lines": "SELECT usage_hour, node_id, kind, toString(run_id) AS id, cost FROM {v}.cost_lines ORDER BY ALL",
    "prices": "SELECT node, per_hour FROM {v}.prices ORDER BY ALL",
    "run_usage": "SELECT toString(run_id) AS id, cpu_seconds FROM {v}.run_usage ORDER BY ALL",
}


class WatchedStore:
    """Tells before each call; the telling may end in a Crash."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.database, self.capabilities = inner.database, inner.capabilities
        self.calls: list[str] = []
        self.crash_at: int | None = None

    def command(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        self._told(sql)
        self.inner.command(sql, parameters)

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        return self.inner.query(sql, parameters)

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, object]]:
        return self.inner.rows(sql, parameters)

    def insert(self, table: str, data: pa.Table, *, token: str | None = None) -> None:
        self._told(f"INSERT {table}")
        self.inner.insert(table, data, token=token)

    def close(self) -> None:
        self.inner.close()

    def _told(self, what: str) -> None:
        if self.crash_at == len(self.calls):
            raise Crash
        self.calls.append(what)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledTables]:
    """Two runs with points, lines, use and a price."""
    tables = FilledTables(unused_store(), tmp_path_factory.mktemp("rebuild"))
    for run in (1, 2):
        tables.started(run, run + 10, START_US, name=f"run-{run}", team="red")
        tables.points(run, run + 10, loss=[3.0, 2.0, 1.0])
        tables.log_lines(run, run + 10, (START_US + S, "hello"))
        tables.usage(START_US, START_US + 60 * S, (run, run + 10), node=f"node-{run}")
        tables.alive(START_US, START_US + 120 * S, node=f"node-{run}")
        tables.exited(run, run + 10, START_US + 300 * S)
    tables.price(1, START_US, nano=10**10)
    tables.take_in()
    yield tables


def answers(tables: FilledTables) -> dict[str, list[dict[str, Any]]]:
    return {
        name: tables.store.query(sql.format(v=tables.schema.views_database)).to_pylist()
        for name, sql in QUERIES.items()
    }


def generations(store: Store) -> set[int]:
    rows = store.rows(
        "SELECT name FROM system.databases WHERE match(name, {p:String})",
        {"p": f"^{store.database}_g[0-9]+$"},
    )
    return {int(str(row["name"]).rsplit("_g", 1)[1]) for row in rows}


def rebuild(tables: FilledTables, store: Store | None = None, **more: Any) -> RebuildOutcome:
    """As `up` does it: with the store it was opened on, and the generation that the views show."""
    used = store or tables.store
    schema = migrate(tables.store)

    def worker_for(fresh: Schema, derivation: Derivation) -> Worker:
        return Worker(
            MemorySource(tables.log),
            used,
            fresh.tables,
            clock=SystemClock(),
            # Small batches, so that there are several to die between.
            settings=WorkerSettings(batch_points=8),
            on_batch=derivation.refresh,
        )

    return rebuild_generation(used, schema, source=MemorySource(tables.log), worker_for=worker_for, **more)


def test_a_rebuild_gives_the_same_answers_from_new_tables_and_drops_the_old(tables: FilledTables) -> None:
    before, number = answers(tables), current_generation(tables.store)
    told: list[tuple[int, int]] = []
    outcome = rebuild(tables, progress=lambda done, total: told.append((done, total)))
    assert answers(tables) == before
    assert all(before.values()), "each query has something to compare"
    assert outcome.schema.number == number + 1 == current_generation(tables.store)
    assert generations(tables.store) == {number + 1}
    compared = {row["table"]: row for row in outcome.rows}
    assert compared["points"] == {
        "table": "points",
        "rows_before": 6,
        "rows_after": 6,
        "groups_that_differ": 0,
    }
    assert compared["node_events"]["rows_after"] == 12 and compared["admin_events"]["rows_after"] == 1
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1] >= sum(map(len, tables.log.records.values()))


def test_until_the_switch_the_views_show_the_old_tables(tables: FilledTables) -> None:
    before = answers(tables)

    class LookingStore(WatchedStore):
        looks = 0

        def _told(self, what: str) -> None:
            if what.startswith("INSERT") and len(self.calls) % 3 == 0:
                assert answers(tables) == before, what
                self.looks += 1
            super()._told(what)

    store = LookingStore(tables.store)
    rebuild(tables, store)
    assert store.looks > 3
    assert answers(tables) == before


def crash_points(tables: FilledTables) -> list[int]:
    """Calls of one rebuild, the first and the last of each kind."""
    store = WatchedStore(tables.store)
    rebuild(tables, store)
    kinds: dict[str, list[int]] = {}
    for number, call in enumerate(store.calls):
        kinds.setdefault(call.split()[0], []).append(number)
    views = [n for n, call in enumerate(store.calls) if call.startswith("CREATE OR REPLACE VIEW")]
    inserts = kinds["INSERT"]
    return sorted(
        {numbers[place] for numbers in kinds.values() for place in (0, -1)} | {views[5], inserts[9]}
    )


def test_a_rebuild_killed_anywhere_leaves_whole_answers_and_the_next_one_succeeds(
    tables: FilledTables,
) -> None:
    before = answers(tables)
    points = crash_points(tables)
    assert len(points) > 6
    for number in points:
        store = WatchedStore(tables.store)
        store.crash_at = number
        with pytest.raises(Crash):
            rebuild(tables, store)
        # What the next command does first.
        migrate(tables.store)
        assert answers(tables) == before, f"killed before call {number}: {store.calls[-1:]}"
    rebuild(tables)
    assert answers(tables) == before
    assert generations(tables.store) == {current_generation(tables.store)}


def test_a_rebuild_that_differs_is_refused_and_changes_nothing(tables: FilledTables) -> None:
    schema = migrate(tables.store)
    # As if the log had lost what the tables still know.
    extra = "INSERT INTO {t} (month, run_id, text) SELECT 202311, toUUID('00000000-0000-4000-8000-00000000000a'), 'x'"
    tables.store.command(extra.format(t=schema.tables.name("log_lines")))
    before = answers(tables)
    with pytest.raises(
        RecoveryError,
        match=f"differ from the current ones in log_lines: the views stay on {schema.generation}",
    ):
        rebuild(tables)
    assert answers(tables) == before and current_generation(tables.store) == schema.number
    tables.store.command(f"DELETE FROM {schema.tables.name('log_lines')} WHERE text = 'x'")


def test_a_bill_that_a_rebuild_changes_is_told_and_mended(tables: FilledTables) -> None:
    schema, before = migrate(tables.store), answers(tables)
    # As if an hour had been lost.
    for table in ("node_hours", "node_hour_money"):
        name = schema.tables.name(table)
        tables.store.command(f"DELETE FROM {name} WHERE node_id = 'node-1'")
    outcome = rebuild(tables)
    assert answers(tables) == before
    counts = {row["table"]: row["groups_that_differ"] for row in outcome.rows}
    assert counts["node_hours"] == 1 and counts["statement_hours"] == 0
    (told,) = [row for row in outcome.rows if row["table"].startswith("bill of node-1 in 2023-11, USD: 0")]
    assert (told["rows_before"], told["rows_after"]) == (0, 1)
    assert [row for row in rebuild(tables).rows if row["groups_that_differ"]] == []


def test_a_log_that_begins_after_the_oldest_range_is_refused(tables: FilledTables) -> None:
    before, kept = answers(tables), tables.log.records[TopicPartition(TOPIC_METRICS, 0)]
    tables.log.records[TopicPartition(TOPIC_METRICS, 0)] = kept[1:]
    store = WatchedStore(tables.store)
    try:
        with pytest.raises(
            RecoveryError, match=r"trainledger.metrics begins at 1, but the tables hold records from 0"
        ):
            rebuild(tables, store)
    finally:
        tables.log.records[TopicPartition(TOPIC_METRICS, 0)] = kept
    assert store.calls == [] and answers(tables) == before


def test_verify_tells_what_the_ledger_and_the_tables_hold(tables: FilledTables) -> None:
    schema = migrate(tables.store)
    rows = {row["topic"]: row for row in verify_generation(tables.store, schema, MemorySource(tables.log))}
    assert all(row["ok"] for row in rows.values()) and len(rows) == 5
    metrics = rows[TOPIC_METRICS]
    assert (metrics["log_begin"], metrics["log_end"], metrics["ledger_end"]) == (0, 2, 2)
    assert metrics["rows_in_ledger"] == metrics["rows_in_tables"] == 6
    assert rows["trainledger.nodes"]["rows_in_tables"] == 14


def test_verify_finds_rows_that_are_missing_and_records_that_were_not_read(tables: FilledTables) -> None:
    schema = migrate(tables.store)
    tables.store.command(f"DELETE FROM {schema.tables.name('points')} WHERE step = 1")
    (wrong,) = [r for r in verify_generation(tables.store, schema, MemorySource(tables.log)) if not r["ok"]]
    assert (wrong["topic"], wrong["rows_in_ledger"], wrong["rows_in_tables"]) == (TOPIC_METRICS, 6, 4)
    # A record more than the ledger knows.
    tables.started(3, 13, START_US)
    unread = [r for r in verify_generation(tables.store, schema, MemorySource(tables.log)) if not r["ok"]]
    assert {row["topic"] for row in unread} == {TOPIC_METRICS, "trainledger.runs"}
