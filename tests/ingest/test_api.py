"""The local API on a real socket with real tables: who may use it, what it refuses, what it survives."""

import http.client
import json
import os
import socket
import stat
import struct
import tempfile
import threading
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from support.engine import shared_engine
from support.filled_tables import StoreSession
from trainledger_ingest.api import BODY_BYTES_MAX, ApiServer
from trainledger_ingest.log_state import LogState
from trainledger_ingest.remote_session import RemoteSession
from trainledger_ingest.session import Progress
from trainledger_schemas.errors import (
    FatalStoreError,
    NotFoundError,
    RetryableError,
    TrainledgerError,
    UsageError,
    UserQueryError,
)
from trainledger_schemas.ids import id_text


class ServedSession(StoreSession):
    """What `up` serves, over the engine of the tests; remembers what it was told."""

    def __init__(self) -> None:
        self.store = shared_engine()
        super().__init__(self.store)
        self.admin: list[tuple[str, Mapping[str, Any]]] = []
        self.drains = 0
        self.failure: Exception | None = None

    def user_query(self, sql: str, *, is_export: bool = False) -> pa.Table:
        return self.store.user_query(sql, is_export=is_export)

    def append_admin(self, event_type: str, *fields: Mapping[str, Any]) -> None:
        if self.failure:
            raise self.failure
        self.admin += [(event_type, item) for item in fields]

    def log_state(self) -> LogState:
        return LogState(0)

    def verify(self) -> list[dict[str, Any]]:
        return [{"topic": "trainledger.runs", "ok": True}]

    def has_tables_open(self) -> bool:
        return True

    def rebuild(self, progress: Progress | None = None) -> list[dict[str, Any]]:
        return [{"table": "points", "rows_after": 2**60}]

    def drain(self) -> None:
        self.drains += 1

    def run_cost(self, run_id: str) -> Mapping[str, Any]:
        rows = self.store.rows("SELECT toString({id:UUID}) AS id", {"id": run_id})
        return {"cost": "1.23", "currency": "USD", "id": rows[0]["id"]}


@pytest.fixture
def path() -> Iterator[Path]:
    # Not under pytest's own folder: the path of a unix socket is at most 107 bytes long.
    with tempfile.TemporaryDirectory(prefix="tl-") as folder:
        yield Path(folder) / "api.sock"


@pytest.fixture
def served() -> ServedSession:
    return ServedSession()


@pytest.fixture
def server(path: Path, served: ServedSession) -> Iterator[ApiServer]:
    api = ApiServer(path, served, drain=served.drain, run_cost=served.run_cost)
    try:
        yield api
    finally:
        api.close()


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(20)
    connection.connect(str(path))
    return connection


def ask(path: Path, head: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, Any]]:
    """One request as it stands on the wire; the status and the JSON of the answer."""
    lines = [f"{head} HTTP/1.1", "Host: x", *(f"{n.replace('_', '-')}: {v}" for n, v in headers.items())]
    with connect(path) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, json.loads(answer.read())


def post(path: Path, address: str, body: bytes) -> tuple[int, dict[str, Any]]:
    return ask(path, f"POST {address}", body, Content_Length=str(len(body)))


def test_only_its_owner_may_open_the_socket_and_it_goes_with_the_server(
    path: Path, served: ServedSession
) -> None:
    before = os.umask(0)
    try:
        api = ApiServer(path, served, drain=served.drain, run_cost=served.run_cost)
    finally:
        assert os.umask(before) == 0, "the umask of the process is what it was"
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    api.close()
    assert not path.exists()


def test_a_socket_left_by_a_killed_server_is_replaced(path: Path, served: ServedSession) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    api = ApiServer(path, served, drain=served.drain, run_cost=served.run_cost)
    try:
        assert ask(path, "GET /ping") == (200, {"pid": os.getpid()})
    finally:
        api.close()


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("address", "body"),
    [
        ("/nowhere", b"{}"),
        ("/query", b"not json"),
        ("/query", b"[1]"),
        ("/query", b'"text"'),
        ("/query", b"\xff\xfe"),
        ("/drain/", b"{}"),
    ],
    ids=["no address", "no json", "an array", "a text", "no utf-8", "a longer address"],
)
def test_a_request_that_makes_no_sense_is_refused_with_a_reason(
    path: Path, address: str, body: bytes
) -> None:
    status, told = post(path, address, body)
    assert status == 404 and told["error"] == "UsageError" and address in told["message"]
    assert ask(path, "GET /ping")[0] == 200


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("length", ["-1", str(BODY_BYTES_MAX + 1), "many"])
def test_a_length_that_is_wrong_or_too_great_is_refused_unread(path: Path, length: str) -> None:
    status, told = ask(path, "POST /query", Content_Length=length)
    assert status == 404 and told["error"] == "UsageError"


