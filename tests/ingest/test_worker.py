"""The worker on a real log and the real engine: what goes in comes out once, whatever is interrupted."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event as StopEvent
from threading import Thread

import kafka
import pytest

from support.broker import Broker
from support.clickhouse_http import running_server
from support.ingest_events import (
    START_US,
    Producer,
    SpoolFiles,
    fixed_id,
    point_block,
    price_fields,
    run_fields,
)
from support.ingest_store import Crash, FaultyStore, count_rows, emptied, fresh_store, points_of
from trainledger_ingest.dead_letters import PoisonError
from trainledger_ingest.dirty import Dirty
from trainledger_ingest.ingest_settings import KafkaSourceSettings, WorkerSettings
from trainledger_ingest.sources.kafka import KafkaSource
from trainledger_ingest.sources.memory import MemoryLog, MemorySource
from trainledger_ingest.sources.source import Source
from trainledger_ingest.sources.spool import SpoolSource
from trainledger_ingest.storage.clickhouse import ClickHouseStore
from trainledger_ingest.storage.migrate import Schema, migrate
from trainledger_ingest.storage.store import Store
from trainledger_ingest.worker import Worker
from trainledger_schemas.clock import Clock, ManualClock, SystemClock
from trainledger_schemas.errors import FatalSourceError, RetryableStoreError, SettingsError
from trainledger_schemas.events import TOPIC_ADMIN, TOPIC_LOGS, TOPIC_METRICS, TOPIC_NODES, TOPIC_RUNS, TOPICS
from trainledger_schemas.ids import id_text, random_id
from trainledger_schemas.positions import TopicPartition

JOURNAL = fixed_id(7)
RUNS = TopicPartition(TOPIC_RUNS, 0)


class Place:
    """One installation in miniature: a log that a test fills, tables, and workers that come and go."""

    def __init__(self, folder: Path, log: str, *, store: Store, broker: Broker | None = None) -> None:
        self.log_kind = log
        self.store: Store = store
        self.schema: Schema = migrate(store)
        self.files = SpoolFiles(folder / "spool")
        self.log = MemoryLog(dict.fromkeys(TOPICS, 1))
        self.broker = broker
        self.group = f"group-{id_text(random_id())}"
        self.producer = Producer()
        self.told: list[Dirty] = []
        self.settings = WorkerSettings(pending=folder / "pending", batch_points=2000)
        self._workers: list[Worker] = []

    def append(self, topic: str, payload: bytes) -> int:
        if self.log_kind == "spool":
            return self.files.append(topic, payload)
        if self.broker is None:
            return self.log.append(topic, payload)
        producer = kafka.KafkaProducer(bootstrap_servers=self.broker.bootstrap, acks="all")
        with closing(producer):
            return int(producer.send(topic, payload, partition=0).get(timeout=30).offset)

    def append_points(self, start: int, end: int) -> None:
        """Rows [start, end) of one journal, two keys each."""
        block = point_block(["acc", "loss"], end - start, first_step=start, first_offset=start * 40)
        payload = self.producer.metrics([block], source=(JOURNAL, start * 40, end * 40))
        self.append(TOPIC_METRICS, payload)

    def source(self, clock: Clock) -> Source:
        if self.log_kind == "spool":
            return SpoolSource(self.files.folder, self.files.durable_end, clock=clock)
        if self.broker is None:
            return MemorySource(self.log)
        return KafkaSource(KafkaSourceSettings(self.broker.bootstrap, self.group, session_timeout_ms=6000))

    def worker(
        self,
        *,
        store: Store | None = None,
        settings: WorkerSettings | None = None,
        clock: Clock | None = None,
        on_batch: Callable[[Dirty], None] | None = None,
    ) -> Worker:
        if self.broker is not None:
            self.close()  # a member that does not poll would hold up the group
        worker = Worker(
            self.source(clock or SystemClock()),
            store or self.store,
            self.schema.tables,
            clock=clock or SystemClock(),
            settings=settings or self.settings,
            on_batch=on_batch or self.told.append,
        )
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        while self._workers:
            self._workers.pop().close()

    def expect_points(self, rows: int) -> None:
        wanted = [("acc", n, float(n)) for n in range(rows)] + [("loss", n, n + 0.001) for n in range(rows)]
        assert points_of(self.store, self.schema) == sorted(wanted)


@pytest.fixture(scope="module")
def server_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with (
        running_server(tmp_path_factory.mktemp("server")) as server,
        closing(ClickHouseStore.open(server.url, database="trainledger")) as store,
    ):
        yield store


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker whose topics have the product's own names."""
    with Broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


