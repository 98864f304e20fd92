"""Runs in a list."""

import difflib
import re
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
    "run_group",
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
    """Which runs, in which order, how many at most, with which columns (default: those of view runs).

    A column is one of view runs, `metric:KEY` (the best value where the metric has a goal, else the last) or
    `param:KEY`. `sort` is a column, - before it for descending; by a metric with a goal the best run comes first.
    Raises UsageError for an unknown column or state."""

    project: str | None = None
    team: str | None = None
    state: str | None = None
    since: datetime | None = None
    sort: str = "-started_at"
    limit: int = 1000
    group: str | None = None
    tag: str | None = None
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for column, verb in ((self.sort.removeprefix("-"), "sort by"), *((c, "show") for c in self.columns)):
            if column not in RUN_COLUMNS and not _EXTRA.fullmatch(column):
                raise UsageError(
                    f"cannot {verb} {column!r}; {_known(column, RUN_COLUMNS, 'columns')}"
                    + ("" if ":" in column else " (or metric:KEY, param:KEY)")
                )
        if self.state is not None and self.state not in STATES:
            raise UsageError(f"no state {self.state!r}; {_known(self.state, STATES, 'states')}")


def parse_since(text: str | None, *, now: datetime) -> datetime | None:
    """The time of `--since`, None if it was not given."""
    return None if text is None else parse_time(text, now=now)


def list_runs(session: Session, choice: RunChoice) -> tuple[pa.Table, bool]:
    """The chosen rows and columns of view runs, and whether there are more than the limit."""
    conditions, parameters = _conditions(choice)
    sort = choice.sort.removeprefix("-")
    shown = choice.columns or (*RUN_COLUMNS, *([sort] if sort not in RUN_COLUMNS else []))
    extras = [column for column in dict.fromkeys((*shown, sort)) if column not in RUN_COLUMNS]
    joins, selected = "", []
    for place, column in enumerate(extras):
        kind, _, key = column.partition(":")
        parameters[f"key{place}"] = key
        joins += (
            f" LEFT ANY JOIN ({_EXTRA_QUERY[kind].format(views=session.views, place=place)}) AS x{place} "
        )
        joins += f"ON x{place}.run_id = r.run_id"
    for column in shown:
        if column in RUN_COLUMNS:
            selected.append(
                "toString(r.run_id) AS run_id" if column == "run_id" else f"r.{column} AS {column}"
            )
        else:
            selected.append(f"x{extras.index(column)}.shown AS extra{extras.index(column)}")
    direction = "DESC" if choice.sort.startswith("-") else "ASC"
    order = [f"r.{sort}"]
    if sort in extras:
        order = [f"x{extras.index(sort)}.{name}" for name in ("place", "shown")]
    table = session.query(
        f"SELECT {', '.join(selected)} FROM (SELECT * FROM {session.views}.runs WHERE {' AND '.join(conditions)}) AS r"
        f"{joins} ORDER BY {', '.join(f'{name} {direction} NULLS LAST' for name in order)}, r.run_id "
        f"LIMIT {choice.limit + 1}",
        parameters,
    ).rename_columns(list(shown))
    return table.slice(0, choice.limit), table.num_rows > choice.limit


_EXTRA = re.compile(r"(metric|param):.+", re.DOTALL)
# `place`: what is sorted by; NaN is nowhere, and of a metric with a goal the best is the first.
_EXTRA_QUERY = {
    "metric": (
        "SELECT run_id, toNullable(if(goal IS NULL, last, best)) AS shown, "
        "if(isNaN(shown), NULL, if(goal = 'max', -shown, shown)) AS place "
        "FROM {views}.metric_summary WHERE key = {{key{place}:String}}"
    ),
    "param": (
        "SELECT run_id, toNullable(value) AS shown, value_number AS place "
        "FROM {views}.params WHERE key = {{key{place}:String}} AND is_current"
    ),
}


def _conditions(choice: RunChoice) -> tuple[list[str], dict[str, object]]:
    wanted: dict[str, object] = {}
    conditions = ["1"]
    for name, column in (
        ("project", "project"),
        ("team", "team"),
        ("state", "state"),
        ("group", "run_group"),
    ):
        value = getattr(choice, name)
        if value is not None:
            conditions.append(f"{column} = {{{name}:String}}")
            wanted[name] = value
    if choice.tag is not None:
        conditions.append("has(tags, {tag:String})")
        wanted["tag"] = choice.tag
    if choice.since is not None:
        conditions.append("started_at >= toDateTime64({since:String}, 6, 'UTC')")
        wanted["since"] = choice.since.strftime("%Y-%m-%d %H:%M:%S.%f")
    return conditions, wanted


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
