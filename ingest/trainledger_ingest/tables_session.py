"""A session over tables that workers elsewhere fill from Kafka: a ClickHouse server, or a home's own tables."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pyarrow as pa

from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import UsageError

from .admin_events import admin_record
from .storage.migrate import Schema
from .storage.store import Store

__all__ = ["TablesSession"]

VISIBLE_WAIT_S = 30.0
POLL_S = 0.2


class UserStore(Store, Protocol):
    """A store that also answers people."""

    def user_query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """A guarded, limited SELECT."""


class TablesSession:
    """Reads tables; sends administrator events to the log and waits until the tables show them."""

    def __init__(
        self,
        store: UserStore,
        schema: Schema,
        *,
        send: Callable[[str, Mapping[str, Any]], None],
        release: Callable[[], None],
        say: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.views = schema.views_database
        self._store = store
        self._schema = schema
        self._send = send
        self._release = release
        self._say = say
        self._clock = clock

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        return self._store.query(sql, parameters)

    def user_query(self, sql: str) -> pa.Table:
        return self._store.user_query(sql)

    def append_admin(self, event_type: str, fields: Mapping[str, Any]) -> None:
        before = self._admin_count()
        self._send(event_type, admin_record(event_type, fields, clock=self._clock))
        deadline_ns = self._clock.monotonic_ns() + int(VISIBLE_WAIT_S * 1e9)
        while self._admin_count() == before:
            if self._clock.monotonic_ns() > deadline_ns:
                self._say("accepted by Kafka; it counts as soon as `trainledger ingest` has read it")
                return
            self._clock.sleep(POLL_S)

    def rebuild(self) -> list[dict[str, Any]]:
        raise UsageError(
            "rebuild works on embedded tables; these are filled from Kafka by `trainledger ingest`"
        )

    def verify(self) -> list[dict[str, Any]]:
        raise UsageError(
            "verify works on embedded tables; these are filled from Kafka by `trainledger ingest`"
        )

    def close(self) -> None:
        self._store.close()
        self._release()

    def _admin_count(self) -> int:
        rows = self._store.rows(f"SELECT count() AS n FROM {self._schema.generation}.admin_events")
        return int(str(rows[0]["n"]))
