"""Writing a FOCUS file, a day at a time: CSV or Parquet by its suffix.

An open period is written as it is known now; a closed month from its statement, with the differences of earlier months
that it books as corrections. Hours without a price are left out and counted: the specification has no unknown money.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Context, Decimal
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet

from trainledger_schemas.errors import UsageError

from ..session import Session
from .focus import focus_columns, focus_row, value_text
from .focus_billing import Billing, check_rates

__all__ = ["FocusExport", "write_focus"]

_TYPES = {"s": pa.string(), "j": pa.string(), "t": pa.timestamp("us", tz="UTC"), "d": pa.decimal128(38, 18)}
_EXACT = Context(prec=60)
_IN_BOUNDS = (
    "usage_hour >= toDateTime({start:String}, 'UTC') AND usage_hour < toDateTime({end:String}, 'UTC')"
)


@dataclass(frozen=True, slots=True)
class FocusExport:
    """What was written: rows, the sum of EffectiveCost by currency, and node-hours without a price, left out."""

    rows: int
    sums: Mapping[str, Decimal]
    unpriced_hours: float


@dataclass(frozen=True, slots=True)
class _Source:
    """What to read lines and bills from, and the parameters of that."""

    lines: str
    bills: str
    parameters: Mapping[str, object]


class _Sink(Protocol):
    def write(self, rows: Sequence[Mapping[str, Any]]) -> None: ...


def write_focus(
    session: Session,
    path: Path,
    period: tuple[datetime, datetime],
    *,
    version: str,
    statement: str | None,
    billing: Billing | None = None,
) -> FocusExport:
    """Write a period (UTC hours, half-open) to `path`; `statement`: the id of a closed month's statement, if it is one;
    `billing`: the rates to the currency of the file, None where each row keeps that of its price.

    Raises UsageError for a suffix but .csv and .parquet, an unknown version, a rate that there is not, and a file that
    cannot be written."""
    columns = focus_columns(version)
    source = _source_of(session, period, statement)
    bills, corrections = _days(session, source), _corrections(session, period)
    if billing is not None:
        check_rates(billing, [(row["money"], row["day"], False) for row in bills if row["money"] is not None])
        check_rates(billing, [(row["currency"], row["usage_hour"].date(), True) for row in corrections])
    count, unpriced = 0, 0.0
    sums: dict[str, Decimal] = {}
    with _opened(path, columns) as sink:
        for lines in chain(
            _lines(session, source, sorted({str(row["day"]) for row in bills})), [corrections]
        ):
            priced = [line for line in lines if line["cost"] is not None]
            unpriced += sum(line["held_hours"] for line in lines if line["cost"] is None)
            charged = priced if billing is None else [billing.charge(line) for line in priced]
            rows = [focus_row(line, version=version) for line in charged]
            sink.write(rows)
            count += len(rows)
            for row in rows:
                before = sums.get(row["BillingCurrency"], Decimal(0))
                sums[row["BillingCurrency"]] = _EXACT.add(before, row["EffectiveCost"])
    return FocusExport(count, sums, unpriced)


def _source_of(session: Session, period: tuple[datetime, datetime], statement: str | None) -> _Source:
    views = session.views
    lines, bills, parameters = f"{views}.cost_lines", f"{views}.node_hour_bills", dict[str, object]()
    if statement is not None:
        of_statement = "WHERE statement_id = {statement:UUID}"
        lines = f"(SELECT * FROM {views}.statement_lines {of_statement})"
        bills = f"(SELECT * FROM {views}.statement_bills {of_statement})"
        parameters = {"statement": statement}
    first, behind = period
    parameters |= {"start": f"{first:%Y-%m-%d %H:%M:%S}", "end": f"{behind:%Y-%m-%d %H:%M:%S}"}
    return _Source(lines, bills, parameters)


def _days(session: Session, source: _Source) -> list[dict[str, Any]]:
    """The days of the period and what their bills are in: {day, money}; money None: hours without a price."""
    rows: list[dict[str, Any]] = session.query(
        f"SELECT DISTINCT toDate(usage_hour, 'UTC') AS day, currency AS money FROM {source.bills} WHERE {_IN_BOUNDS}",
        source.parameters,
    ).to_pylist()
    return rows


def _lines(session: Session, source: _Source, days: Iterable[str]) -> Iterator[list[dict[str, Any]]]:
    for day in days:
        yield session.query(
            f"""SELECT l.usage_hour AS usage_hour, l.node_id AS node_id, l.kind AS kind, toString(l.run_id) AS run_id,
              l.owner AS owner, l.account AS account, l.team AS team, l.project AS project, l.experiment AS experiment,
              l.currency AS currency, l.payer_evidence AS payer_evidence,
              toString(l.price_id) AS price_id, any(p.node) AS pattern,
              any(p.per_hour) AS per_hour, sum(l.held_hours) AS held_hours, sumOrNull(l.cost) AS cost
            FROM (SELECT * FROM {source.lines} WHERE {_IN_BOUNDS} AND toDate(usage_hour, 'UTC') = {{day:Date}}) AS l
            LEFT ANY JOIN {session.views}.prices AS p ON p.price_id = l.price_id
            GROUP BY usage_hour, node_id, kind, run_id, owner, account, team, project, experiment, currency,
              payer_evidence, price_id
            ORDER BY usage_hour, node_id, kind, run_id, owner, account""",
            dict(source.parameters) | {"day": day},
        ).to_pylist()


def _corrections(session: Session, period: tuple[datetime, datetime]) -> list[dict[str, Any]]:
    """What the month books of months that were closed before it; nothing of a period that is not a month."""
    first, behind = period
    if not _is_month(first, behind):
        return []
    rows = session.query(
        f"""SELECT usage_hour, node_id, kind, toString(run_id) AS run_id, owner, account, team, project,
          experiment, currency, cause, sum(delta) AS cost
        FROM {session.views}.cost_adjustments WHERE booked_in = {{month:String}}
        GROUP BY usage_hour, node_id, kind, run_id, owner, account, team, project, experiment, currency, cause
        HAVING cost != 0 ORDER BY usage_hour, node_id, kind, run_id, owner, account, cause""",
        {"month": f"{first:%Y-%m}"},
    ).to_pylist()
    return [row | {"booked_in": first} for row in rows]


def _is_month(first: datetime, behind: datetime) -> bool:
    return first.day == 1 and first.hour == 0 and behind == (first + timedelta(days=32)).replace(day=1)


@contextmanager
def _opened(path: Path, columns: Mapping[str, str]) -> Iterator[_Sink]:
    if path.suffix not in (".csv", ".parquet"):
        raise UsageError(f"{path} has neither .csv nor .parquet at its end: that says which form is meant")
    try:
        if path.suffix == ".csv":
            with path.open("w", encoding="utf-8", newline="") as file:
                yield _CsvSink(file, columns)
        else:
            schema = pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])
            with pyarrow.parquet.ParquetWriter(path, schema) as writer:
                yield _ParquetSink(writer, schema)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


class _CsvSink:
    def __init__(self, file: Any, columns: Mapping[str, str]) -> None:
        self._columns = list(columns)
        self._writer = csv.writer(file, lineterminator="\n")
        self._writer.writerow(self._columns)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._writer.writerows([value_text(row[name]) for name in self._columns] for row in rows)


class _ParquetSink:
    def __init__(self, writer: Any, schema: pa.Schema) -> None:
        self._writer = writer
        self._schema = schema

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            self._writer.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=self._schema))
