"""A ClickHouse HTTP server for tests: the real engine (chDB) behind the standard library's HTTP server.

Run as its own process, so that a test can kill it: `python -m support.clickhouse_http --folder F --port 0`
prints the port. Every request has its own connection to the engine, so settings of one request (an insert token
above all) never reach the next. There are no sessions and no users.

`POST /admin/fault?kind=K&times=N&match=TEXT&seconds=S` arms a fault for the next N statements that contain TEXT:
`cut_reply` (runs it, then closes without an answer), `reset_body` (resets the connection within the request's
body), `slow` (waits S seconds first), `error_500`, `error_241`, `error_252` (refuses with this code).
`GET /admin/statements` lists what ran, one JSON string a line.
"""

import argparse
import contextlib
import gzip
import json
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import chdb
import lz4.frame

from trainledger_ingest.storage.chdb_config import write_engine_config

__all__ = ["TestServer", "running_server"]

_NOT_SETTINGS = {
    "buffer_size",
    "client_protocol_version",
    "compress",
    "database",
    "decompress",
    "default_format",
    "enable_http_compression",
    "query",
    "query_id",
    "quota_key",
    "role",
    "session_check",
    "session_id",
    "session_timeout",
    "wait_end_of_query",
    "http_headers_progress_interval_ms",
    "send_progress_in_http_headers",
}
_INSERT = re.compile(rb"^\s*INSERT\s+INTO\s+.*?\bFORMAT\s+(\w+)[ \t]*(?:\r?\n|$)", re.IGNORECASE | re.DOTALL)
_TRAILING_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_OUTFILE = re.compile(r"\bINTO\s+OUTFILE\b", re.IGNORECASE)
_REFUSALS = {
    "error_500": (None, "Internal server error"),
    "error_241": (241, "Code: 241. DB::Exception: Memory limit (total) exceeded. (MEMORY_LIMIT_EXCEEDED)"),
    "error_252": (252, "Code: 252. DB::Exception: Too many parts. Merges are slow. (TOO_MANY_PARTS)"),
}


@dataclass
class _Fault:
    kind: str
    times: int
    match: str
    seconds: float


@dataclass
class _Engine:
    target: str
    scratch: Path
    faults: list[_Fault] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take_fault(self, sql: str, kinds: set[str]) -> _Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.kind in kinds and fault.times > 0 and fault.match in sql:
                    fault.times -= 1
                    return fault
        return None

    def run(self, sql: bytes, url: dict[str, str], params: dict[str, str]) -> tuple[bytes, str]:
        connection = chdb.connect(self.target)
        try:
            return self._run(connection, sql, url, params)
        finally:
            connection.close()

    def _run(
        self, connection: Any, sql: bytes, url: dict[str, str], params: dict[str, str]
    ) -> tuple[bytes, str]:
        if url.get("database"):
            connection.query(f"USE `{url['database']}`")
        settings = {name: value for name, value in url.items() if name not in _NOT_SETTINGS}
        # A server checks all settings of a request before it applies any, so readonly goes last.
        for name in sorted(settings, key=lambda name: (name == "readonly", name)):
            quoted = settings[name].replace("\\", "\\\\").replace("'", "\\'")
            connection.query(f"SET {name} = '{quoted}'")
        if insert := _INSERT.match(sql):
            head, data = sql[: insert.start(1)], sql[insert.end() :]
            with tempfile.NamedTemporaryFile(dir=self.scratch) as rows:
                rows.write(data)
                rows.flush()
                before = re.sub(rb"\bFORMAT\s*$", b"", head, flags=re.IGNORECASE).decode()
                connection.query(f"{before} FROM INFILE '{rows.name}' FORMAT {insert[1].decode()}")
            return b"", ""
        text = sql.decode()
        told = connection._conn.classify_query(text)
        if told["statement_count"] > 1:
            raise RuntimeError(
                "Code: 62. DB::Exception: Syntax error (Multi-statements are not allowed) (SYNTAX_ERROR)"
            )
        if _OUTFILE.search(text):
            raise RuntimeError("Code: 1. DB::Exception: INTO OUTFILE is not allowed (UNSUPPORTED_METHOD)")
        trailing = _TRAILING_FORMAT.search(text)
        kind = trailing[1] if trailing else url.get("default_format", "TabSeparated")
        return bytes(connection.query(text, kind, params=params).bytes() or b""), kind


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet: two would wait for each other's acknowledgement for 40 ms.
    wbufsize = -1
    disable_nagle_algorithm = True
    engine: _Engine

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests read what ran from /admin/statements."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        url = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.path == "/ping":
            self._reply(200, b"Ok.\n", {})
        elif parts.path == "/admin/fault":
            self._read_body()
            fault = _Fault(
                url["kind"], int(url.get("times", "1")), url.get("match", ""), float(url.get("seconds", "1"))
            )
            with self.engine.lock:
                self.engine.faults.append(fault)
            self._reply(200, b"armed\n", {})
        elif parts.path == "/admin/statements":
            lines = "".join(json.dumps(sql) + "\n" for sql in self.engine.statements)
            self._reply(200, lines.encode(), {})
        else:
            self._statement(url)

    def _statement(self, url: dict[str, str]) -> None:
        if self.engine.take_fault(url.get("query", ""), {"reset_body"}):
            self.rfile.read(min(64, int(self.headers.get("Content-Length") or 64)))
            self._reset()
            return
        body = self._read_body()
        query = url.pop("query", "")
        if "multipart/form-data" in self.headers.get("Content-Type", ""):
            form = _form_fields(self.headers["Content-Type"], body)
            query = form.pop("query", query)
            url |= form
            body = b""
        sql = query.encode() + (b"\n" if query and body else b"") + body
        params = {name[6:]: url.pop(name) for name in list(url) if name.startswith("param_")}
        text = sql[:2000].decode("utf-8", "replace")
        self.engine.statements.append(text)
        if slow := self.engine.take_fault(text, {"slow"}):
            time.sleep(slow.seconds)
        if refused := self.engine.take_fault(text, set(_REFUSALS)):
            code, message = _REFUSALS[refused.kind]
            self._error(message, code)
            return
        try:
            answer, kind = self.engine.run(sql, url, params)
        except RuntimeError as error:
            found = re.search(r"Code: (\d+)", str(error))
            self._error(str(error)[max(str(error).find("Code: "), 0) :], int(found[1]) if found else None)
            return
        if self.engine.take_fault(text, {"cut_reply"}):
            self._reset()
            return
        headers = {"X-ClickHouse-Timezone": "UTC", "X-ClickHouse-Query-Id": str(uuid.uuid4())}
        if kind:
            headers["X-ClickHouse-Format"] = kind
        headers["X-ClickHouse-Summary"] = json.dumps({"read_rows": "0", "written_rows": "0"})
        self._reply(200, answer, headers)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            raw = b"".join(pieces)
        else:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        encoding = self.headers.get("Content-Encoding", "")
        if encoding == "lz4":
            return bytes(lz4.frame.decompress(raw))
        if encoding == "gzip":
            return gzip.decompress(raw)
        return zlib.decompress(raw) if encoding == "deflate" else raw

    def _error(self, message: str, code: int | None) -> None:
        headers = {"X-ClickHouse-Exception-Code": str(code)} if code is not None else {}
        status = {60: 404, 81: 404, 241: 500, 252: 500, None: 500}.get(code, 400)
        self._reply(status, message.encode(), headers)

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _reset(self) -> None:
        # Linger of zero seconds makes the close a reset, as a dying peer or a middle box does.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.rfile.close()
        self.connection.close()


