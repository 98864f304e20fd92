"""The embedded store: ClickHouse inside this process (chDB), in a folder that one process owns.

Guarantees: an acknowledged insert is in one part, fsynced (file and folder); a kill at any moment leaves a
batch whole or absent. No insert tokens: the engine writes its dedup record before it renames the part, so
that a token could make a retry report success and store nothing. Count rows after an error or a restart.

Limits: one folder per process (the engine is process-wide; `for_database` opens further databases in it).
Never fork after opening: a forked child keeps the folder's lock for ever and its queries hang. Queries run in
worker threads, so signals are handled while one runs; the interpreter must not end while a query runs, which
is why `close()` ends running queries and waits for them.

Layout of the folder: `config/` (written at each opening), `data/` (the engine's), `tmp/` (inserts on their
way, emptied at opening), `backups/`.
"""

import fcntl
import itertools
import os
import queue
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError

from trainledger_ingest.access import Statement, check_user_sql
from trainledger_ingest.access_functions import EngineFunction
from trainledger_ingest.public_views import public_view_names
from trainledger_ingest.storage.arrow_types import needs_types, restore_types
from trainledger_ingest.storage.chdb_config import write_engine_config
from trainledger_ingest.storage.inspect import (
    FUNCTIONS_SQL,
    ast_lines,
    database_names,
    engine_functions,
    explain_error,
    explain_sql,
    table_names,
)
from trainledger_ingest.storage.store import (
    INSERT_SETTINGS,
    Capabilities,
    UserLimits,
    checked_database,
    one_block,
    store_error,
    user_error,
)
from trainledger_schemas.errors import FatalStoreError, HomeLockedError

__all__ = ["ChdbStore"]

READERS_MAX = 3
USER_QUERIES_MAX = 2
WORKER_THREADS = 16

_T = TypeVar("_T")
_client_numbers = itertools.count(1)


