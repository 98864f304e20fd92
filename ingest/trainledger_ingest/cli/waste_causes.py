"""`waste memory` and `waste stragglers`: single causes of waste, run by run."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any

import pyarrow as pa
import typer

from trainledger_schemas.errors import UsageError

from ..reports.headroom import COLUMNS as HEADROOM
from ..reports.headroom import read_headroom, saving_totals
from ..reports.stragglers import COLUMNS as STRAGGLERS
from ..reports.stragglers import read_stragglers
from ..run_lookup import find_run
from .cost_options import End, Month, Start, asked_period, hour_text
from .opening import session
from .options import Csv, Json, Parquet
from .output import cell_text, check_one_form, print_json, print_rows, print_table, stderr_line

__all__ = ["print_records", "refuse_ignored", "register"]

_MONEY = {"cost", "could_save", "cost_waited"}
_WHOLE = {"mem_total_bytes", "mem_peak_bytes", "fits_gpu_gib", "attempt", "straggler", "ranks_waiting"}
_ID_CHARACTERS = 8

Run = Annotated[
    str | None, typer.Option("--run", help="Only this run: id, the unique beginning of one, or name.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `waste`."""
    app.command("memory", help="Which smaller GPU or MIG instance each run's peak of memory fits.")(memory)
    app.command("stragglers", help="What ranks cost while they waited for the slowest.")(stragglers)


def refuse_ignored(context: typer.Context, **given: object) -> None:
    """Refuse options before a subcommand, where they would do nothing."""
    ignored = [name for name, value in given.items() if value]
    if context.invoked_subcommand is not None and ignored:
        name = ignored[0].removeprefix("as_")
        raise UsageError(
            f"--{name} before {context.invoked_subcommand} does nothing: give it behind, where that command has it"
        )


def memory(
    run: Run = None,
    start: Start = None,
    end: End = None,
    month: Month = None,
    as_json: Json = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
) -> None:
    """Memory of GPUs that runs held and never filled."""
    check_one_form(as_json=as_json, as_csv=as_csv, parquet=parquet)
    first, last = asked_period(start, end, month)
    with session() as opened:
        run_id = None if run is None else find_run(opened, run, say=stderr_line)
        rows = read_headroom(opened, start=hour_text(first), end=hour_text(last), run_id=run_id)
    if as_json or as_csv or parquet is not None:
        print_records(HEADROOM, rows, as_json=as_json, as_csv=as_csv, parquet=parquet)
        return
    if not rows:
        stderr_line("no run was seen on a GPU in this time")
        return
    columns = ("run", "gpu", "model", "peak", "of", "busy", "fits", "or a GPU of", "cost", "could save")
    print_table(
        columns,
        map(_memory_cells, rows),
        right=("peak", "of", "busy", "cost", "could save"),
        optional=("gpu",),
    )
    for currency, total in saving_totals(rows).items():
        typer.echo(f"in all up to {total} {currency}, where memory alone decides")


def _memory_cells(row: Mapping[str, Any]) -> list[str]:
    sure = row["mem_peak_bytes"] is not None and not row["unmeasured_s"]
    peak = (
        "unknown"
        if row["mem_peak_bytes"] is None
        else f"{'' if sure else '>= '}{row['mem_peak_bytes'] / 2**30:.1f}"
    )
    profile = (
        "-"
        if row["fits_profile"] is None
        else f"{row['fits_profile']} ({row['fits_compute']:.0%} of its compute)"
    )
    return [
        _run_cell(row),
        row["device_id"][: _ID_CHARACTERS + 4],
        " ".join(filter(None, (row["model"], row["mig_profile"]))) or "-",
        f"{peak} GiB" if peak != "unknown" else peak,
        "unknown" if row["mem_total_bytes"] is None else f"{row['mem_total_bytes'] / 2**30:.0f} GiB",
        "unknown" if row["busy_pct"] is None else f"{row['busy_pct']:.0f} %",
        profile if sure else "not all was measured",
        "-" if row["fits_gpu_gib"] is None else f"{row['fits_gpu_gib']} GiB",
        _amount(row, "cost"),
        _amount(row, "could_save"),
    ]


def stragglers(
    start: Start = None,
    end: End = None,
    month: Month = None,
    as_json: Json = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
) -> None:
    """Runs of which one rank made the others wait."""
    check_one_form(as_json=as_json, as_csv=as_csv, parquet=parquet)
    first, last = asked_period(start, end, month)
    with session() as opened:
        rows = read_stragglers(opened, start=hour_text(first), end=hour_text(last))
    if as_json or as_csv or parquet is not None:
        print_records(STRAGGLERS, rows, as_json=as_json, as_csv=as_csv, parquet=parquet)
        return
    if not rows:
        stderr_line("no run of several ranks has a straggler in this time")
        return
    columns = (
        "run",
        "attempt",
        "slowest rank",
        "node",
        "known by",
        "others",
        "waited",
        "they cost",
        "of it waiting",
    )
    cells = (
        [
            _run_cell(row), str(row["attempt"]), str(row["straggler"]), row["straggler_node"],
            f"{row['evidence']} ({row['key']})", str(row["ranks_waiting"]), f"{row['wait_pct']:.1f} %",
            _amount(row, "cost"), _amount(row, "cost_waited"),
        ]
        for row in rows
    )  # fmt: skip
    print_table(columns, cells, right=("others", "waited", "they cost", "of it waiting"))
    typer.echo("an estimate: as if all steps were like the newest 1,000")


def print_records(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, as_json: bool, as_csv: bool, parquet: Any
) -> None:
    """Rows in the form that was asked for; amounts of money are text, and decimals in Parquet."""
    if as_json:
        print_json(rows)
        return
    money = pa.string() if as_csv else pa.decimal128(38, 9)
    kinds = {name: money if name in _MONEY else pa.int64() if name in _WHOLE else None for name in columns}
    arrays = []
    for name, kind in kinds.items():
        values = [row[name] for row in rows]
        if name in _MONEY and not as_csv:
            values = [None if value is None else Decimal(value) for value in values]
        if kind is None:
            is_number = name.endswith(("_pct", "_s", "_part", "_compute", "_usd"))
            kind = pa.float64() if is_number else pa.string()
        arrays.append(pa.array(values, kind))
    print_rows(pa.table(arrays, names=list(columns)), as_csv=as_csv, parquet=parquet)


def _run_cell(row: Mapping[str, Any]) -> str:
    return " ".join(
        part for part in (row["name"] and cell_text(row["name"]), row["run_id"][:_ID_CHARACTERS]) if part
    )


def _amount(row: Mapping[str, Any], name: str) -> str:
    return "-" if row[name] is None else f"{row[name]} {row['currency']}"
