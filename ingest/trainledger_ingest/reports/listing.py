"""Runs in a list."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from trainledger_schemas.errors import UsageError

from ..session import Session
from .section import shortened
from .times import duration_text, parse_time

__all__ = [
    "RUN_COLUMNS",
    "SELECTED_COLUMNS",
    "RunChoice",
    "list_runs",
    "ls_cells",
    "money_text",
    "parse_since",
    "short_id",
]

RUN_COLUMNS = (
    "run_id",
    "project",
    "experiment",
    "name",
    "team",
    "user",
    "state",
    "state_reason",
    "attempts",
    "ranks",
    "nodes",
    "started_at",
    "ended_at",
    "last_seen_at",
    "duration_s",
    "eta_s",
    "gpu_hours",
    "cost",
    "currency",
    "payer_evidence",
    "grade",
    "tags",
)
# The columns of a run from `... AS r`, its id as text. Qualified, or the alias would stand for the id in WHERE.
SELECTED_COLUMNS = ", ".join(
    "toString(r.run_id) AS run_id" if column == "run_id" else f"r.{column} AS {column}"
    for column in RUN_COLUMNS
)
NAME_CHARACTERS_MAX = 40
STATES = ("running", "finished", "failed", "killed", "crashed", "lost", "retracted")


@dataclass(frozen=True, slots=True)
class RunChoice:
    """Which runs, in which order (a column of view runs, - before it for descending), how many at most.

    Raises UsageError for an unknown column or state."""

    project: str | None = None
    team: str | None = None
    state: str | None = None
    since: datetime | None = None
    sort: str = "-started_at"
    limit: int = 1000

    def __post_init__(self) -> None:
        column = self.sort.removeprefix("-")
        if column not in RUN_COLUMNS:
            raise UsageError(f"cannot sort by {column!r}; {_known(column, RUN_COLUMNS, 'columns')}")
        if self.state is not None and self.state not in STATES:
            raise UsageError(f"no state {self.state!r}; {_known(self.state, STATES, 'states')}")


def parse_since(text: str | None, *, now: datetime) -> datetime | None:
    """The time of `--since`, None if it was not given."""
    return None if text is None else parse_time(text, now=now)


def list_runs(session: Session, choice: RunChoice) -> tuple[pa.Table, bool]:
    """The chosen rows of view runs, and whether there are more than the limit."""
    wanted: dict[str, object] = {}
    conditions = ["1"]
    for name in ("project", "team", "state"):
        value = getattr(choice, name)
        if value is not None:
            conditions.append(f"{name} = {{{name}:String}}")
            wanted[name] = value
    if choice.since is not None:
        conditions.append("started_at >= toDateTime64({since:String}, 6, 'UTC')")
        wanted["since"] = choice.since.strftime("%Y-%m-%d %H:%M:%S.%f")
    direction = "DESC" if choice.sort.startswith("-") else "ASC"
    table = session.query(
        f"SELECT {SELECTED_COLUMNS} FROM (SELECT * FROM {session.views}.runs WHERE {' AND '.join(conditions)}) AS r "
        f"ORDER BY r.{choice.sort.removeprefix('-')} {direction} NULLS LAST, r.run_id LIMIT {choice.limit + 1}",
        wanted,
    )
    return table.slice(0, choice.limit), table.num_rows > choice.limit


def _known(word: str, known: Sequence[str], what: str) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"the {what} are {', '.join(known)}"


def ls_cells(row: dict[str, Any]) -> list[str]:
    """One run as the cells of the printed list."""
    started = row["started_at"]
    return [
        short_id(str(row["run_id"])),
        *(
            shortened(row[column] or "-", NAME_CHARACTERS_MAX)
            for column in ("name", "project", "experiment", "team")
        ),
        row["state"],
        started.strftime("%Y-%m-%d %H:%M:%S") if started else "-",
        duration_text(row["duration_s"]),
        money_text(row["cost"], row["currency"]),
    ]


def short_id(run_id: str) -> str:
    """The first 8 characters: enough for a person, and for commands while they are unique."""
    return run_id[:8]


def money_text(amount: Any, currency: str | None) -> str:
    """Money to four places, for one run; reports to the cent are made by `cost`."""
    return "-" if amount is None else f"{amount:.4f} {currency}"