@pytest.mark.usefixtures("server")
def test_an_address_to_get_that_is_none_is_refused(path: Path) -> None:
    assert ask(path, "GET /etc/passwd")[0] == 404
    assert ask(path, "GET /drain")[0] == 404


@pytest.mark.usefixtures("server")
def test_the_cost_of_a_run_is_asked_by_its_id(path: Path) -> None:
    run_id = id_text(bytes(range(16)))
    assert ask(path, f"GET /run-cost?run_id={run_id}") == (
        200,
        {"cost": "1.23", "currency": "USD", "id": run_id},
    )
    for wrong in ("", "?run_id=", "?run_id=1'%20OR%201", "?other=1"):
        status, told = ask(path, f"GET /run-cost{wrong}")
        assert status in (400, 500) and told["message"], wrong


@pytest.mark.usefixtures("server")
def test_results_come_through_with_their_types(path: Path) -> None:
    sql = (
        "SELECT toUInt64(18446744073709551615) AS n, toDecimal128('1.5', 9) AS money, map('a', 'b') AS m, nan AS x, "
        "toDateTime64('2026-11-25 10:00:00.000001', 6, 'UTC') AS at, {t:String} AS t, has({ids:Array(UInt8)}, 2) AS h"
    )
    parameters: dict[str, object] = {"t": "it's\n\"\\ ü", "ids": [1, 2]}
    remote = RemoteSession.open(path, views="trainledger")
    there, here = remote.query(sql, parameters), shared_engine().query(sql, parameters)
    assert there.schema == here.schema
    assert there.drop_columns("x").equals(here.drop_columns("x"))
    assert there["money"].to_pylist() == [Decimal("1.500000000")]


def test_opening_a_session_drains_first(path: Path, server: ApiServer, served: ServedSession) -> None:
    del server
    RemoteSession.open(path, views="v")
    assert served.drains == 1


def test_a_big_answer_comes_whole(path: Path, server: ApiServer) -> None:
    del server
    remote = RemoteSession(path, views="v")
    found = remote.query("SELECT number AS n, repeat('x', 30) AS t FROM numbers(1000000)")
    assert found.num_rows == 1_000_000 and found.nbytes > 2 * BODY_BYTES_MAX
    assert sum(found["n"].to_pylist()) == 499_999_500_000


def test_events_of_the_administrator_and_reports_go_through(
    path: Path, server: ApiServer, served: ServedSession
) -> None:
    del server
    remote = RemoteSession(path, views="v")
    remote.append_admin("price_set", {"pattern": "*", "nano_per_hour": 10**15})
    assert served.admin == [("price_set", {"pattern": "*", "nano_per_hour": 10**15})]
    assert remote.verify() == [{"topic": "trainledger.runs", "ok": True}]
    assert remote.rebuild() == [{"table": "points", "rows_after": 2**60}]
    remote.close()


@pytest.mark.parametrize(
    "failure",
    [UsageError("wrong"), NotFoundError("nothing"), RetryableError("later"), TrainledgerError("other")],
)
def test_our_errors_arrive_as_what_they_were(
    path: Path, server: ApiServer, served: ServedSession, failure: TrainledgerError
) -> None:
    del server
    served.failure = failure
    with pytest.raises(TrainledgerError) as caught:
        RemoteSession(path, views="v").append_admin("price_set", {})
    assert type(caught.value) is type(failure) and str(caught.value) == str(failure)


def test_an_error_that_is_not_ours_is_told_and_the_server_goes_on(
    path: Path, server: ApiServer, served: ServedSession
) -> None:
    del server
    served.failure = ZeroDivisionError("broken")
    with pytest.raises(TrainledgerError, match="ZeroDivisionError: broken"):
        RemoteSession(path, views="v").append_admin("price_set", {})
    with pytest.raises(TrainledgerError):
        RemoteSession(path, views="v").query("SELECT nonsense")
    served.failure = None
    assert ask(path, "GET /ping")[0] == 200


@pytest.mark.usefixtures("server")
def test_the_query_of_a_person_is_guarded_and_its_error_keeps_code_and_name(path: Path) -> None:
    remote = RemoteSession(path, views="v")
    assert remote.user_query("SELECT 1 AS a").to_pylist() == [{"a": 1}]
    many = "SELECT number FROM numbers(200000)"
    assert remote.user_query(many, is_export=True).num_rows == 200_000
    with pytest.raises(UserQueryError, match="limit of the result"):
        remote.user_query(many)
    with pytest.raises(UserQueryError, match="only SELECT"):
        remote.user_query("DROP TABLE runs")
    with pytest.raises(UserQueryError) as caught:
        remote.user_query("SELECT sum(number) FROM numbers(10) WHERE nope = 1")
    assert (caught.value.code, caught.value.name) == (47, "UNKNOWN_IDENTIFIER")