class ChdbStore:
    """One database of the embedded engine; see the module's text for guarantees and limits."""

    capabilities = Capabilities(insert_tokens=False, single_owner=True, fsync=True)

    def __init__(self, engine: "_Engine", database: str, limits: UserLimits) -> None:
        self.database = checked_database(database)
        self._engine = engine
        self._limits = limits
        engine.control(f"CREATE DATABASE IF NOT EXISTS {self.database}")
        self._writer = _ClientPool(engine, self._plain_client, clients_max=1)
        self._readers = _ClientPool(engine, self._plain_client, clients_max=READERS_MAX)
        self._users = _ClientPool(engine, self._user_client, clients_max=USER_QUERIES_MAX)
        self._exports = _ClientPool(engine, lambda: self._user_client(is_export=True), clients_max=1)
        self._functions: dict[str, EngineFunction] = {}

    @classmethod
    def open(
        cls, folder: Path, *, database: str, memory_bytes_max: int, limits: UserLimits | None = None
    ) -> "ChdbStore":
        """Open (or make) the engine's folder and `database` in it. Blocks for about half a second.

        Raises HomeLockedError naming the process that has the folder open, FatalStoreError when the engine
        cannot start there or this process has another folder open."""
        bounded = limits or UserLimits(memory_bytes=min(UserLimits().memory_bytes, memory_bytes_max // 2))
        engine = _Engine(
            folder.resolve(), database=checked_database(database), memory_bytes_max=memory_bytes_max
        )
        try:
            return cls(engine, database, bounded)
        except BaseException:  # whatever went wrong, the folder must not stay locked by this process
            engine.close()
            raise

    def for_database(self, database: str) -> "ChdbStore":
        """Another database in the same engine; its name must begin with that of the first one opened (the
        grants cover no other). It ends with the store that opened the engine."""
        return ChdbStore(self._engine, database, self._limits)

    def command(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        with _store_errors("command"):
            self._writer.call(lambda client: client.command(sql, parameters=_plain(parameters)))

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        with _store_errors("query"):
            return self._readers.call(lambda client: _arrow(client, sql, parameters))

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, object]]:
        with _store_errors("query"):
            return self._readers.call(
                lambda client: list(client.query(sql, parameters=_plain(parameters)).named_results())
            )

    def insert(self, table: str, data: pa.Table, *, token: str | None = None) -> None:
        """See `Store.insert`. `token` is ignored: `capabilities.insert_tokens` is False."""
        if data.num_rows == 0:
            return
        block = one_block(data)
        with _store_errors(f"insert of {data.num_rows} rows into {self.database}.{table}"):
            self._writer.call(lambda client: self._insert_block(client, table, block))

    def user_query(
        self,
        sql: str,
        parameters: Mapping[str, object] | None = None,
        *,
        views: frozenset[str] | None = None,
        is_export: bool = False,
    ) -> pa.Table:
        """Run a person's SELECT over `views` (default: the public ones), guarded and limited. Raises UserQueryError."""
        known = public_view_names() if views is None else views
        check_user_sql(sql, engine=self, views=known, database=self.database, parameters=parameters)
        try:
            clients = self._exports if is_export else self._users
            return clients.call(lambda client: _arrow(client, sql, parameters))
        except ClickHouseError as error:
            raise user_error(str(error), code=_code(error), name=_name(error)) from error

    def classify(self, sql: str) -> Statement:
        """See `SqlInspector.classify`."""

        def ask(client: Any) -> Statement:
            # The driver does not pass this on; it is the connection's own method.
            told = client._backend._handle.conn._conn.classify_query(sql)
            return Statement(told["query_class"].name == "READ_ONLY", int(told["statement_count"]))

        return self._users.call(ask)

    def explain_ast(self, sql: str, parameters: Mapping[str, object] | None) -> list[str]:
        """See `SqlInspector.explain_ast`."""
        try:
            told = self._users.call(
                lambda client: client.raw_query(explain_sql(sql), parameters=_plain(parameters))
            )
        except ClickHouseError as error:
            raise explain_error(str(error), code=_code(error), name=_name(error)) from error
        return ast_lines(bytes(told))

    def functions(self) -> Mapping[str, EngineFunction]:
        """See `SqlInspector.functions`; read once, the engine's functions do not change."""
        if not self._functions:
            self._functions = engine_functions(self.rows(FUNCTIONS_SQL))
        return self._functions

    def tables(self, database: str) -> frozenset[str]:
        """See `SqlInspector.tables`."""
        return table_names(self, database)

    def databases(self) -> frozenset[str]:
        """See `SqlInspector.databases`."""
        return database_names(self)

    def close(self) -> None:
        """End running queries, wait for them, and let the engine go with its folder."""
        self._engine.close()

    def _plain_client(self) -> Any:
        return self._engine.client(database=self.database, options={})

    def _user_client(self, *, is_export: bool = False) -> Any:
        client = self._engine.client(database=self.database, options=self._limits.engine_settings())
        # The driver reads system.settings while it connects, which the row limit would refuse; and after
        # readonly no setting can be changed, so it comes last.
        for name, value in self._limits.result_settings(is_export=is_export).items():
            client.command(f"SET {name} = {value}")
        client.command("SET result_overflow_mode = 'throw'")
        client.command("SET readonly = 1")
        return client

    def _insert_block(self, client: Any, table: str, block: pa.Table) -> None:
        path = self._engine.insert_path()
        try:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, block.schema) as writer:
                writer.write_table(block)
            columns = ", ".join(f"`{name}`" for name in block.column_names)
            settings = ", ".join(f"{name} = {value}" for name, value in INSERT_SETTINGS.items())
            client.command(
                f"INSERT INTO {table} ({columns}) FROM INFILE '{path}' SETTINGS {settings} FORMAT ArrowStream"
            )
        finally:
            path.unlink(missing_ok=True)


