"""A session that another process of the same user serves: `trainledger up`, over its unix socket."""

import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

import trainledger_schemas.errors
from trainledger_schemas.errors import FatalStoreError, RetryableError, TrainledgerError, UserQueryError

from .log_state import LogState
from .session import Progress

__all__ = ["RemoteSession"]

ANSWER_TIMEOUT_S = 600


class RemoteSession:
    """Talks to the API of `up`. `open` drains first, so answers cover all that was written before."""

    def __init__(self, socket_path: Path, *, views: str) -> None:
        self._path = socket_path
        self.views = views

    @classmethod
    def open(cls, socket_path: Path, *, views: str) -> "RemoteSession":
        """Connect and drain; raises RetryableError when nobody answers."""
        session = cls(socket_path, views=views)
        session._post("/drain", {})
        return session

    def has_tables_open(self) -> bool:
        return True

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        try:
            return self._table({"sql": sql, "parameters": dict(parameters or {})})
        except FatalStoreError as error:
            # Our own queries fail over there when its views are of another version: it began before an upgrade.
            raise FatalStoreError(
                f"{error}; if trainledger was changed since `trainledger up` began, stop that and start it again",
                code=error.code,
                name=error.name,
            ) from error

    def user_query(self, sql: str, *, is_export: bool = False) -> pa.Table:
        return self._table({"sql": sql, "user": True, "export": is_export})

    def append_admin(self, event_type: str, *fields: Mapping[str, Any]) -> None:
        self._post("/admin", {"type": event_type, "fields": [dict(item) for item in fields]})

    def close_period(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        closed: dict[str, Any] = json.loads(self._post("/close-period", fields))
        return closed

    def publish(self) -> bool | None:
        published: bool | None = json.loads(self._post("/publish", {}))["published"]
        return published

    def rebuild(self, progress: Progress | None = None) -> list[dict[str, Any]]:
        del progress  # the work is done in `up`
        rows: list[dict[str, Any]] = json.loads(self._post("/rebuild", {}))
        return rows

    def verify(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self._post("/verify", {}))
        return rows

    def log_state(self) -> LogState:
        return LogState.from_row(json.loads(self._post("/log-state", {})))

    def close(self) -> None:
        """Nothing is held between calls."""

    def _table(self, body: Mapping[str, Any]) -> pa.Table:
        return pa.ipc.open_stream(self._post("/query", body)).read_all()

    def _post(self, address: str, body: Mapping[str, Any]) -> bytes:
        connection = _UnixConnection(self._path)
        try:
            connection.request("POST", address, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            payload = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise RetryableError(
                f"trainledger up does not answer on {self._path}: {error}; look at its output, or stop it"
            ) from error
        finally:
            connection.close()
        if answer.status != 200:
            raise _error_of(payload)
        return payload


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_TIMEOUT_S)
        self.sock.connect(str(self._path))


def _error_of(payload: bytes) -> TrainledgerError:
    body = json.loads(payload)
    kind = getattr(trainledger_schemas.errors, str(body.get("error")), TrainledgerError)
    if kind in (UserQueryError, FatalStoreError):
        return kind(body["message"], code=body.get("code"), name=body.get("name"))
    if not (isinstance(kind, type) and issubclass(kind, TrainledgerError)):
        kind = TrainledgerError
    return kind(body["message"])