def _form_fields(content_type: str, body: bytes) -> dict[str, str]:
    message = BytesParser(policy=HTTP).parsebytes(
        b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body
    )
    fields: dict[str, str] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        fields[str(name)] = content.decode() if isinstance(content, bytes) else ""
    return fields


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def shutdown_request(self, request: Any) -> None:
        # A connection that a fault has reset is closed already.
        with contextlib.suppress(OSError):
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that went away is what the faults are for."""


@dataclass(frozen=True)
class TestServer:
    """A running server process."""

    __test__ = False

    process: "subprocess.Popen[str]"
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def arm(self, kind: str, *, match: str = "", times: int = 1, seconds: float = 1.0) -> None:
        """Arm a fault for the next `times` statements that contain `match`."""
        path = f"/admin/fault?kind={kind}&times={times}&match={quote(match)}&seconds={seconds}"
        self._ask("POST", path)

    def statements(self) -> list[str]:
        """What the server was asked to run, oldest first."""
        return [json.loads(line) for line in self._ask("GET", "/admin/statements").splitlines()]

    def _ask(self, method: str, path: str) -> str:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()


@contextlib.contextmanager
def running_server(folder: Path, *, port: int = 0) -> Iterator[TestServer]:
    """A server process on `folder`; killed at the end."""
    command = [sys.executable, "-m", "support.clickhouse_http", "--folder", str(folder), "--port", str(port)]
    tests = Path(__file__).parents[1]
    process = subprocess.Popen(command, cwd=tests, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None:
            raise RuntimeError("the server has no standard output")
        yield TestServer(process, int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    config = write_engine_config(
        folder / "config", database="trainledger", memory_bytes_max=2 << 30, backups=folder / "backups"
    )
    engine = _Engine(f"{folder / 'data'}?config-file={quote(str(config))}", scratch)
    held = chdb.connect(engine.target)  # keeps the engine open between requests
    server = _Server(("127.0.0.1", arguments.port), type("Handler", (_Handler,), {"engine": engine}))
    print(server.server_address[1], flush=True)
    try:
        server.serve_forever()
    finally:
        held.close()


if __name__ == "__main__":
    main()
