"""A worker that dies at every step of a batch, and replies that are lost: each row is stored exactly once."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.clickhouse_http import TestServer, running_server
from support.ingest_events import Producer, SpoolFiles, fixed_id, point_block, run_fields
from support.ingest_store import Crash, FaultyStore, TokenStore, count_rows, emptied, fresh_store, points_of
from trainledger_ingest.ingest_settings import WorkerSettings
from trainledger_ingest.intents import FileIntents, Intent
from trainledger_ingest.sources.memory import MemoryLog, MemorySource
from trainledger_ingest.sources.source import Source
from trainledger_ingest.sources.spool import SpoolSource
from trainledger_ingest.storage.clickhouse import ClickHouseStore
from trainledger_ingest.storage.migrate import Schema, migrate
from trainledger_ingest.storage.store import Store
from trainledger_ingest.worker import Worker
from trainledger_schemas.clock import ManualClock
from trainledger_schemas.errors import RecoveryError, RetryableStoreError
from trainledger_schemas.events import TOPIC_METRICS, TOPIC_RUNS, TOPICS
from trainledger_schemas.positions import TopicPartition

JOURNAL = fixed_id(7)
METRICS = TopicPartition(TOPIC_METRICS, 0)
EMBEDDED, CLUSTER = "embedded", "cluster"


class Deployment:
    """Log and tables of one deployment; `worker` is a new process each time."""

    def __init__(self, folder: Path, kind: str, *, store: Store | None = None) -> None:
        self.kind = kind
        self.folder = folder
        if store is None:
            store = fresh_store() if kind == EMBEDDED else TokenStore(fresh_store())
        self.store = store
        self.schema: Schema = migrate(self.store)
        self.files = SpoolFiles(folder / "spool")
        self.log = MemoryLog(dict.fromkeys(TOPICS, 1))
        self.producer = Producer()
        self.rows = 0

    def append(self, topic: str, payload: bytes) -> None:
        if self.kind == EMBEDDED:
            self.files.append(topic, payload)
        else:
            self.log.append(topic, payload)

    def append_points(self, rows: int, *, again: int = 0) -> None:
        """So many new rows and a text, behind `again` rows that came before."""
        start, end = max(0, self.rows - again), self.rows + rows
        block = point_block(["loss"], end - start, first_step=start, first_offset=start * 40)
        texts = [{"key": "t", "step": end, "wall": 1, "offset": end * 40 - 1, "text": "x"}]
        source = (JOURNAL, start * 40, end * 40)
        self.append(TOPIC_METRICS, self.producer.metrics([block], texts=texts, source=source))
        self.rows = end

    def worker(self, store: Store | None = None, *, batch_points: int = 200_000) -> Worker:
        clock = ManualClock()
        source: Source = MemorySource(self.log)
        if self.kind == EMBEDDED:
            source = SpoolSource(self.files.folder, self.files.durable_end, clock=clock)
        return Worker(
            source,
            store or self.store,
            self.schema.tables,
            clock=clock,
            settings=WorkerSettings(pending=self.folder / "pending", batch_points=batch_points),
            on_batch=lambda dirty: None,
        )

    def check(self, *, texts: int) -> None:
        assert points_of(self.store, self.schema) == [("loss", n, float(n)) for n in range(self.rows)]
        assert count_rows(self.store, self.schema, "text_points") == texts
        ledger = self.store.rows(
            f"SELECT sum(row_counts[indexOf(tables, 'points')]) AS points, sum(lost_ranges) AS lost "
            f"FROM (SELECT DISTINCT start, end, tables, row_counts, lost_ranges "
            f"FROM {self.schema.tables.name('ingest_ledger')} WHERE topic = '{TOPIC_METRICS}')"
        )
        assert int(str(ledger[0]["points"])) == self.rows
        assert int(str(ledger[0]["lost"])) == 0


@pytest.fixture(params=[EMBEDDED, CLUSTER])
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Deployment:
    return Deployment(tmp_path, request.param)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("insert", range(8))
def test_a_worker_killed_at_any_insert_leaves_a_batch_that_the_next_one_finishes(
    deployment: Deployment, insert: int, after: bool
) -> None:
    # Five inserts remember the partitions, then come points, texts and the ledger row.
    deployment.append_points(20)
    deployment.append_points(10, again=5)
    with pytest.raises(Crash):
        deployment.worker(FaultyStore(deployment.store, crash_insert=insert, after=after)).drain()
    deployment.append_points(30, again=3)
    deployment.worker().drain()
    deployment.check(texts=3)


@pytest.mark.parametrize("first", [5, 6, 7])
@pytest.mark.parametrize("second", [0, 1, 2])
def test_a_worker_killed_during_recovery_is_recovered_too(
    deployment: Deployment, first: int, second: int
) -> None:
    deployment.append_points(20)
    with pytest.raises(Crash):
        deployment.worker(FaultyStore(deployment.store, crash_insert=first, after=True)).drain()
    deployment.append_points(10, again=5)
    for after in (False, True):
        try:
            deployment.worker(FaultyStore(deployment.store, crash_insert=second, after=after)).drain()
        except Crash:
            continue
    deployment.worker().drain()
    deployment.check(texts=2)


@pytest.mark.parametrize("insert", range(8))
def test_a_reply_that_is_lost_after_the_rows_were_stored_doubles_nothing(
    deployment: Deployment, insert: int
) -> None:
    deployment.append_points(20)
    store = FaultyStore(deployment.store, lost_insert=insert)
    worker = deployment.worker(store)
    worker.drain()
    assert store.inserts > insert
    deployment.check(texts=1)


def test_a_token_whose_rows_are_gone_is_not_believed(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, CLUSTER)
    deployment.append_points(20)
    store = deployment.store
    assert isinstance(store, TokenStore)
    with pytest.raises(Crash):
        deployment.worker(FaultyStore(store, crash_insert=5, after=True)).drain()
    deployment.store.command(f"TRUNCATE TABLE {deployment.schema.tables.name('points')}")
    deployment.worker().drain()
    deployment.check(texts=1)


def test_rows_without_ledger_and_intent_stop_the_worker(deployment: Deployment) -> None:
    deployment.append_points(20)
    with pytest.raises(Crash):
        deployment.worker(FaultyStore(deployment.store, crash_insert=6, after=True)).drain()
    deployment.log.commits.clear()
    for path in (deployment.folder / "pending").glob("*.json"):
        path.unlink()
    with pytest.raises(RecoveryError, match="no intent says why"):
        deployment.worker().drain()


def test_a_table_with_a_part_of_a_batch_stops_the_worker(deployment: Deployment) -> None:
    deployment.append_points(20)
    with pytest.raises(Crash):
        deployment.worker(FaultyStore(deployment.store, crash_insert=6, after=True)).drain()
    table = deployment.schema.tables.name("points")
    deployment.store.command(f"ALTER TABLE {table} DELETE WHERE step < 3 SETTINGS mutations_sync = 1")
    with pytest.raises(RecoveryError, match="points holds 17 rows"):
        deployment.worker().drain()


def test_a_changed_log_under_an_unfinished_batch_stops_the_worker(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, EMBEDDED)
    deployment.append_points(20)
    with pytest.raises(Crash):
        deployment.worker(FaultyStore(deployment.store, crash_insert=6, after=True)).drain()
    plan = {"points": 21, "text_points": 1}
    generation = deployment.schema.generation
    FileIntents(tmp_path / "pending").write(METRICS, Intent(0, 1, generation, 202311, plan))
    with pytest.raises(RecoveryError, match="the log was changed, or another version runs"):
        deployment.worker().drain()


def test_a_worker_that_lost_its_partitions_in_the_middle_of_a_batch_writes_nothing_more(
    tmp_path: Path,
) -> None:
    deployment = Deployment(tmp_path, CLUSTER)
    deployment.append_points(20)
    loser = deployment.worker()
    loser.step(0.0)
    loser.step(0.0)  # the batch is open in memory
    deployment.worker().drain()  # another member takes the partitions and all records
    loser.drain()
    deployment.append_points(5)
    loser.drain()
    deployment.check(texts=2)


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 12)), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=5),
    st.integers(5, 60),
)
def test_any_sequence_of_deaths_over_any_cuts_stores_each_row_once(
    tmp_path_factory: pytest.TempPathFactory,
    ranges: list[tuple[int, int]],
    deaths: list[tuple[int, bool]],
    batch_points: int,
) -> None:
    for kind in (EMBEDDED, CLUSTER):
        deployment = Deployment(tmp_path_factory.mktemp("faults"), kind)
        left = list(deaths)
        for rows, again in ranges:
            deployment.append_points(rows, again=again)
            if left:
                insert, after = left.pop()
                store = FaultyStore(deployment.store, crash_insert=insert, after=after)
                try:
                    deployment.worker(store, batch_points=batch_points).drain()
                except Crash:
                    pass
        deployment.worker(batch_points=batch_points).drain()
        deployment.check(texts=len(ranges))


def test_claims_are_stored_once_over_a_crash(deployment: Deployment) -> None:
    for run in range(5):
        payload = deployment.producer.event("writer_gap", run_fields(run))
        deployment.append(TOPIC_RUNS, payload)
        deployment.append(TOPIC_RUNS, payload)
    with pytest.raises(Crash):
        deployment.worker(FaultyStore(deployment.store, crash_insert=5, after=True)).drain()
    deployment.worker().drain()
    assert count_rows(deployment.store, deployment.schema, "run_events") == 5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def served(server: TestServer) -> closing[ClickHouseStore]:
    return closing(ClickHouseStore.open(server.url, database="trainledger"))


@pytest.fixture
def remote(server: TestServer, tmp_path: Path) -> Iterator[Deployment]:
    with served(server) as store:
        yield Deployment(tmp_path, CLUSTER, store=emptied(store))


@pytest.mark.parametrize(
    ("kind", "table", "times"),
    [
        *((kind, table, 1) for kind in ("cut_reply", "error_241") for table in ("points", "ingest_ledger")),
        ("cut_reply", "text_points", 3),
        ("reset_body", "points", 3),
        ("error_500", "text_points", 2),
        ("error_252", "points", 3),
    ],
)
def test_a_server_that_fails_or_whose_reply_is_lost_doubles_nothing(
    server: TestServer, remote: Deployment, kind: str, table: str, times: int
) -> None:
    remote.append_points(20)
    remote.worker().drain()
    remote.append_points(10, again=4)
    server.arm(kind, match=f"INSERT INTO {remote.schema.tables.name(table)} ", times=times)
    worker = remote.worker()
    worker.drain()
    remote.check(texts=2)
    assert count_rows(remote.store, remote.schema, "ingest_ledger") == 2, "the ledger's token holds too"


def test_a_lost_reply_is_repeated_with_the_same_token_and_counted(
    server: TestServer, remote: Deployment
) -> None:
    insert = f"INSERT INTO {remote.schema.tables.name('points')} "
    remote.append_points(20)
    server.arm("cut_reply", match=insert)
    before = len(server.statements())
    remote.worker().drain()
    asked = server.statements()[before:]
    inserts = [index for index, text in enumerate(asked) if insert in text]
    counts = [i for i, text in enumerate(asked) if "count()" in text and ".points " in text]
    assert len(inserts) == 1, "the rows were found, so nothing was sent again"
    assert any(index > inserts[0] for index in counts)
    remote.check(texts=1)


def test_a_server_killed_in_the_middle_of_a_batch_is_finished_after_its_restart(tmp_path: Path) -> None:
    with running_server(tmp_path / "server") as server, served(server) as store:
        deployment = Deployment(tmp_path, CLUSTER, store=store)
        deployment.append_points(20)
        with pytest.raises(Crash):
            deployment.worker(FaultyStore(store, crash_insert=5, after=True)).drain()
        server.process.kill()
        server.process.wait()
        with pytest.raises(RetryableStoreError):
            deployment.worker().drain(timeout_s=5)
    with running_server(tmp_path / "server") as server, served(server) as store:
        deployment.store = store
        deployment.append_points(10, again=3)
        deployment.worker().drain()
        deployment.check(texts=2)
