"""What the ingest side asks of a table store, and the errors and limits that all stores share.

Guarantees of every implementation: one `insert` is one block in one partition and returns only when the
rows are durable as far as the engine promises it (`Capabilities.fsync`); calls are safe from any thread.
Not guaranteed: that an insert which raised `RetryableStoreError` stored nothing. Count the rows, then decide.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from trainledger_schemas.errors import FatalStoreError, RetryableStoreError, UsageError, UserQueryError

if TYPE_CHECKING:  # `doctor` reads the limits where the tables' packages are not installed
    import pyarrow as pa

__all__ = [
    "INSERT_SETTINGS",
    "MEMORY_LIMIT_EXCEEDED",
    "TIMEOUT_EXCEEDED",
    "TOO_MANY_PARTS",
    "Capabilities",
    "Store",
    "UserLimits",
    "checked_database",
    "one_block",
    "short_message",
    "store_error",
    "user_error",
]

TIMEOUT_EXCEEDED = 159
MEMORY_LIMIT_EXCEEDED = 241
TOO_MANY_PARTS = 252

# Codes after which the same call may succeed later. An insert that met one may still have stored its rows.
_RETRYABLE_CODES = frozenset(
    {
        75,  # CANNOT_WRITE_TO_FILE_DESCRIPTOR: a full disk
        TIMEOUT_EXCEEDED,
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        203,  # NO_FREE_CONNECTION
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        236,  # ABORTED: the server is going down
        MEMORY_LIMIT_EXCEEDED,
        242,  # TABLE_IS_READ_ONLY: a replica without its keeper
        243,  # NOT_ENOUGH_SPACE
        TOO_MANY_PARTS,
        319,  # UNKNOWN_STATUS_OF_INSERT
        373,  # SESSION_IS_LOCKED
        394,  # QUERY_WAS_CANCELLED
        439,  # CANNOT_SCHEDULE_TASK
        473,  # DEADLOCK_AVOIDED
        999,  # KEEPER_EXCEPTION
    }
)

# One insert is one part: no server-side batching, one thread, blocks larger than any batch. Given with every
# insert because the defaults differ between versions (async_insert and max_insert_threads both changed).
INSERT_SETTINGS: Mapping[str, int] = {
    "async_insert": 0,
    "max_insert_threads": 1,
    "min_insert_block_size_rows": 10_000_000,
    "min_insert_block_size_bytes": 4_000_000_000,
}

_DATABASE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this store's engine can do. `insert_tokens`: a repeated `token` is dropped by the engine.
    `single_owner`: one process has the tables alone. `fsync`: an acknowledged insert survives a power cut."""

    insert_tokens: bool
    single_owner: bool
    fsync: bool


@dataclass(frozen=True, slots=True)
class UserLimits:
    """Limits of one query of a user.

    The row limit is on the result; a result for a file has a limit of bytes in its place. A query beyond any
    limit fails whole, it is never cut silently.
    """

    time_s: int = 15
    memory_bytes: int = 1 << 30
    result_rows: int = 1_000_000
    threads: int = 2
    export_bytes: int = 1 << 30

    def engine_settings(self) -> dict[str, object]:
        """What bounds a query in the engine; the bound on the result comes last, see the stores."""
        return {
            "max_execution_time": self.time_s,
            "timeout_before_checking_execution_speed": 0,
            "max_memory_usage": self.memory_bytes,
            "max_threads": self.threads,
            "max_parser_depth": 500,
            "max_ast_depth": 500,
        }

    def result_settings(self, *, is_export: bool) -> dict[str, int]:
        """What bounds the size of a result."""
        return {"max_result_bytes": self.export_bytes} if is_export else {"max_result_rows": self.result_rows}