def begin_topics_anew(broker: Broker) -> None:
    with closing(kafka.KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        known = sorted(set(admin.list_topics()) & set(TOPICS))
        if known:
            admin.delete_topics(known)
            wait_until(lambda: not set(admin.list_topics()) & set(TOPICS))
        wanted = {"num_partitions": 1, "replication_factor": 1, "configs": {}}
        admin.create_topics(dict.fromkeys(TOPICS, wanted))


def wait_until(is_so: Callable[[], bool]) -> None:
    clock = SystemClock()
    deadline_ns = clock.monotonic_ns() + 30_000_000_000
    while not is_so():
        assert clock.monotonic_ns() < deadline_ns, "it did not come to be in time"
        clock.sleep(0.05)


@pytest.fixture(params=["spool", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(tmp_path, request.param, store=fresh_store())


@pytest.fixture(
    params=[
        pytest.param(("spool", "chdb"), id="spool to chDB"),
        pytest.param(("memory", "chdb"), id="memory to chDB"),
        pytest.param(("memory", "server"), id="memory to a server"),
        pytest.param(("kafka", "server"), id="Kafka to a server", marks=pytest.mark.kafka),
        pytest.param(("kafka", "chdb"), id="Kafka to chDB", marks=pytest.mark.kafka),
    ]
)
def any_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    log, tables = request.param
    store = emptied(request.getfixturevalue("server_store")) if tables == "server" else fresh_store()
    broker = request.getfixturevalue("own_broker") if log == "kafka" else None
    if broker is not None:
        begin_topics_anew(broker)
    place = Place(tmp_path, log, store=store, broker=broker)
    yield place
    place.close()


def test_every_kind_of_event_reaches_its_tables(any_place: Place) -> None:
    producer = any_place.producer
    any_place.append_points(0, 10)
    texts = [{"key": "note", "step": 1, "wall": START_US, "offset": 900, "text": "hello"}]
    any_place.append(TOPIC_METRICS, producer.metrics([], texts=texts, source=(JOURNAL, 400, 1000)))
    any_place.append(TOPIC_RUNS, producer.event("writer_gap", run_fields()))
    lines = {
        "run_id": fixed_id(1),
        "writer_id": fixed_id(1),
        "stream": "stdout",
        "first_line": 1,
        "at_us": [START_US, START_US],
        "offset": [0, 40],
        "text": ["one", "two"],
    }
    any_place.append(TOPIC_LOGS, producer.event("log_chunk", lines, source=(JOURNAL, 0, 80)))
    usage = {"kind": "run", "run_id": fixed_id(1), "writer_id": fixed_id(1), "owner": None}
    window = {"start_us": START_US, "end_us": START_US + 10_000_000, "cores": 8}
    used = [usage | {"cpu_us": 5, "memory_peak_bytes": 6}]
    any_place.append(TOPIC_NODES, producer.event("process_usage", window | {"usage": used}))
    any_place.append(TOPIC_ADMIN, producer.event("price_set", price_fields()))
    worker = any_place.worker()
    worker.drain()
    counts = {"points": 20, "text_points": 1, "run_events": 1, "log_lines": 2, "node_events": 1}
    counts |= {"run_usage_windows": 1, "admin_events": 1, "dead_letters": 0, "ingest_ledger": 5}
    assert {table: count_rows(any_place.store, any_place.schema, table) for table in counts} == counts
    told = Dirty()
    told.merge(any_place.told)
    assert told.run_ids == {id_text(fixed_id(1))}
    hour_us = START_US - START_US % 3_600_000_000
    assert told.node_hours == {("node-1", hour_us)} and told.prices


def test_a_second_drain_and_a_new_worker_add_nothing(any_place: Place) -> None:
    any_place.append_points(0, 50)
    worker = any_place.worker()
    worker.drain()
    worker.drain()
    worker.close()
    any_place.worker().drain()
    any_place.expect_points(50)
    any_place.append_points(50, 60)
    any_place.worker().drain()
    any_place.expect_points(60)
    assert count_rows(any_place.store, any_place.schema, "ingest_ledger") == 2


@pytest.mark.parametrize("insert", [5, 6], ids=["after the points", "after the texts"])
def test_a_worker_that_dies_within_a_batch_is_followed_by_one_that_finishes_it(
    any_place: Place, insert: int
) -> None:
    any_place.append_points(0, 30)
    texts = [{"key": "note", "step": 1, "wall": START_US, "offset": 1250, "text": "hello"}]
    any_place.append(
        TOPIC_METRICS, any_place.producer.metrics([], texts=texts, source=(fixed_id(8), 0, 1300))
    )
    dying = any_place.worker(store=FaultyStore(any_place.store, crash_insert=insert, after=True))
    with pytest.raises(Crash):
        dying.drain()
    any_place.append_points(30, 40)
    any_place.worker().drain()
    assert count_rows(any_place.store, any_place.schema, "text_points") == 1
    any_place.expect_points(40)


def test_a_batch_of_duplicates_alone_moves_the_ledger_and_stores_nothing(any_place: Place) -> None:
    any_place.append_points(0, 10)
    again = any_place.producer.metrics(
        [point_block(["acc", "loss"], 10, first_offset=0)], source=(JOURNAL, 0, 400)
    )
    worker = any_place.worker()
    worker.drain()
    any_place.append(TOPIC_METRICS, again)
    worker.drain()
    any_place.expect_points(10)
    assert count_rows(any_place.store, any_place.schema, "ingest_ledger") == 2


def test_batches_close_by_rows_and_by_age(place: Place) -> None:
    clock = ManualClock()
    worker = place.worker(clock=clock)
    place.append_points(0, 900)
    assert worker.step(0.0) > 0
    assert count_rows(place.store, place.schema, "points") == 0, "neither full nor old"
    place.append_points(900, 1000)
    worker.step(0.0)
    assert count_rows(place.store, place.schema, "points") == 2000, "full"
    place.append_points(1000, 1001)
    worker.step(0.0)
    clock.advance(1.1)
    worker.step(0.0)
    assert count_rows(place.store, place.schema, "points") == 2002, "old"


def test_a_metrics_record_that_cannot_be_read_becomes_a_dead_letter(any_place: Place) -> None:
    any_place.append_points(0, 5)
    any_place.append(TOPIC_METRICS, b"not an event")
    any_place.append(TOPIC_METRICS, any_place.producer.event("writer_gap", run_fields()))
    any_place.append_points(5, 10)
    any_place.worker().drain()
    any_place.expect_points(10)
    rows = any_place.store.rows(
        "SELECT toString(reason) AS reason, payload "
        f"FROM {any_place.schema.tables.name('dead_letters')} ORDER BY offset"
    )
    assert [row["reason"] for row in rows] == ["not_avro", "wrong_topic"]
    assert rows[0]["payload"] == "not an event"


def test_a_poison_claim_stops_its_partition_until_it_is_skipped_and_the_others_go_on(
    any_place: Place,
) -> None:
    any_place.append(TOPIC_RUNS, any_place.producer.event("writer_gap", run_fields(1)))
    poison = any_place.append(TOPIC_RUNS, b"poison")
    any_place.append(TOPIC_RUNS, any_place.producer.event("writer_gap", run_fields(2)))
    any_place.append_points(0, 5)
    worker = any_place.worker()
    with pytest.raises(PoisonError, match=rf"admin dead skip trainledger\.runs 0 {poison}"):
        worker.drain()
    any_place.expect_points(5)
    assert count_rows(any_place.store, any_place.schema, "run_events") == 1
    assert set(worker.stopped) == {RUNS}
    skip = {"at_us": START_US, "topic": TOPIC_RUNS, "partition": 0, "offset": poison}
    any_place.append(
        TOPIC_ADMIN, any_place.producer.event("dead_skipped", skip | {"reason": "test", "set_by": "me"})
    )
    worker.drain()
    assert not worker.stopped
    assert count_rows(any_place.store, any_place.schema, "run_events") == 2
    assert count_rows(any_place.store, any_place.schema, "dead_letters") == 1


def test_a_new_worker_honours_a_skip_of_before(place: Place) -> None:
    poison = place.append(TOPIC_RUNS, b"poison")
    skip = {"at_us": START_US, "topic": TOPIC_RUNS, "partition": 0, "offset": poison}
    place.append(TOPIC_ADMIN, place.producer.event("dead_skipped", skip | {"reason": "test", "set_by": "me"}))
    meets_it = place.worker(clock=ManualClock())
    meets_it.step(0.0)
    assert meets_it.step(0.0) == 0 and set(meets_it.stopped) == {RUNS}, "the skip is not in the tables yet"
    place.worker().drain()
    assert count_rows(place.store, place.schema, "dead_letters") == 1


def test_a_store_that_is_away_is_tried_again_and_nothing_is_lost_or_doubled(place: Place) -> None:
    place.append_points(0, 30)
    place.append(TOPIC_RUNS, place.producer.event("writer_gap", run_fields()))
    clock = ManualClock()
    faulty = FaultyStore(place.store, fail_calls=frozenset(range(2, 30, 3)))
    worker = place.worker(store=faulty, clock=clock)
    worker.drain()
    place.expect_points(30)
    assert count_rows(place.store, place.schema, "run_events") == 1
    assert worker.outage is None


def test_waits_between_tries_grow_to_their_limit_and_no_record_is_read_meanwhile(place: Place) -> None:
    place.append_points(0, 3)
    clock = ManualClock()
    store = FaultyStore(place.store, fail_calls=frozenset(range(1000)))
    settings = WorkerSettings(pending=place.settings.pending, retry_s_min=1, retry_s_max=4)
    worker = place.worker(store=store, clock=clock, settings=settings)
    waits = []
    for _ in range(5):
        worker.step(0.0)
        before, calls = clock.monotonic_ns(), store.calls
        while store.calls == calls:
            worker.step(10.0)
        waits.append((clock.monotonic_ns() - before) / 1e9)
    assert [round(wait) for wait in waits] == [1, 2, 4, 4, 4]
    assert isinstance(worker.outage, RetryableStoreError)


def test_draining_with_a_time_limit_reports_what_kept_it(place: Place) -> None:
    place.append_points(0, 3)
    store = FaultyStore(place.store, fail_calls=frozenset(range(1000)))
    with pytest.raises(RetryableStoreError, match="as the test wants"):
        place.worker(store=store, clock=ManualClock()).drain(timeout_s=60)


def test_a_refresh_that_fails_is_told_again(place: Place) -> None:
    told: list[Dirty] = []

    def refresh(dirty: Dirty) -> None:
        told.append(dirty)
        if len(told) == 1:
            raise RetryableStoreError("away")

    place.append(TOPIC_RUNS, place.producer.event("writer_gap", run_fields()))
    place.worker(clock=ManualClock(), on_batch=refresh).drain()
    assert [dirty.run_ids for dirty in told] == [{id_text(fixed_id(1))}] * 2
    assert count_rows(place.store, place.schema, "run_events") == 1


def test_a_log_that_was_begun_anew_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path, "memory", store=fresh_store())
    place.append_points(0, 5)
    place.worker().drain()
    place.log = MemoryLog(dict.fromkeys(TOPICS, 1))
    with pytest.raises(FatalSourceError, match="deleted and made anew"):
        place.worker().drain()


def test_a_log_whose_next_record_was_removed_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path, "memory", store=fresh_store())
    for start in range(4):
        place.append_points(start, start + 1)
    place.worker().drain()
    records = place.log.records[TopicPartition(TOPIC_METRICS, 0)]
    for start in range(4, 8):
        place.append_points(start, start + 1)
    del records[:6]
    with pytest.raises(FatalSourceError, match="removed before they were read"):
        place.worker().drain()


def test_a_topic_whose_number_of_partitions_changed_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path, "memory", store=fresh_store())
    place.append_points(0, 5)
    place.worker().drain()
    grown = MemoryLog(dict.fromkeys(TOPICS, 1) | {TOPIC_METRICS: 2})
    grown.ids = dict(place.log.ids)
    grown.records.update(place.log.records)
    place.log = grown
    with pytest.raises(FatalSourceError, match="a topic with a new name"):
        place.worker().drain()


