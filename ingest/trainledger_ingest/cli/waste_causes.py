"""`waste memory`, `stragglers`, `input` and `metric`: single causes of waste, run by run."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import pyarrow as pa
import typer

from trainledger_schemas.errors import UsageError

from ..reports.headroom import COLUMNS as HEADROOM
from ..reports.headroom import read_headroom, saving_totals
from ..reports.input_waits import COLUMNS as INPUT_WAITS
from ..reports.input_waits import read_input_waits
from ..reports.metric_cost import COLUMNS as METRIC_COST
from ..reports.metric_cost import MetricCost, read_metric_cost
from ..reports.stragglers import COLUMNS as STRAGGLERS
from ..reports.stragglers import read_stragglers
from ..run_lookup import find_run
from .cost_options import End, Month, Start, asked_period, hour_text
from .opening import session
from .options import Csv, Json, Parquet
from .output import cell_text, check_one_form, print_json, print_rows, print_table, stderr_line

__all__ = ["print_records", "refuse_ignored", "register"]

_KINDS: Mapping[str, pa.DataType] = {
    **dict.fromkeys(
        "mem_total_bytes mem_peak_bytes fits_gpu_gib attempt straggler ranks_waiting gpus improvements".split(),
        pa.int64(),
    ),
    **dict.fromkeys(
        "used_pct busy_pct wait_pct observed_s unmeasured_s fits_part fits_compute low_s cpu_s read_s swing_s "
        "starved_s unseen_s low_cores low_read_bytes first best gain".split(),
        pa.float64(),
    ),
    "is_starved": pa.bool_(),
    "evidence": pa.list_(pa.string()),
}
_MONEY = {"cost", "could_save", "cost_waited", "cost_to_best", "cost_after_best", "cost_per_unit"}
_ID_CHARACTERS = 8

Run = Annotated[
    str | None, typer.Option("--run", help="Only this run: id, the unique beginning of one, or name.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `waste`."""
    app.command("memory", help="Which smaller GPU or MIG instance each run's peak of memory fits.")(memory)
    app.command("input", help="Runs whose GPUs wait for input, and what that costs.")(input_waits)
    app.command("metric", help="What a unit of a metric cost, and what was paid after the best value.")(
        metric
    )
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


def input_waits(
    is_all: Annotated[bool, typer.Option("--all", help="Also runs that are not starved.")] = False,
    start: Start = None,
    end: End = None,
    month: Month = None,
    as_json: Json = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
) -> None:
    """Runs whose GPUs wait for input: GPUs less than half busy while processes compute or the node reads."""
    check_one_form(as_json=as_json, as_csv=as_csv, parquet=parquet)
    first, last = asked_period(start, end, month)
    with session() as opened:
        rows = read_input_waits(opened, start=hour_text(first), end=hour_text(last), is_all=is_all)
    if as_json or as_csv or parquet is not None:
        print_records(INPUT_WAITS, rows, as_json=as_json, as_csv=as_csv, parquet=parquet)
        return
    if not rows:
        stderr_line("no run waits for input by the rule of docs/waste.md; --all shows all that were measured")
        return
    columns = (
        "run",
        "node",
        "starved",
        "GPU busy",
        "time low",
        "with evidence",
        "cpu",
        "read",
        "swing",
        "waiting cost",
    )
    cells = (
        [
            _run_cell(row), row["node_id"],
            "not known yet" if row["is_starved"] is None else "yes" if row["is_starved"] else "no",
            f"{row['busy_pct']:.0f} %",
            *(f"{100 * row[f'{name}_s'] / row['observed_s']:.0f} %" for name in "low starved cpu read swing".split()),
            _amount(row, "cost_waited"),
        ]
        for row in rows
    )  # fmt: skip
    print_table(columns, cells, right=columns[3:])
    typer.echo(
        "percent of the time that the run was alone on a GPU; what the node reads is of all that run on it"
    )


def metric(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The metric, as in eval/acc.")],
    goal: Annotated[str | None, typer.Option(help="min or max; default as define_metric set it.")] = None,
    unit: Annotated[
        str, typer.Option(help="How much of it is a unit, as in 0.01 for a point of accuracy.")
    ] = "1",
    group: Annotated[str | None, typer.Option(help="Only runs of this group, as of a sweep.")] = None,
    project: Annotated[str | None, typer.Option(help="Only runs of this project.")] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    parquet: Parquet = None,
) -> None:
    """What a unit of a metric cost, by run and of all together."""
    check_one_form(as_json=as_json, as_csv=as_csv, parquet=parquet)
    try:
        size = Decimal(unit)
    except InvalidOperation:
        raise UsageError(f"--unit {unit!r} is not a number such as 0.01") from None
    with session() as opened:
        report = read_metric_cost(opened, key, goal=goal, group=group, project=project, unit=size)
    if as_json or as_csv or parquet is not None:
        print_records(METRIC_COST, report.rows, as_json=as_json, as_csv=as_csv, parquet=parquet)
    elif not report.rows:
        stderr_line(f"no run logged a finite value of {key!r}")
    else:
        _print_metric(key, unit, report)


def _print_metric(key: str, unit: str, report: MetricCost) -> None:
    columns = ("run", "first", "best", "gain", "cost", "to the best", "after it", f"for {unit} of {key}")
    cells = (
        [
            _run_cell(row), *(f"{row[name]:.6g}" for name in ("first", "best", "gain")),
            *(_amount(row, name) for name in ("cost", "cost_to_best", "cost_after_best", "cost_per_unit")),
        ]
        for row in report.rows
    )  # fmt: skip
    print_table(columns, cells, right=columns[1:])
    total = report.total
    if total is not None and total["runs"] > 1:
        each = f": {_amount(total, 'cost_per_unit')} for {unit}" if total["cost_per_unit"] is not None else ""
        typer.echo(
            f"all {total['runs']} runs cost {_amount(total, 'cost')} and brought {key} from {total['first']:.6g} to "
            f"{total['best']:.6g}{each}"
        )


def print_records(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, as_json: bool, as_csv: bool, parquet: Any
) -> None:
    """Rows in the form that was asked for; amounts of money are text, and decimals in Parquet."""
    if as_json:
        print_json(rows)
        return
    arrays = []
    for name in columns:
        values = [row[name] for row in rows]
        if name in _MONEY and not as_csv:
            decimals = [None if value is None else Decimal(value) for value in values]
            arrays.append(pa.array(decimals, pa.decimal128(38, 9)))
        elif name == "evidence" and "straggler" in columns:
            arrays.append(pa.array(values, pa.string()))
        else:
            arrays.append(pa.array(values, _KINDS.get(name, pa.string())))
    print_rows(pa.table(arrays, names=list(columns)), as_csv=as_csv, parquet=parquet)


def _run_cell(row: Mapping[str, Any]) -> str:
    return " ".join(
        part for part in (row["name"] and cell_text(row["name"]), row["run_id"][:_ID_CHARACTERS]) if part
    )


def _amount(row: Mapping[str, Any], name: str) -> str:
    return "-" if row[name] is None else f"{row[name]} {row['currency']}"
