"""A session of a cluster: tables that workers elsewhere fill, and Kafka for what an administrator says.

The tables are opened at the first question: to set a price nothing but the broker is needed, and the tables may be
in use by `trainledger ingest`. An administrator's event is in Kafka, on all replicas, when `append_admin` returns;
the tables show it as soon as a worker has read it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pyarrow as pa

from trainledger_schemas.clock import Clock, SystemClock
from trainledger_schemas.errors import RetryableError, UsageError
from trainledger_schemas.positions import LogPosition, TopicPartition

from .admin_events import admin_record
from .cost.statements import close_month
from .ledger import Ledger
from .log_state import LogState, await_log, kafka_ends
from .session import Progress
from .storage.migrate import Schema
from .storage.store import Store
from .tables_place import VIEWS

__all__ = ["NOT_YET", "Reader", "Send", "TablesReader", "TablesSession"]

# In all for one command: a worker that lives has read an event within a second or two.
VISIBLE_WAIT_S = 10.0
POLL_S = 0.2
NOT_YET = (
    "accepted by Kafka; the tables (and `trainledger price ls`) show it once `trainledger ingest` has read it"
)

Send = Callable[[str, Mapping[str, Any]], LogPosition]
"""Sends one admin event (type, record without envelope); the position behind it. Blocks until it is acknowledged."""


class UserStore(Store, Protocol):
    """A store that also answers people."""

    def user_query(
        self, sql: str, parameters: Mapping[str, object] | None = None, *, is_export: bool = False
    ) -> pa.Table:
        """A guarded, limited SELECT."""


class Reader(Protocol):
    """Tables that answer."""

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """See `Session.query`."""

    def user_query(self, sql: str, *, is_export: bool = False) -> pa.Table:
        """See `Session.user_query`."""

    def log_state(self) -> LogState:
        """See `Session.log_state`."""

    def close(self) -> None:
        """Let go."""


class TablesReader:
    """Tables in a store, and what must be let go with it."""

    def __init__(
        self, store: UserStore, schema: Schema, *, kafka: str | None, release: Callable[[], None]
    ) -> None:
        """`kafka`: TRAINLEDGER_KAFKA, to compare the tables with the log."""
        self._store = store
        self._kafka = kafka
        self._schema = schema
        self._release = release

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        return self._store.query(sql, parameters)

    def user_query(self, sql: str, *, is_export: bool = False) -> pa.Table:
        return self._store.user_query(sql, is_export=is_export)

    def shown_end(self, place: TopicPartition) -> int:
        """The offset behind the last record of a partition that these tables have."""
        return Ledger(self._store, self._schema.tables).end(place) or 0

    def close_period(
        self, fields: Mapping[str, Any], clock: Clock, append: Callable[[str, Mapping[str, Any]], None]
    ) -> dict[str, Any]:
        """Write the statement of a month into these tables, and let `append` send the event that makes it count."""
        return close_month(self._store, self._schema, fields, clock=clock, append=append, is_log_read=False)

    def log_state(self) -> LogState:
        if self._kafka is None:
            return LogState(
                None, why="set TRAINLEDGER_KAFKA, so that the tables can be compared with the log"
            )
        return await_log(kafka_ends(self._kafka), self._store, self._schema.tables, clock=SystemClock())

    def close(self) -> None:
        self._store.close()
        self._release()


class TablesSession:
    """Reads tables; sends administrator events to Kafka and waits a little until the tables show them."""

    views = VIEWS

    def __init__(
        self,
        open_reader: Callable[[], Reader],
        *,
        send: Send,
        release: Callable[[], None],
        say: Callable[[str], None],
        clock: Clock,
        are_filled_now: bool,
    ) -> None:
        """`release` is called by `close` and lets go of what `send` holds. `are_filled_now`: a worker may fill the
        tables while this session is open, so that it is worth a wait."""
        self._open_reader = open_reader
        self._reader: Reader | None = None
        self._send = send
        self._release = release
        self._say = say
        self._clock = clock
        self._patience_s = VISIBLE_WAIT_S if are_filled_now else 0.0
        self._is_server = are_filled_now
        self._has_said = False

    def has_tables_open(self) -> bool:
        return self._reader is not None or self._is_server

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        return self._opened().query(sql, parameters)

    def user_query(self, sql: str, *, is_export: bool = False) -> pa.Table:
        return self._opened().user_query(sql, is_export=is_export)

    def append_admin(self, event_type: str, *fields: Mapping[str, Any]) -> None:
        ends: dict[TopicPartition, LogPosition] = {}
        for item in fields:
            position = self._send(event_type, admin_record(event_type, item, clock=self._clock))
            ends[TopicPartition(position.topic, position.partition)] = position
        if not all(self._is_shown(position) for position in ends.values()) and not self._has_said:
            self._has_said = True
            self._say(NOT_YET)

    def close_period(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        reader = self._opened()
        if not isinstance(reader, TablesReader):
            raise UsageError("a month is closed where the tables are; these belong to another process")
        return reader.close_period(fields, self._clock, self.append_admin)

    def publish(self) -> bool | None:
        return None

    def rebuild(self, progress: Progress | None = None) -> list[dict[str, Any]]:
        raise UsageError(
            "rebuild works on embedded tables; these are filled from Kafka by `trainledger ingest`"
        )

    def verify(self) -> list[dict[str, Any]]:
        raise UsageError(
            "verify works on embedded tables; these are filled from Kafka by `trainledger ingest`"
        )

    def log_state(self) -> LogState:
        return self._opened().log_state()

    def close(self) -> None:
        reader, self._reader = self._reader, None
        try:
            if reader is not None:
                reader.close()
        finally:
            self._release()

    def _opened(self) -> Reader:
        if self._reader is None:
            self._reader = self._open_reader()
        return self._reader

    def _is_shown(self, position: LogPosition) -> bool:
        """Whether the tables come to show it before the patience of this command is used up."""
        begin_ns = self._clock.monotonic_ns()
        is_shown = False
        try:
            while not is_shown and self._patience_s > 0:
                reader = self._opened()
                place = TopicPartition(position.topic, position.partition)
                is_shown = isinstance(reader, TablesReader) and reader.shown_end(place) >= position.offset
                if not is_shown:
                    self._clock.sleep(POLL_S)
                now_ns = self._clock.monotonic_ns()
                self._patience_s -= (now_ns - begin_ns) / 1e9
                begin_ns = now_ns
        except RetryableError:
            # The event is safe in Kafka; tables that cannot be asked now are no reason to fail.
            self._patience_s = 0.0
        return is_shown