class Store(Protocol):
    """A set of tables in one database. All methods block; all are safe from any thread."""

    capabilities: Capabilities
    database: str

    def command(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        """Run one statement that returns nothing. Raises RetryableStoreError or FatalStoreError."""

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> "pa.Table":
        """Run one SELECT; `{name:Type}` in `sql` is bound by the server. DateTime comes as UTC timestamps."""

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, object]]:
        """Run one SELECT into Python values (UUID, Decimal, aware UTC datetime, None, list, dict)."""

    def insert(self, table: str, data: "pa.Table", *, token: str | None = None) -> None:
        """Store `data` as one block (columns by name; it must lie in one partition). Blocks until durable.

        Raises RetryableStoreError when the outcome is unknown or the engine refused for now (`code` is the
        engine's, for example MEMORY_LIMIT_EXCEEDED), FatalStoreError when a repeat cannot help."""

    def close(self) -> None:
        """End running queries and let the engine go. A second call does nothing."""


def checked_database(name: str) -> str:
    """`name`, if it can stand unquoted in SQL, in a grant and in a folder name."""
    if not _DATABASE_NAME.fullmatch(name) or name in {"default", "system", "information_schema"}:
        raise UsageError(f"database name {name!r} cannot be used; choose lower-case letters, digits and _")
    return name


def one_block(data: "pa.Table") -> "pa.Table":
    """`data` as one record batch: a chunked table would be written as several parts, and differing
    dictionaries between chunks cannot be written at all."""
    return data.unify_dictionaries().combine_chunks()


def store_error(
    message: str, *, code: int | None, name: str | None, during: str, retry_unknown: bool
) -> RetryableStoreError | FatalStoreError:
    """The error for a failed call. `during` names the call; `retry_unknown` says what an error without a
    code means: a broken transport (retry) or a refused call (fatal)."""
    text = f"{during}: {short_message(message)}"
    if code in _RETRYABLE_CODES or (code is None and retry_unknown):
        return RetryableStoreError(text, code=code, name=name)
    return FatalStoreError(text, code=code, name=name)


def user_error(message: str, *, code: int | None, name: str | None) -> UserQueryError:
    """The error shown to a person whose query failed: one line, no version, no stack."""
    text = short_message(message)
    hint = _USER_HINTS.get(code or 0)
    return UserQueryError(f"{text}; {hint}" if hint else text, code=code, name=name)


_USER_HINTS: Mapping[int, str] = {
    TIMEOUT_EXCEEDED: "the time limit stopped it: narrow the query, for example by run or by day",
    160: "the time limit stopped it: narrow the query, for example by run or by day",
    MEMORY_LIMIT_EXCEEDED: "the memory limit stopped it: read fewer rows or group by fewer keys",
    396: "the limit of the result stopped it: add a LIMIT or aggregate; --csv and --parquet take any number of rows "
    "up to 1 GiB, ask for more in parts",
}

_PREFIXES = re.compile(r"^(?:(?:Error:|Code: \d+\.|DB::Exception:|HTTP driver:|HTTPDriver)\s*)+")
_TAILS = (
    re.compile(r"\s*\(version [^()]*(?:\([^()]*\)[^()]*)*\)\s*$"),
    re.compile(r"\s*\(for url [^()]*\)\s*$"),
    re.compile(r"\s*\([A-Z][A-Z0-9_]{3,}\)\s*$"),
    re.compile(r"\s*Stack trace:.*$", re.DOTALL),
    re.compile(r"[.:]?\s*While executing \w+\.?\s*$"),
    re.compile(r"[.:]?\s*Expected one of:.*$", re.DOTALL),
    re.compile(r"[.:]?\s+(?:In|in) scope .*$", re.DOTALL),
    re.compile(r"[.:]?\s*: While processing .*$", re.DOTALL),
)
_MESSAGE_CHARS_MAX = 300


def short_message(message: str) -> str:
    """The engine's message as one line of at most 300 characters, without codes, versions and stacks."""
    start = message.find("DB::Exception: ")
    text = message[start + len("DB::Exception: ") :] if start >= 0 else message
    text = _PREFIXES.sub("", text.strip())
    shorter = ""
    while shorter != text:  # a tail can lie behind another one
        shorter, text = text, text.rstrip(".:, \n")
        for tail in _TAILS:
            text = tail.sub("", text)
    text = " ".join(text.split())
    if len(text) > _MESSAGE_CHARS_MAX:
        text = text[: _MESSAGE_CHARS_MAX - 3] + "..."
    return text or "the engine gave no reason"
