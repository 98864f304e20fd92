"""One suite for both stores: the embedded engine and a server over HTTP (the same engine in another process)."""

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from support.clickhouse_http import TestServer, running_server
from support.engine import fresh_database, shared_engine
from trainledger_ingest.storage.chdb import ChdbStore
from trainledger_ingest.storage.clickhouse import ClickHouseStore
from trainledger_ingest.storage.store import MEMORY_LIMIT_EXCEEDED, TOO_MANY_PARTS, UserLimits
from trainledger_schemas.errors import (
    FatalStoreError,
    RetryableStoreError,
    SettingsError,
    UsageError,
    UserQueryError,
)

AnyStore = ChdbStore | ClickHouseStore
_numbers = itertools.count(1)
LIMITS = UserLimits(time_s=2, memory_bytes=300 << 20, result_rows=1000, threads=2)
ONE_RUN = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")
TABLE = """
CREATE TABLE points (run_id UUID, key LowCardinality(String), step Int64, wall DateTime64(6), value Float64,
  price Decimal(38, 6), note Nullable(String), devices Array(UInt16), tags Map(String, String))
ENGINE = MergeTree ORDER BY (run_id, key, step) SETTINGS non_replicated_deduplication_window = {window}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def remote(server: TestServer) -> Iterator[ClickHouseStore]:
    name = f"trainledger_r{next(_numbers)}"
    store = ClickHouseStore.open(server.url, database=name, limits=LIMITS)
    yield store
    store.command(f"DROP DATABASE {name}")
    store.close()


@pytest.fixture(params=["chdb", "clickhouse"])
def store(request: pytest.FixtureRequest) -> Iterator[AnyStore]:
    if request.param == "clickhouse":
        yield request.getfixturevalue("remote")
        return
    embedded = fresh_database()
    yield embedded
    embedded.command(f"DROP DATABASE {embedded.database}")


@pytest.fixture
def points(store: AnyStore) -> AnyStore:
    store.command(TABLE.format(window=100 if store.capabilities.insert_tokens else 0))
    return store


def rows_of(steps: range, *, key: str = "loss") -> pa.Table:
    count = len(steps)
    return pa.table(
        {
            "run_id": pa.array([ONE_RUN.bytes] * count, pa.binary(16)),
            "key": pa.array([key] * count).dictionary_encode(),
            "step": pa.array(list(steps), pa.int64()),
            "wall": pa.array([1_700_000_000_123_456] * count, pa.timestamp("us", tz="UTC")),
            "value": pa.array([step / 2 for step in steps], pa.float64()),
            "price": pa.array([Decimal("12345678901234567890.123456")] * count, pa.decimal128(38, 6)),
            "note": pa.array([None] * count, pa.string()),
            "devices": pa.array([[1, 2]] * count, pa.list_(pa.uint16())),
            "tags": pa.array([[("a", "b")]] * count, pa.map_(pa.string(), pa.string())),
        }
    )


def count_of(store: AnyStore) -> int:
    found = store.rows("SELECT count() AS n FROM points")[0]["n"]
    assert isinstance(found, int)
    return found


def test_a_row_comes_back_in_python_values_as_it_went_in(points: AnyStore) -> None:
    points.insert("points", rows_of(range(3, 4)))

    (row,) = points.rows("SELECT * FROM points")

    assert row == {
        "run_id": ONE_RUN,
        "key": "loss",
        "step": 3,
        "wall": datetime.fromtimestamp(1_700_000_000, UTC).replace(microsecond=123_456),
        "value": 1.5,
        "price": Decimal("12345678901234567890.123456"),
        "note": None,
        "devices": [1, 2],
        "tags": {"a": "b"},
    }


def test_a_row_comes_back_in_arrow_with_its_types(points: AnyStore) -> None:
    points.insert("points", rows_of(range(3, 4)))

    table = points.query("SELECT run_id, key, wall, price, note, devices, tags FROM points")

    (row,) = table.to_pylist()
    assert row["run_id"] == ONE_RUN
    assert row["key"] == "loss"
    assert row["wall"] == datetime.fromtimestamp(1_700_000_000, UTC).replace(microsecond=123_456)
    assert row["price"] == Decimal("12345678901234567890.123456")
    assert row["note"] is None
    assert row["devices"] == [1, 2]
    assert row["tags"] == [("a", "b")]


def test_arrow_gives_back_the_types_that_the_engine_writes_as_numbers_and_bytes(store: AnyStore) -> None:
    table = store.query(
        "SELECT toDateTime(60) AS moment, [toDateTime(60)] AS moments, toNullable(toDateTime(60)) AS maybe, "
        "CAST(NULL AS Nullable(DateTime)) AS never, CAST('it\\'s' AS Enum8('it\\'s' = -1, 'b' = 2)) AS state, "
        "toInt128('-170141183460469231731687303715884105727') AS wide, toUInt256('1') AS wider, "
        "toIPv6('::1') AS address, toFixedString('ab', 2) AS fixed"
    )

    minute = datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
    assert table.to_pylist() == [
        {
            "moment": minute,
            "moments": [minute],
            "maybe": minute,
            "never": None,
            "state": "it's",
            "wide": Decimal("-170141183460469231731687303715884105727"),
            "wider": Decimal(1),
            "address": "::1",
            "fixed": b"ab",
        }
    ]


def test_a_query_without_rows_keeps_its_columns(points: AnyStore) -> None:
    table = points.query("SELECT run_id, toDateTime(wall) AS at, price FROM points")

    assert table.num_rows == 0
    assert table.column_names == ["run_id", "at", "price"]
    assert pa.types.is_timestamp(table.schema.field("at").type)
    assert points.rows("SELECT * FROM points") == []


def test_parameters_are_bound_by_the_engine(store: AnyStore) -> None:
    hostile = "it's {x:String} 'quoted' \\ % \t ünïcode"

    (row,) = store.rows("SELECT {a:String} AS a, {b:Array(Int64)} AS b", {"a": hostile, "b": [1, -2]})

    assert row == {"a": hostile, "b": [1, -2]}


def test_an_insert_in_many_chunks_with_different_dictionaries_becomes_one_part(points: AnyStore) -> None:
    pieces = [rows_of(range(at, at + 1000), key=f"k{at}") for at in range(0, 5000, 1000)]

    points.insert("points", pa.concat_tables(pieces))

    found = points.rows(
        "SELECT count() AS parts, sum(rows) AS n FROM system.parts "
        "WHERE active AND table = 'points' AND database = {d:String}",
        {"d": points.database},
    )
    assert found == [{"parts": 1, "n": 5000}]


def test_an_insert_of_nothing_stores_nothing(points: AnyStore) -> None:
    points.insert("points", rows_of(range(0)))

    assert count_of(points) == 0


def test_an_identical_insert_without_a_token_is_stored_again(points: AnyStore) -> None:
    points.insert("points", rows_of(range(10)))
    points.insert("points", rows_of(range(10)))

    assert count_of(points) == 20


def test_a_repeated_token_does_what_the_capabilities_say(points: AnyStore) -> None:
    points.insert("points", rows_of(range(10)), token="t1")
    points.insert("points", rows_of(range(10)), token="t1")
    points.insert("points", rows_of(range(10)), token="t2")

    assert count_of(points) == (20 if points.capabilities.insert_tokens else 30)


def test_a_repeated_insert_token_after_a_delete_answers_ok_and_only_a_new_token_stores(
    points: AnyStore,
) -> None:
    points.insert("points", rows_of(range(10)), token="t1")
    points.command("ALTER TABLE points DELETE WHERE 1 SETTINGS mutations_sync = 2")
    assert count_of(points) == 0

    points.insert("points", rows_of(range(10)), token="t1")
    after_repeat = count_of(points)
    points.insert("points", rows_of(range(10)), token="t1/r1")

    if points.capabilities.insert_tokens:
        # The answer was OK and nothing was stored: that is why a retry must count.
        assert (after_repeat, count_of(points)) == (0, 10)
    else:
        assert (after_repeat, count_of(points)) == (10, 20)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        pytest.param(lambda s: s.command("CREATE TABLE points (a Int8) ENGINE = Memory"), None, id="grant"),
        pytest.param(lambda s: s.rows("SELECT * FROM absent"), 60, id="unknown table"),
        pytest.param(lambda s: s.query("SELECT absent FROM points"), 47, id="unknown column"),
        pytest.param(lambda s: s.insert("absent", rows_of(range(1))), 60, id="insert"),
        pytest.param(lambda s: s.insert("points", pa.table({"nope": [1]})), None, id="insert column"),
        pytest.param(lambda s: s.command("SELEC 1"), 62, id="syntax"),
    ],
)
def test_a_call_that_cannot_succeed_is_fatal_and_says_why_in_one_line(
    points: AnyStore, call: Callable[[AnyStore], None], code: int | None
) -> None:
    with pytest.raises(FatalStoreError) as caught:
        call(points)

    assert caught.value.code is not None
    assert code is None or caught.value.code == code
    assert "\n" not in str(caught.value)
    assert "version" not in str(caught.value)


def test_a_limit_met_in_a_query_is_retryable_and_carries_the_code(store: AnyStore) -> None:
    with pytest.raises(RetryableStoreError) as caught:
        store.rows("SELECT groupArray(number) FROM numbers(100000000) SETTINGS max_memory_usage = 20000000")

    assert caught.value.code == MEMORY_LIMIT_EXCEEDED


def test_text_that_does_not_fit_the_column_is_refused_whole(points: AnyStore) -> None:
    bad = rows_of(range(3)).drop_columns(["step"]).append_column("step", pa.array(["1", "x", "3"]))

    with pytest.raises(FatalStoreError):
        points.insert("points", bad)

    assert count_of(points) == 0


def test_after_a_failed_query_the_next_one_gets_its_own_answer(store: AnyStore) -> None:
    for _ in range(3):
        with pytest.raises(RetryableStoreError):
            store.query("SELECT sum(number) FROM numbers(100000000000000) SETTINGS max_execution_time = 0.1")
        assert store.query("SELECT 7 AS n").to_pylist() == [{"n": 7}]
        assert store.rows("SELECT 8 AS n") == [{"n": 8}]


def test_queries_and_inserts_from_many_threads_do_not_mix(points: AnyStore) -> None:
    def work(number: int) -> object:
        if number % 4 == 0:
            points.insert("points", rows_of(range(number * 10, number * 10 + 10)))
        return points.rows("SELECT {n:Int64} AS n", {"n": number})[0]["n"]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(40))) == list(range(40))
    assert count_of(points) == 100


def test_a_slow_query_does_not_hold_up_another(store: AnyStore) -> None:
    slow = threading.Thread(target=store.rows, args=("SELECT sleep(1.5)",))
    slow.start()
    began = time.monotonic()
    store.rows("SELECT 1")
    took_s = time.monotonic() - began
    slow.join()

    assert took_s < 1.0


@pytest.mark.parametrize("name", ["", "default", "system", "a-b", "A", "x; DROP", "x" * 64])
def test_a_database_name_that_needs_quoting_is_refused(name: str, server: TestServer) -> None:
    with pytest.raises(UsageError, match="database name"):
        ClickHouseStore.open(server.url, database=name)
    with pytest.raises(UsageError, match="database name"):
        shared_engine().for_database(name)


# -- a server that fails ------------------------------------------------------------------------------


@pytest.fixture
def remote_points(remote: ClickHouseStore) -> ClickHouseStore:
    remote.command(TABLE.format(window=100))
    return remote


@pytest.mark.parametrize("token", ["t1", None])
def test_a_lost_reply_is_retryable_and_the_insert_is_sent_once(
    server: TestServer, remote_points: ClickHouseStore, token: str | None
) -> None:
    server.arm("cut_reply", match="INSERT INTO")

    with pytest.raises(RetryableStoreError):
        remote_points.insert("points", rows_of(range(10)), token=token)
    assert count_of(remote_points) == 10

    if token is not None:
        remote_points.insert("points", rows_of(range(10)), token=token)
        assert count_of(remote_points) == 10


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("reset_body", None),
        ("error_500", None),
        ("error_241", MEMORY_LIMIT_EXCEEDED),
        ("error_252", TOO_MANY_PARTS),
    ],
)
def test_a_refused_insert_is_retryable_and_stores_nothing(
    server: TestServer, remote_points: ClickHouseStore, kind: str, code: int | None
) -> None:
    server.arm(kind, match="INSERT INTO")

    with pytest.raises(RetryableStoreError) as caught:
        remote_points.insert("points", rows_of(range(10)), token="t1")
    assert caught.value.code == code
    assert count_of(remote_points) == 0

    remote_points.insert("points", rows_of(range(10)), token="t1")
    assert count_of(remote_points) == 10


def test_a_slow_answer_is_waited_for(server: TestServer, remote_points: ClickHouseStore) -> None:
    server.arm("slow", match="INSERT INTO", seconds=0.5)
    began = time.monotonic()

    remote_points.insert("points", rows_of(range(10)))

    assert time.monotonic() - began >= 0.5
    assert count_of(remote_points) == 10


def test_a_killed_server_is_retryable_and_keeps_rows_and_tokens(tmp_path: Path) -> None:
    with running_server(tmp_path) as first:
        store = ClickHouseStore.open(first.url, database="trainledger")
        store.command(TABLE.format(window=100))
        store.insert("points", rows_of(range(10)), token="t1")
        first.process.kill()
        first.process.wait()
        with pytest.raises(RetryableStoreError):
            store.rows("SELECT 1")
        with pytest.raises(RetryableStoreError):
            ClickHouseStore.open(first.url, database="trainledger")
        with running_server(tmp_path, port=first.port):
            store.insert("points", rows_of(range(10)), token="t1")
            assert count_of(store) == 10
        store.close()


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match="http://"):
        ClickHouseStore.open("clickhouse.example:8123", database="trainledger")


def test_a_servers_user_query_is_guarded_and_limited(remote: ClickHouseStore, tmp_path: Path) -> None:
    remote.command("CREATE TABLE internal (a Int64) ENGINE = MergeTree ORDER BY a")
    remote.command("INSERT INTO internal VALUES (1), (2)")
    remote.command("CREATE VIEW runs AS SELECT a AS run_id FROM internal")
    stolen = tmp_path / "stolen"

    assert remote.user_query("SELECT sum(run_id) AS s FROM runs").to_pylist() == [{"s": 3}]
    assert remote.user_query("SELECT {n:Int64} AS n", {"n": 4}).to_pylist() == [{"n": 4}]
    for sql in (
        "SELECT * FROM internal",
        "SELECT file('/etc/passwd')",
        f"SELECT 1 INTO OUTFILE '{stolen}'",
        "DROP TABLE internal",
        "SELECT 1; DROP TABLE internal",
        "SELECT 1 FORMAT CSV",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT * FROM {t:Identifier}",
    ):
        with pytest.raises(UserQueryError):
            remote.user_query(sql, {"t": "internal"} if "{t:" in sql else None)
    assert not stolen.exists()
    many = f"SELECT number FROM numbers({LIMITS.result_rows + 1})"
    with pytest.raises(UserQueryError, match="limit of the result"):
        remote.user_query(many)
    assert remote.user_query(many, is_export=True).num_rows == LIMITS.result_rows + 1
    assert remote.rows("SELECT count() AS n FROM internal") == [{"n": 2}]
    with pytest.raises(UserQueryError, match="time limit") as caught:
        remote.user_query("SELECT sum(number) FROM numbers(100000000000000)")
    assert "(for url" not in str(caught.value)
