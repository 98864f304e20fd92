"""The steps by which a batch gets into the tables exactly once, and those after a crash. No IO in here.

Both are generators: they yield an operation, the caller does it and sends back the answer (`run_steps`), so
one test can drive every path. The order is what makes them safe:

    intent  ->  each table, one block an insert  ->  ledger row

One insert is atomic, so of each table either all rows of a batch are there or none. When an outcome is not known
(an error, or a crash before the ledger row), the rows at or above the ledger's end are counted: all = done,
none = insert, anything else = stop. A server may have kept the record of an insert's token without the rows, and
then answers OK and stores nothing: so after such an insert the rows are counted again, and if there are still
none, inserted under another token.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from trainledger_schemas.errors import RecoveryError
from trainledger_schemas.events import TOPIC_ADMIN, TOPIC_LOGS, TOPIC_METRICS, TOPIC_NODES, TOPIC_RUNS

from .intents import Intent

__all__ = [
    "TABLES_OF_TOPIC",
    "CountRows",
    "InsertRows",
    "Operation",
    "ReadLedgerEnd",
    "WriteIntent",
    "WriteLedger",
    "find_cut",
    "run_steps",
    "write_steps",
]

TABLES_OF_TOPIC: Mapping[str, tuple[str, ...]] = {
    TOPIC_METRICS: ("points", "text_points", "dead_letters"),
    TOPIC_LOGS: ("log_lines", "dead_letters"),
    TOPIC_RUNS: ("run_events", "dead_letters"),
    TOPIC_NODES: ("node_events", "hardware_stats", "run_usage_windows", "run_gpu_windows", "dead_letters"),
    TOPIC_ADMIN: ("admin_events", "dead_letters"),
}

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class WriteIntent:
    """Keep the intent durably; this also fences. Answer: 0."""


@dataclass(frozen=True, slots=True)
class InsertRows:
    """Insert the batch's rows of a table; `attempt` 1 asks for another token than 0. Answer: 0."""

    table: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class CountRows:
    """Count a table's rows of this partition at or above `start`. Answer: how many."""

    table: str
    start: int


@dataclass(frozen=True, slots=True)
class ReadLedgerEnd:
    """Answer: where the ledger's newest row of this partition ends, 0 without one."""


@dataclass(frozen=True, slots=True)
class WriteLedger:
    """Write the batch's ledger row. Answer: 0."""


Operation = WriteIntent | InsertRows | CountRows | ReadLedgerEnd | WriteLedger
Steps = Generator[Operation, int, None]


def run_steps(steps: Generator[Operation, int, _Result], do: Callable[[Operation], int]) -> _Result:
    """Do each operation that `steps` yields; its result at the end."""
    try:
        operation = next(steps)
        while True:
            operation = steps.send(do(operation))
    except StopIteration as stop:
        result: _Result = stop.value
        return result


def write_steps(intent: Intent, *, is_fresh: bool, has_tokens: bool) -> Generator[Operation, int, None]:
    """Bring one batch in. `is_fresh`: none of its inserts can have been tried before.

    Raises RecoveryError when the tables hold what no crash of ours can leave."""
    if not is_fresh and (yield ReadLedgerEnd()) >= intent.end:
        return
    yield WriteIntent()
    for table, rows in intent.plan.items():
        if is_fresh:
            yield InsertRows(table)
        else:
            yield from _finish_table(table, rows, start=intent.start, has_tokens=has_tokens)
    yield WriteLedger()


def find_cut(
    position: int,
    intent: Intent | None,
    *,
    generation: str,
    tables: Sequence[str],
    has_tokens: bool,
) -> Generator[Operation, int, Intent | None]:
    """Which cut must be finished before reading goes on at `position`, the ledger's end. None: any cut will do.

    Raises RecoveryError when rows or the intent do not fit the ledger."""
    counts: dict[str, int] = {}
    for table in tables:
        counts[table] = yield CountRows(table, position)
    if intent is None or intent.generation != generation or intent.end <= position:
        _refuse_rows(counts, position, "and no intent says why")
        return None
    if intent.start != position:
        raise RecoveryError(
            f"an intent for records [{intent.start}, {intent.end}) does not begin at the ledger's end {position}:"
            " ledger rows are missing. Restore the tables from a backup, or run `trainledger admin rebuild`"
        )
    _refuse_rows({name: n for name, n in counts.items() if name not in intent.plan}, position, "unplanned")
    if not has_tokens and not any(counts.values()):
        return None  # the only writer is gone and stored nothing: the records may be cut in any way
    return intent


def _finish_table(table: str, rows: int, *, start: int, has_tokens: bool) -> Steps:
    found = yield CountRows(table, start)
    for attempt in range(2 if has_tokens else 1):
        _refuse_part(table, found, rows, start)
        if found == rows:
            return
        yield InsertRows(table, attempt)
        found = yield CountRows(table, start)
    if found != rows:
        raise RecoveryError(
            f"{table} holds {found} of {rows} rows from offset {start} on after an insert that the engine"
            " acknowledged; look for errors in the engine's log, then start again"
        )


def _refuse_part(table: str, found: int, rows: int, start: int) -> None:
    if found not in (0, rows):
        raise RecoveryError(
            f"{table} holds {found} rows from offset {start} on where one insert was to bring {rows}: another"
            " program wrote to it, or rows were deleted. Run `trainledger admin rebuild`"
        )


def _refuse_rows(counts: Mapping[str, int], position: int, why: str) -> None:
    for table, found in counts.items():
        if found:
            raise RecoveryError(
                f"{table} holds {found} rows at or above the ledger's end {position} ({why}): the ledger or the"
                " intents were lost. Restore them from a backup, or run `trainledger admin rebuild`"
            )