@pytest.mark.usefixtures("server")
def test_a_view_that_the_other_process_has_not_tells_that_it_may_be_of_another_version(path: Path) -> None:
    with pytest.raises(
        FatalStoreError, match=r"of_tomorrow.*changed since `trainledger up` began, stop that"
    ):
        RemoteSession(path, views="v").query("SELECT 1 FROM of_tomorrow")


@pytest.mark.usefixtures("server")
def test_clients_that_go_away_at_any_moment_disturb_nobody(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    del capfd  # what the server says of them is not part of this test's output
    request = json.dumps({"sql": "SELECT repeat('x', 100) FROM numbers(300000)"}).encode()
    head = f"POST /query HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request)}\r\n\r\n".encode()
    for sent in (b"", b"PO", b"nonsense\r\n\r\n", head, head + request[:10], head + request):
        with connect(path) as connection:
            connection.sendall(sent)
    with connect(path) as connection:
        connection.sendall(head + request)
        assert connection.recv(10)
    assert RemoteSession(path, views="v").query("SELECT 1 AS a").to_pylist() == [{"a": 1}]


@pytest.mark.usefixtures("server")
def test_a_slow_client_does_not_hold_up_the_others(path: Path) -> None:
    with connect(path) as slow:
        slow.sendall(b"POST /query HTTP/1.1\r\n")
        assert ask(path, "GET /ping")[0] == 200


@pytest.mark.usefixtures("server")
def test_many_clients_at_once_get_their_own_answers(path: Path) -> None:
    found: dict[int, int] = {}

    def one(number: int) -> None:
        rows = RemoteSession(path, views="v").query("SELECT {n:UInt32} AS n", {"n": number})
        found[number] = rows["n"].to_pylist()[0]

    threads = [threading.Thread(target=one, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {number: number for number in range(24)}


def test_nobody_there_is_told_as_something_to_try_again(path: Path) -> None:
    with pytest.raises(RetryableError, match=r"does not answer on .*api.sock"):
        RemoteSession.open(path, views="v")
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with pytest.raises(RetryableError, match="does not answer"):
        RemoteSession.open(path, views="v")


def test_a_server_that_dies_while_it_answers_is_told_as_something_to_try_again(path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def die() -> None:
        connection, _ = listening.accept()
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.close()

    thread = threading.Thread(target=die)
    thread.start()
    with pytest.raises(RetryableError, match="does not answer"):
        RemoteSession(path, views="v").query("SELECT 1")
    thread.join(10)
    listening.close()


def test_a_closed_server_takes_no_more_calls(path: Path, served: ServedSession) -> None:
    api = ApiServer(path, served, drain=served.drain, run_cost=served.run_cost)
    api.close()
    with pytest.raises(OSError):
        connect(path)
    assert not any(thread.name == "api" for thread in threading.enumerate())


def test_the_end_waits_for_a_call_under_way_and_not_for_open_connections(
    path: Path, served: ServedSession
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow_drain() -> None:
        begun.set()
        assert go_on.wait(20)
        served.drain()

    api = ApiServer(path, served, drain=slow_drain, run_cost=served.run_cost)
    idle = connect(path)
    answers: list[tuple[int, dict[str, Any]]] = []
    caller = threading.Thread(target=lambda: answers.append(post(path, "/drain", b"{}")))
    caller.start()
    assert begun.wait(20)
    closer = threading.Thread(target=api.close)
    closer.start()
    assert served.drains == 0
    go_on.set()
    closer.join(15)
    assert not closer.is_alive() and served.drains == 1
    caller.join(15)
    idle.close()
    assert answers == [(200, {"ok": True})]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "body", [b"{}", b'{"type": 1, "fields": {}}', b'{"type": "price_set", "fields": []}']
)
def test_an_administrators_event_of_the_wrong_form_is_the_callers_mistake(path: Path, body: bytes) -> None:
    status, answer = post(path, "/admin", body)
    assert status == 400 and "price_set" not in answer["message"] and "fields" in answer["message"]


@pytest.mark.usefixtures("server")
def test_a_client_that_goes_away_prints_nothing(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        connection = connect(path)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(b"POST /drain HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        connection.close()
    assert ask(path, "GET /ping")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_home_too_long_for_a_socket_is_told(tmp_path: Path, served: ServedSession) -> None:
    with pytest.raises(UsageError, match="choose a shorter home"):
        ApiServer(tmp_path / ("x" * 107), served, drain=served.drain, run_cost=served.run_cost)
