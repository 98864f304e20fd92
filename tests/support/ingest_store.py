"""Stores for tests of ingest: a fresh database in the session's engine, stores that crash, tokens remembered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pyarrow as pa

from support.engine import fresh_database, shared_engine
from trainledger_ingest.storage.chdb import ChdbStore
from trainledger_ingest.storage.migrate import Schema
from trainledger_ingest.storage.store import Capabilities, Store
from trainledger_schemas.errors import RetryableStoreError

__all__ = [
    "Crash",
    "FaultyStore",
    "TokenStore",
    "count_rows",
    "emptied",
    "fresh_store",
    "points_of",
    "unused_store",
]


@cache
def _emptied() -> ChdbStore:
    return shared_engine().for_database("trainledger_i")


def fresh_store() -> Any:
    """An empty database with its tables made; the same one each time, so a test has only one at once.

    A database a test would be too many for one engine: each table costs it memory for good."""
    return emptied(_emptied())


def emptied(store: Any) -> Any:
    """The same store, with all tables of its database and its generations truncated."""
    tables = store.rows(
        "SELECT database, name FROM system.tables WHERE startsWith(database, {prefix:String}) "
        "AND engine != 'View' AND name != 'schema_migrations' AND total_rows > 0",
        {"prefix": store.database},
    )
    for row in tables:
        store.command(f"TRUNCATE TABLE {row['database']}.{row['name']}")
    return store


def unused_store() -> ChdbStore:
    """A database that has nothing yet, not even tables."""
    return fresh_database()


class Crash(BaseException):
    """The process died here. Not an Exception, so nothing handles it."""


@dataclass
class TokenStore:
    """A server's insert tokens over another store: the repeat of an insert answers OK and stores nothing.

    `remembered` is the server's record of tokens; a test may put one there whose rows are missing."""

    inner: Store
    remembered: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.database = self.inner.database
        self.capabilities = Capabilities(insert_tokens=True, single_owner=False, fsync=False)

    def command(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        self.inner.command(sql, parameters)

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        return self.inner.query(sql, parameters)

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, object]]:
        return self.inner.rows(sql, parameters)

    def insert(self, table: str, data: pa.Table, *, token: str | None = None) -> None:
        if token is not None and token in self.remembered:
            return
        self.inner.insert(table, data)
        if token is not None:
            self.remembered.add(token)

    def close(self) -> None:
        self.inner.close()


class FaultyStore:
    """Goes wrong at chosen calls. Calls are numbered from 0, inserts alone (`crash_insert`) or all (`fail_calls`).

    `crash_insert` n: Crash before (`after` False) or after the n-th insert was done. `fail_calls`: these calls
    raise RetryableStoreError and do nothing. `lost_insert` n: the n-th insert is done and raises it too."""

    def __init__(
        self,
        inner: Store,
        *,
        crash_insert: int | None = None,
        after: bool = False,
        fail_calls: frozenset[int] = frozenset(),
        lost_insert: int | None = None,
    ) -> None:
        self.inner = inner
        self.database = inner.database
        self.capabilities = inner.capabilities
        self.inserts = 0
        self.calls = 0
        self._crash_insert = crash_insert
        self._after = after
        self._fail_calls = fail_calls
        self._lost_insert = lost_insert

    def command(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        self._count_call()
        self.inner.command(sql, parameters)

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        self._count_call()
        return self.inner.query(sql, parameters)

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, object]]:
        self._count_call()
        return self.inner.rows(sql, parameters)

    def insert(self, table: str, data: pa.Table, *, token: str | None = None) -> None:
        number, self.inserts = self.inserts, self.inserts + 1
        is_last = number == self._crash_insert
        if is_last and not self._after:
            raise Crash
        self._count_call()
        self.inner.insert(table, data, token=token)
        if number == self._lost_insert:
            raise RetryableStoreError(f"the reply to insert {number} is lost")
        if is_last:
            raise Crash

    def close(self) -> None:
        self.inner.close()

    def _count_call(self) -> None:
        number, self.calls = self.calls, self.calls + 1
        if number in self._fail_calls:
            raise RetryableStoreError(f"call {number} failed as the test wants")


def count_rows(store: Store, schema: Schema, table: str) -> int:
    """How many rows a table has."""
    return int(str(store.rows(f"SELECT count() AS n FROM {schema.tables.name(table)}")[0]["n"]))


def points_of(store: Store, schema: Schema) -> list[tuple[str, int, float]]:
    """(key, step, value) of every point, sorted: doubles are seen, losses too."""
    rows = store.rows(f"SELECT toString(key) AS k, step, value FROM {schema.tables.name('points')}")
    return sorted((str(r["k"]), int(str(r["step"])), float(str(r["value"]))) for r in rows)
