"""What a command needs of the tables, wherever they are: in this process, behind `up`, or in a cluster.

A session answers on everything that was written before it was opened. Queries of the product itself go
through `query`, queries of a person through `user_query`, which is guarded and limited. Facts of the
administrator (prices ...) are events like all others: `append_admin` returns once the tables show them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pyarrow as pa

from .log_state import LogState

__all__ = ["Progress", "Say", "Session"]

Say = Callable[[str], None]
"""Takes one line for a person."""

Progress = Callable[[int, int], None]
"""Is told (records taken, records in all); the second number may grow."""


class Session(Protocol):
    """Access to the views of one installation. All calls block."""

    views: str
    """Name of the database that holds the public views."""

    def has_tables_open(self) -> bool:
        """Whether the tables are open already, or a server has them: asking them makes and takes nothing here."""

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """A SELECT of the product; `{name:Type}` is bound by the engine."""

    def user_query(self, sql: str, *, is_export: bool = False) -> pa.Table:
        """A SELECT of a person: guarded, read-only, limited. Raises UserQueryError.

        `is_export`: for a file, so the limit is on bytes and not on rows."""

    def append_admin(self, event_type: str, *fields: Mapping[str, Any]) -> None:
        """Append events of an administrator, durably, and wait until they are in the tables.

        In a cluster the wait is short, and a line says when the tables do not show it yet. Raises RetryableError
        when the log cannot take it."""

    def close_period(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Close a month (the fields of a `CloseRequest`) on everything that was written before; what was closed.

        Raises UsageError while it cannot be closed."""

    def publish(self) -> bool | None:
        """Wait, for a bounded time, until Kafka has what this node spooled; None where nothing is to publish."""

    def rebuild(self, progress: Progress | None = None) -> list[dict[str, Any]]:
        """Replay the log into a new generation of tables; returns the counts that were compared.

        `progress` is told how far it is, where that can be seen from here."""

    def verify(self) -> list[dict[str, Any]]:
        """Compare the log with the tables, partition by partition."""

    def log_state(self) -> LogState:
        """Whether the tables have all that is in the log now; waits for it a while. Raises RetryableError."""

    def close(self) -> None:
        """Let go of what the session holds."""