class _Engine:
    """The process-wide engine in one folder: its clients, its worker threads and its end."""

    def __init__(self, folder: Path, *, database: str, memory_bytes_max: int) -> None:
        if not re.fullmatch(r"[^'\\?]*", str(folder)):
            raise FatalStoreError(
                f"the folder {folder} has a quote, backslash or '?' in its name; use another"
            )
        self._data = folder / "data"
        self._tmp = folder / "tmp"
        backups = folder / "backups"
        for made in (folder, self._data, backups):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_foreign_owner(self._data / "status")
        config = write_engine_config(
            folder / "config", database=database, memory_bytes_max=memory_bytes_max, backups=backups
        )
        shutil.rmtree(self._tmp, ignore_errors=True)
        self._tmp.mkdir(mode=0o700)
        self._config = config
        self._lock = threading.Lock()
        self._clients: list[tuple[str, Any]] = []
        self._is_closed = False
        self._insert_numbers = itertools.count(1)
        self._control = self.client(database=None, options={})
        self._threads = ThreadPoolExecutor(WORKER_THREADS, thread_name_prefix="trainledger-chdb")

    def client(self, *, database: str | None, options: Mapping[str, object]) -> Any:
        """A new client of this engine. Its queries carry a mark by which they can be killed."""
        mark = f"trainledger-{next(_client_numbers)}"
        try:
            client = clickhouse_connect.get_client(
                interface="chdb",
                path=str(self._data),
                database=database,
                chdb_options={"config-file": str(self._config), "log_comment": mark, **options},
                tz_mode="aware",
                show_clickhouse_errors=True,
            )
        except ClickHouseError as error:
            raise _opening_error(error, self._data) from error
        with self._lock:
            self._clients.append((mark, client))
        return client

    def discard(self, client: Any) -> None:
        """Close one client for good; waits for its running call."""
        with self._lock:
            self._clients = [known for known in self._clients if known[1] is not client]
        client.close()

    def control(self, sql: str) -> None:
        """Run a statement on the engine's own client."""
        with _store_errors("opening the database"):
            self._control.command(sql)

    def insert_path(self) -> Path:
        """A new path for one insert's rows."""
        return self._tmp / f"{next(self._insert_numbers)}.arrow"

    def run(self, client: Any, work: Callable[[Any], _T]) -> _T:
        """Do `work` with `client` in a worker thread; when the wait is interrupted, end the query."""
        with self._lock:
            if self._is_closed:
                raise FatalStoreError("the store is closed; open it again")
            future: Future[_T] = self._threads.submit(work, client)
        try:
            return future.result()
        except KeyboardInterrupt:
            self._kill([mark for mark, known in self._clients if known is client])
            raise

    def close(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            clients = list(self._clients)
        own = self._control
        self._kill([mark for mark, client in clients if client is not own])
        self._threads.shutdown(wait=True, cancel_futures=True)
        for _, client in clients:
            client.close()

    def _kill(self, marks: list[str]) -> None:
        listed = ", ".join(f"'{mark}'" for mark in marks)
        if not listed:
            return
        try:
            self._control.command(f"KILL QUERY WHERE Settings['log_comment'] IN ({listed}) SYNC")
        except ClickHouseError:
            # The queries then end by themselves or by their limit; the caller waits for that.
            pass


class _ClientPool:
    """At most `clients_max` clients, made when first needed; a caller waits for a free one."""

    def __init__(self, engine: _Engine, make: Callable[[], Any], *, clients_max: int) -> None:
        self._engine = engine
        self._make = make
        self._free: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(clients_max):
            self._free.put(None)

    def call(self, work: Callable[[Any], _T]) -> _T:
        client = self._free.get()
        try:
            if client is None:
                client = self._make()
            result = self._engine.run(client, work)
        except BaseException:
            # After a failed or interrupted query the engine can answer the next query of the same client with
            # what was left of the failed one (measured with a timeout). So such a client is never used again.
            self._free.put(None)
            if client is not None:
                self._engine.discard(client)
            raise
        self._free.put(client)
        return result


def _arrow(client: Any, sql: str, parameters: Mapping[str, object] | None) -> pa.Table:
    """The result of `sql` with its types. Settings are the client's own: user clients accept none here."""
    bound = _plain(parameters)
    text = sql.rstrip().rstrip(";")
    raw = client.raw_query(text, parameters=bound, fmt="Arrow")
    table = pa.ipc.open_file(pa.BufferReader(raw)).read_all()
    if not needs_types(table.schema):
        return table
    described = client.query(f"DESCRIBE TABLE (\n{text}\n)", parameters=bound)
    return restore_types(table, [str(row[1]) for row in described.result_rows])


def _plain(parameters: Mapping[str, object] | None) -> dict[str, object] | None:
    return dict(parameters) if parameters else None


@contextmanager
def _store_errors(during: str) -> Iterator[None]:
    try:
        yield
    except ClickHouseError as error:
        raise store_error(
            str(error), code=_code(error), name=_name(error), during=during, retry_unknown=False
        ) from error


def _code(error: ClickHouseError) -> int | None:
    code = getattr(error, "code", None)
    return int(code) if code is not None else None


def _name(error: ClickHouseError) -> str | None:
    name = getattr(error, "name", None)
    return str(name) if name is not None else None


def _refuse_foreign_owner(status: Path) -> None:
    """Raise if another process has the engine's lock. The engine itself would take longer to say less."""
    try:
        handle = os.open(status, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = _owner_pid(os.pread(handle, 4096, 0))
        who = f"process {pid}" if pid else "another process"
        raise HomeLockedError(
            f"{status.parent} is in use by {who}; stop it, or ask it instead of opening the folder", pid=pid
        ) from None
    finally:
        os.close(handle)


def _owner_pid(status: bytes) -> int | None:
    match = re.search(rb"PID:\s*(\d+)", status)
    return int(match.group(1)) if match else None


def _opening_error(error: ClickHouseError, folder: Path) -> FatalStoreError | HomeLockedError:
    if "Cannot lock file" in str(error):
        return HomeLockedError(f"{folder} is in use by another process; stop it first")
    failed = store_error(
        str(error), code=_code(error), name=_name(error), during=f"opening {folder}", retry_unknown=False
    )
    return FatalStoreError(str(failed), code=failed.code, name=failed.name)
