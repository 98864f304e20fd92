"""The store on a ClickHouse server, over HTTP.

Guarantees: one insert is one block; with `token`, a repeat of the same insert is dropped by the server as
long as its dedup window remembers it (the window is set in the tables' DDL). Not guaranteed: that a remembered
token means stored rows. With the rows deleted and the record kept, a repeat answers OK and stores nothing, so
count after every retry.

Limits: `fsync` is up to the server's tables; a call without an answer raises RetryableStoreError. Every
setting that matters is sent with the call. The calls share one connection pool and no session, so they run in
parallel.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from trainledger_ingest.access import Statement, check_user_sql
from trainledger_ingest.access_functions import EngineFunction
from trainledger_ingest.public_views import public_view_names
from trainledger_ingest.storage.arrow_types import needs_types, restore_types
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
from trainledger_schemas.errors import SettingsError

__all__ = ["ClickHouseStore"]

CONNECT_TIMEOUT_S = 10
# Longer than any query may take, so that a silent server is noticed and a slow query is not cut.
ANSWER_TIMEOUT_S = 300
QUERY_TIME_S_MAX = 240

_READ_SETTINGS: Mapping[str, object] = {
    "session_timezone": "UTC",
    "output_format_arrow_string_as_string": 1,
    "output_format_arrow_low_cardinality_as_dictionary": 0,
    "output_format_arrow_compression_method": "none",
    "max_execution_time": QUERY_TIME_S_MAX,
    "wait_end_of_query": 1,
}


class ClickHouseStore:
    """One database of a ClickHouse server; see the module's text for guarantees and limits."""

    capabilities = Capabilities(insert_tokens=True, single_owner=False, fsync=False)

    def __init__(self, client: Any, database: str, limits: UserLimits) -> None:
        self.database = database
        self._client = client
        self._limits = limits
        self._functions: dict[str, EngineFunction] = {}

    @classmethod
    def open(cls, url: str, *, database: str, limits: UserLimits | None = None) -> "ClickHouseStore":
        """Connect to `http(s)://[user[:password]@]host[:port]` and make `database` if it is not there.

        Raises SettingsError for an address that cannot be one, RetryableStoreError when the server does not
        answer, FatalStoreError when it refuses the user."""
        name = checked_database(database)
        target = _target(url)
        with _store_errors(f"connecting to {target['host']}:{target['port']}"):
            with _connect(target, database=None) as first:
                known = first.query("SELECT name FROM system.databases WHERE name = {d:String}", {"d": name})
                if known.row_count == 0:
                    first.command(f"CREATE DATABASE IF NOT EXISTS {name}")
            client = _connect(target, database=name)
        return cls(client, name, limits or UserLimits())

    def command(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        with _store_errors("command"):
            self._client.command(
                sql, parameters=_plain(parameters), settings={"wait_end_of_query": 1, "mutations_sync": 1}
            )

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        with _store_errors("query"):
            return self._arrow(sql, parameters, _READ_SETTINGS)

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, object]]:
        with _store_errors("query"):
            found = self._client.query(sql, parameters=_plain(parameters), settings=_row_settings())
            return list(found.named_results())

    def insert(self, table: str, data: pa.Table, *, token: str | None = None) -> None:
        """See `Store.insert`."""
        if data.num_rows == 0:
            return
        block = one_block(data)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, block.schema) as writer:
            writer.write_table(block)
        settings: dict[str, object] = {**INSERT_SETTINGS, "wait_end_of_query": 1}
        if token is not None:
            settings |= {"deduplicate_insert": "enable", "insert_deduplication_token": token}
        else:
            # Without a token an identical block would be dropped by its content.
            settings["deduplicate_insert"] = "disable"
        with _store_errors(f"insert of {data.num_rows} rows into {self.database}.{table}"):
            self._client.raw_insert(
                table,
                column_names=block.column_names,
                # A generator, because the driver itself would send plain bytes a second time after a lost
                # reply, and without a token that stores the rows twice.
                insert_block=_once(sink.getvalue().to_pybytes()),
                settings=settings,
                fmt="ArrowStream",
            )

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
            return self._arrow(sql, parameters, self._user_settings(is_export=is_export))
        except (ClickHouseError, HTTPError) as error:
            raise user_error(str(error), code=_code(error), name=_name(error)) from error

    def classify(self, sql: str) -> Statement | None:
        """See `SqlInspector.classify`: a server cannot tell, but refuses several statements and OUTFILE."""
        return None

    def explain_ast(self, sql: str, parameters: Mapping[str, object] | None) -> list[str]:
        """See `SqlInspector.explain_ast`."""
        try:
            told = self._client.raw_query(
                explain_sql(sql), parameters=_plain(parameters), settings=self._user_settings()
            )
        except (ClickHouseError, HTTPError) as error:
            raise explain_error(str(error), code=_code(error), name=_name(error)) from error
        return ast_lines(bytes(told))

    def functions(self) -> Mapping[str, EngineFunction]:
        """See `SqlInspector.functions`; read once."""
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
        self._client.close()

    def _user_settings(self, *, is_export: bool = False) -> dict[str, object]:
        return {
            **_READ_SETTINGS,
            **self._limits.engine_settings(),
            **self._limits.result_settings(is_export=is_export),
            "result_overflow_mode": "throw",
            "readonly": 1,
        }

    def _arrow(
        self, sql: str, parameters: Mapping[str, object] | None, settings: Mapping[str, object]
    ) -> pa.Table:
        bound = _plain(parameters)
        text = sql.rstrip().rstrip(";")
        raw = self._client.raw_query(text, parameters=bound, settings=dict(settings), fmt="Arrow")
        table = pa.ipc.open_file(pa.BufferReader(raw)).read_all()
        if not needs_types(table.schema):
            return table
        described = self._client.raw_query(
            f"DESCRIBE TABLE (\n{text}\n)", parameters=bound, settings=dict(settings), fmt="Arrow"
        )
        types = pa.ipc.open_file(pa.BufferReader(described)).read_all()
        return restore_types(table, types.column("type").to_pylist())


