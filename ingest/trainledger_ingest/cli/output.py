"""How results are printed: a table for people, JSON, CSV or Parquet for programs.

JSON: integers are exact numbers, Decimal is a string, times are ISO 8601 UTC, NaN and infinities the strings
"NaN", "Infinity" and "-Infinity"; null is NULL and nothing else.
"""

import csv
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet
from rich.console import Console
from rich.table import Table

from trainledger_schemas.errors import UsageError

__all__ = ["cell_text", "json_value", "print_json", "print_rows", "print_table", "stderr_line"]

CELL_CHARACTERS_MAX = 60


def stderr_line(text: str) -> None:
    """One line for the person on stderr."""
    sys.stderr.write(text + "\n")


def json_value(value: Any) -> Any:
    """A value as JSON can carry it without loss; see the rules above."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return _json_float(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return _iso(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [json_value(item) for item in value]
    return str(value)


def print_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON array of objects, and nothing else, on stdout."""
    json.dump([json_value(row) for row in rows], sys.stdout, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def print_rows(
    table: pa.Table,
    *,
    as_json: bool = False,
    as_csv: bool = False,
    parquet: Path | None = None,
    title: str = "",
) -> None:
    """Print or write a result in the one form that was asked for."""
    if sum((as_json, as_csv, parquet is not None)) > 1:
        raise UsageError("choose one of --json, --csv and --parquet")
    if parquet is not None:
        try:
            pa.parquet.write_table(table, parquet)
        except OSError as error:
            raise UsageError(f"cannot write {parquet}: {error}") from error
        stderr_line(f"{table.num_rows} rows written to {parquet}")
        return
    rows = table_rows(table)
    if as_json:
        print_json(rows)
    elif as_csv:
        _print_csv(table.column_names, rows)
    else:
        print_table(
            table.column_names, ([cell_text(row[n]) for n in table.column_names] for row in rows), title=title
        )


def table_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a result as Python values, maps as dicts."""
    maps = {field.name for field in table.schema if pa.types.is_map(field.type)}
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        for name in maps:
            row[name] = dict(row[name]) if row[name] is not None else None
    return rows


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", right: Iterable[str] = ()
) -> None:
    """A table for people: bordered and coloured on a terminal, plain text when piped."""
    console = Console(highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else 200)
    table = Table(title=title or None, box=None, pad_edge=False, header_style="bold", title_justify="left")
    to_the_right = set(right)
    for column in columns:
        table.add_column(column, justify="right" if column in to_the_right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def cell_text(value: Any) -> str:
    """A value as a person reads it in a table cell; long text is cut with an ellipsis."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    plain = json_value(value)
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    text = text.replace("\n", "\\n").replace("[", "\\[")
    return text if len(text) <= CELL_CHARACTERS_MAX else text[: CELL_CHARACTERS_MAX - 1] + "…"


def _print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = (json_value(row[name]) for name in columns)
        writer.writerow(
            "" if v is None else json.dumps(v) if isinstance(v, list | dict) else v for v in values
        )


def _json_float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _iso(value: datetime) -> str:
    # The engine gives UTC; a time without a zone is UTC too.
    utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return utc.isoformat().replace("+00:00", "Z")
