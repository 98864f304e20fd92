"""The options of `cost`, and the period that they name."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from trainledger_schemas.errors import UsageError

from ..reports.times import parse_month, parse_time
from .opening import utc_now
from .output import stderr_line

__all__ = [
    "By",
    "Currency",
    "End",
    "Explain",
    "Focus",
    "FocusVersion",
    "Month",
    "Prices",
    "Reconcile",
    "Start",
    "asked_period",
    "hour_text",
    "whole_hours",
]

By = Annotated[
    str | None,
    typer.Option(help="team (default), project, experiment, run, user, account, node, kind, day or outcome."),
]
Start = Annotated[
    str | None,
    typer.Option("--from", help="First UTC hour: 2026-11-01, 2026-11-01T10:00, or an age such as 7d."),
]
End = Annotated[str | None, typer.Option("--to", help="The UTC hour behind the last one.")]
Month = Annotated[str | None, typer.Option(help="One month, as in 2026-11; a closed one as it was closed.")]
Explain = Annotated[
    bool, typer.Option("--explain", help="Why the newest bill of a closed month is not its statement.")
]
Focus = Annotated[
    Path | None, typer.Option(help="Write a FOCUS file (.csv or .parquet) of --month, or of --from and --to.")
]
FocusVersion = Annotated[str, typer.Option(help="1.4 or 1.2.")]
Prices = Annotated[
    tuple[Path, Path] | None,
    typer.Option(metavar="OLD.toml NEW.toml", help="The same hours under two price books."),
]

Reconcile = Annotated[
    str | None,
    typer.Option(
        metavar="INVOICE", help="An amount, or a CSV file of node and amount, against the bills of the nodes."
    ),
]
Currency = Annotated[
    str | None,
    typer.Option(
        help="Report in this currency, each hour at the rate of its day (`price rate`); default TRAINLEDGER_CURRENCY, "
        "else that of each price. With --reconcile: of the invoice, where it names none; default USD."
    ),
]


def asked_period(
    start: str | None, end: str | None, month: str | None
) -> tuple[datetime | None, datetime | None]:
    """The first moment and the one behind the last, UTC; None: open. UsageError otherwise."""
    if month is not None:
        if start is not None or end is not None:
            raise UsageError("--month stands alone: leave out --from and --to")
        return parse_month(month)
    now = utc_now()
    first = parse_time(start, now=now) if start is not None else None
    last = parse_time(end, now=now) if end is not None else None
    if first is not None and last is not None and first >= last:
        raise UsageError(f"--to {end} is not behind --from {start}")
    if first is not None and last is not None and hour_text(first) == hour_text(last):
        raise UsageError(
            f"--from {start} and --to {end} lie in one hour, and cost is by whole UTC hours: --to is the hour behind"
        )
    return first, last


def whole_hours(first: datetime | None, last: datetime | None) -> tuple[datetime | None, datetime | None]:
    """The UTC hours of a period; a line on stderr names them where what was asked for began or ended within one."""
    begin, end = (
        None if moment is None else moment.replace(minute=0, second=0, microsecond=0)
        for moment in (first, last)
    )
    if (begin, end) != (first, last):
        parts = [
            f"{word} {moment:%Y-%m-%d %H:%M}"
            for word, moment in (("from", begin), ("to", end))
            if moment is not None
        ]
        stderr_line(f"cost is by whole hours: {' '.join(parts)} UTC")
    return begin, end


def hour_text(moment: datetime | None) -> str | None:
    """The UTC hour of a moment as the tables read it."""
    return None if moment is None else moment.strftime("%Y-%m-%d %H:00:00")