def _connect(target: Mapping[str, Any], *, database: str | None) -> Any:
    return clickhouse_connect.get_client(
        **target,
        database=database,
        tz_mode="aware",
        connect_timeout=CONNECT_TIMEOUT_S,
        send_receive_timeout=ANSWER_TIMEOUT_S,
        # Retries belong to the caller, who counts rows first; and a session would allow one call at a time.
        query_retries=0,
        autogenerate_session_id=False,
        show_clickhouse_errors=True,
    )


def _target(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError("the ClickHouse address must look like http://user:password@host:8123")
    is_secure = parts.scheme == "https"
    return {
        "interface": parts.scheme,
        "host": parts.hostname,
        "port": parts.port or (8443 if is_secure else 8123),
        "username": unquote(parts.username) if parts.username else "default",
        "password": unquote(parts.password or ""),
    }


def _once(body: bytes) -> Iterator[bytes]:
    yield body


def _row_settings() -> dict[str, object]:
    return {
        name: value for name, value in _READ_SETTINGS.items() if not name.startswith("output_format_arrow")
    }


def _plain(parameters: Mapping[str, object] | None) -> dict[str, object] | None:
    return dict(parameters) if parameters else None


@contextmanager
def _store_errors(during: str) -> Iterator[None]:
    try:
        yield
    except (ClickHouseError, HTTPError) as error:
        raise store_error(
            str(error), code=_code(error), name=_name(error), during=during, retry_unknown=True
        ) from error


def _code(error: Exception) -> int | None:
    code = getattr(error, "code", None)
    return code if isinstance(code, int) else None


def _name(error: Exception) -> str | None:
    name = getattr(error, "name", None)
    return name if isinstance(name, str) else None
