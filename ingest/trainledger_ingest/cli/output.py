"""How results are printed: a table for people, JSON, CSV or Parquet for programs.

JSON: integers are exact numbers, Decimal is a string, times are ISO 8601 UTC, NaN and infinities the strings
"NaN", "Infinity" and "-Infinity"; null is NULL and nothing else. CSV has the same values; NULL is empty, lists and
maps are JSON. Tables for people show control characters as escapes, so that no name can move the cursor.
"""

import csv
import json
import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trainledger_schemas.errors import UsageError

from ..storage.arrow_types import WIDE_INTEGER

__all__ = [
    "cell_text",
    "check_one_form",
    "json_value",
    "print_json",
    "print_rows",
    "print_table",
    "stderr_line",
    "table_rows",
]

CELL_CHARACTERS_MAX = 60
CSV_ROWS_AT_ONCE = 20_000
GAP = 2
# C0, DEL and C1: with these a terminal can be told to do things.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


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
    table: pa.Table, *, as_json: bool = False, as_csv: bool = False, parquet: Path | None = None
) -> None:
    """Print or write a result in the one form that was asked for; a table if none was."""
    check_one_form(as_json=as_json, as_csv=as_csv, parquet=parquet)
    if parquet is not None:
        try:
            with parquet.open("wb") as sink:
                pa.parquet.write_table(table, sink)
        except OSError as error:
            raise UsageError(f"cannot write {parquet}: {error.strerror or error}") from error
        stderr_line(f"{table.num_rows} rows written to {parquet}")
        return
    names = table.column_names
    if as_csv:
        # Part by part: as Python values a large result takes ten times its memory.
        parts = (table.slice(begin, CSV_ROWS_AT_ONCE) for begin in range(0, table.num_rows, CSV_ROWS_AT_ONCE))
        _print_csv(names, (row for part in parts for row in table_rows(part)))
        return
    rows = table_rows(table)
    if as_json:
        print_json(rows)
    else:
        cells = [[cell_text(row[name]) for name in names] for row in rows]
        room = Console().width if sys.stdout.isatty() else None
        if room is None or _table_width(names, cells) <= room:
            print_table(names, cells)
        else:
            _print_records(names, cells)


def check_one_form(*, as_json: bool, as_csv: bool, parquet: Path | None) -> None:
    """Refuse two forms at once."""
    if sum((as_json, as_csv, parquet is not None)) > 1:
        raise UsageError("choose one of --json, --csv and --parquet")


def table_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a result as Python values, maps as dicts, wide integers as int."""
    restore: dict[str, Callable[[Any], Any]] = {
        field.name: dict if pa.types.is_map(field.type) else int
        for field in table.schema
        if pa.types.is_map(field.type) or field.type == WIDE_INTEGER
    }
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        for name, form in restore.items():
            row[name] = None if row[name] is None else form(row[name])
    return rows


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    right: Collection[str] = (),
    optional: Sequence[str] = (),
) -> None:
    """A table for people: fitted to a terminal, as wide as it needs to be when piped.

    A terminal that is too narrow goes without the `optional` columns, the first of them first; what is then
    still too wide is folded."""
    cells = [[_printable(cell) for cell in row] for row in rows]
    if title:
        sys.stdout.write(f"\n{_printable(title)}\n")
    if not sys.stdout.isatty():
        _print_plain(columns, cells, right)
        return
    console = Console(highlight=False)
    for name in optional:
        if _table_width(columns, cells) > console.width:
            place = columns.index(name)
            columns = [*columns[:place], *columns[place + 1 :]]
            cells = [[*row[:place], *row[place + 1 :]] for row in cells]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(Text(column), justify="right" if column in right else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    sys.stdout.flush()
    console.print(table)


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> None:
    widths = _widths(columns, rows)
    for row in (columns, *rows):
        cells = (
            _pad(cell, width, at_left=column in right)
            for column, cell, width in zip(columns, row, widths, strict=True)
        )
        sys.stdout.write((" " * GAP).join(cells).rstrip() + "\n")


def _pad(cell: str, width: int, *, at_left: bool = False) -> str:
    blank = " " * (width - cell_len(cell))
    return blank + cell if at_left else cell + blank


def _print_records(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    # A table that the terminal cannot hold: one line a value.
    width = max(cell_len(column) for column in columns)
    for number, row in enumerate(rows, 1):
        sys.stdout.write(f"-- row {number}\n")
        for column, cell in zip(columns, row, strict=True):
            sys.stdout.write(f"{_pad(column, width + GAP)}{cell}\n")


def _table_width(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    return sum(_widths(columns, rows)) + GAP * (len(columns) - 1)


def _widths(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]


def _printable(text: str) -> str:
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def cell_text(value: Any) -> str:
    """A value as a person reads it in a table cell; long text is cut with an ellipsis."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return _utc(value).strftime("%Y-%m-%d %H:%M:%S")
    plain = json_value(value)
    text = _printable(plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False))
    return text if len(text) <= CELL_CHARACTERS_MAX else text[: CELL_CHARACTERS_MAX - 1] + "…"


def _print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(_csv_value(json_value(row[name])) for name in columns)


def _csv_value(value: Any) -> Any:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | list | dict) else value


def _json_float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _iso(value: datetime) -> str:
    return _utc(value).isoformat().replace("+00:00", "Z")


def _utc(value: datetime) -> datetime:
    # The engine gives UTC; a time without a zone is UTC too.
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
