"""The local API of `up`: HTTP on a unix socket that only its owner may open (0600).

    GET  /ping                      {"pid": n}
    POST /drain                     read everything written before the call, then {"ok": true}
    POST /query                     {"sql", "parameters", "user": bool} -> Arrow IPC stream
    POST /admin                     {"type", "fields"} -> {"ok": true} once the tables show it
    POST /close-period              {"period", "accepts_unpriced", "note"} -> what was closed
    POST /publish                   wait for Kafka, then {"published": true | false | null (nothing to publish)}
    POST /rebuild, POST /verify     -> JSON array
    POST /log-state                 {"unread", "journals", "producers", "why"}: see `log_state`
    GET  /run-cost?run_id=UUID      {"cost": "1.23" | null, "currency": "USD" | null}
    GET  /artifact?reference=NAME:VERSION   {"name", "version", "digest", "run_id", "manifest_sha256"}

Errors travel as {"error": class name, "message", "code", "name"} with status 400 (the caller's) or 500.
Limits: a body of 16 MiB, 30 s to send it. A client that goes away in the middle is nobody's trouble.
"""

import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa

from trainledger_schemas.errors import TrainledgerError, UsageError, UserQueryError

from .artifact_lookup import find_version
from .session import Session

__all__ = ["ApiServer", "arrow_bytes"]

BODY_BYTES_MAX = 16 * 1024 * 1024
REQUEST_TIMEOUT_S = 30
CLOSE_WAIT_S = 20.0
SOCKET_PATH_BYTES_MAX = 107
ARROW_TYPE = "application/vnd.apache.arrow.stream"


def arrow_bytes(table: pa.Table) -> bytes:
    """A result as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


class ApiServer:
    """Serves a session on `<home>/api.sock` from threads of its own until `close`."""

    def __init__(
        self,
        socket_path: Path,
        session: Session,
        *,
        drain: Callable[[], None],
        run_cost: Callable[[str], Mapping[str, Any]],
    ) -> None:
        self._path = socket_path
        if len(os.fsencode(socket_path)) > SOCKET_PATH_BYTES_MAX:
            raise UsageError(
                f"{socket_path} is longer than the {SOCKET_PATH_BYTES_MAX} bytes that the path of a socket may have; "
                "choose a shorter home with --home or TRAINLEDGER_HOME"
            )
        socket_path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._server = _UnixServer(str(socket_path), _Handler)
        finally:
            os.umask(before)
        self._server.calls = _Calls()
        self._server.session = session
        self._server.drain = drain
        self._server.run_cost = run_cost
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="api", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering, wait for calls under way (at most CLOSE_WAIT_S), and remove the socket."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server.calls.await_none(CLOSE_WAIT_S)
        self._path.unlink(missing_ok=True)


class _Calls:
    """How many calls are under way. Connections that clients keep open between calls do not count."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def await_none(self, timeout_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0, timeout_s)


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    # Threads of connections that are kept open must not hold up the end; calls under way are waited for.
    block_on_close = False
    daemon_threads = True
    request_queue_size = 64
    calls: _Calls
    session: Session
    drain: Callable[[], None]
    run_cost: Callable[[str], Mapping[str, Any]]

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, _ = super().get_request()
        # BaseHTTPRequestHandler wants an address to log; a unix peer has none.
        return connection, ("local", 0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A broken connection ends it and nothing else: the errors of calls are answers, see `_answer`."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = REQUEST_TIMEOUT_S
    server: _UnixServer

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/ping":
            self._answer(lambda: {"pid": os.getpid()})
        elif url.path == "/run-cost":
            run_id = parse_qs(url.query).get("run_id", [""])[0]
            self._answer(lambda: dict(self.server.run_cost(run_id)))
        elif url.path == "/artifact":
            reference = parse_qs(url.query).get("reference", [""])[0]
            self._answer(lambda: self._artifact(reference))
        else:
            self._fail(UsageError(f"no such address: {url.path}"), 404)

    def do_POST(self) -> None:
        actions: dict[str, Callable[[dict[str, Any]], Any]] = {
            "/drain": self._drain,
            "/query": self._query,
            "/admin": self._admin,
            "/close-period": lambda body: self.server.session.close_period(body),
            "/publish": lambda _: {"published": self.server.session.publish()},
            "/rebuild": lambda _: self.server.session.rebuild(),
            "/verify": lambda _: self.server.session.verify(),
            "/log-state": lambda _: self.server.session.log_state().as_row(),
        }
        action = actions.get(self.path)
        body = self._read_body()
        if action is None or body is None:
            self._fail(UsageError(f"no such address, or not a JSON object in the body: {self.path}"), 404)
            return
        self._answer(lambda: action(body))

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: they may hold a user's SQL."""

    def _artifact(self, reference: str) -> Any:
        self.server.drain()
        return find_version(self.server.session, reference)._asdict()

    def _drain(self, _: dict[str, Any]) -> Any:
        self.server.drain()
        return {"ok": True}

    def _query(self, body: dict[str, Any]) -> Any:
        sql = str(body.get("sql", ""))
        if body.get("user"):
            return self.server.session.user_query(sql, is_export=bool(body.get("export")))
        return self.server.session.query(sql, body.get("parameters"))

    def _admin(self, body: dict[str, Any]) -> Any:
        fields = body.get("fields")
        rows = [fields] if isinstance(fields, dict) else fields
        if not isinstance(body.get("type"), str) or not isinstance(rows, list) or not rows:
            raise UsageError(
                'an administrator\'s event needs {"type": text, "fields": object, or a list of them}'
            )
        if not all(isinstance(row, dict) for row in rows):
            raise UsageError("the fields of an administrator's event are an object")
        self.server.session.append_admin(body["type"], *rows)
        return {"ok": True}

    def _read_body(self) -> dict[str, Any] | None:
        try:
            size = int(self.headers.get("Content-Length", "0"))
            if not 0 <= size <= BODY_BYTES_MAX:
                return None
            body = json.loads(self.rfile.read(size) or b"{}")
        except ValueError:
            return None
        return body if isinstance(body, dict) else None

    def _answer(self, action: Callable[[], Any]) -> None:
        with self.server.calls:
            self._answer_now(action)

    def _answer_now(self, action: Callable[[], Any]) -> None:
        try:
            result = action()
        except UserQueryError as error:
            self._fail(error, 400)
        except TrainledgerError as error:
            self._fail(error, 400)
        except Exception as error:  # an API thread must answer, whatever broke; the caller sees the class
            self._fail(TrainledgerError(f"{type(error).__name__}: {error}"), 500)
        else:
            if isinstance(result, pa.Table):
                self._send(200, ARROW_TYPE, arrow_bytes(result))
            else:
                self._send(200, "application/json", json.dumps(result, default=str).encode())

    def _fail(self, error: TrainledgerError, status: int) -> None:
        body = {
            "error": type(error).__name__,
            "message": str(error),
            "code": getattr(error, "code", None),
            "name": getattr(error, "name", None),
        }
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