def test_two_workers_that_take_turns_on_one_log_store_each_row_once(tmp_path: Path) -> None:
    place = Place(tmp_path, "memory", store=fresh_store())
    first, second = place.worker(clock=ManualClock()), place.worker(clock=ManualClock())
    for turn in range(12):
        place.append_points(turn * 10, turn * 10 + 10)
        (first if turn % 2 else second).step(0.0)
        if turn % 3 == 0:
            (second if turn % 2 else first).drain()
    first.drain()
    place.expect_points(120)


def test_run_ends_when_it_is_told_to_and_what_was_due_is_stored(place: Place) -> None:
    place.append_points(0, 1500)
    stop = StopEvent()
    worker = place.worker(on_batch=lambda dirty: None)
    thread = Thread(target=worker.run, args=(stop,))
    thread.start()
    clock = SystemClock()
    deadline_ns = clock.monotonic_ns() + 20_000_000_000
    while count_rows(place.store, place.schema, "ingest_ledger") < 1:
        assert clock.monotonic_ns() < deadline_ns
        clock.sleep(0.05)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    place.expect_points(1500)


def test_a_spool_needs_a_folder_for_intents(tmp_path: Path) -> None:
    place = Place(tmp_path, "spool", store=fresh_store())
    with pytest.raises(SettingsError, match="folder for its intents"):
        place.worker(settings=WorkerSettings(pending=None))
