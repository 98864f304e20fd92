"""`cost --prices OLD.toml NEW.toml`: what other prices would have made of it."""

from pathlib import Path

import typer

from trainledger_schemas.errors import UsageError

from ..cost.conversion import Exchange
from ..cost.prices import PriceBook
from ..cost.repricing import book_of, read_repricing
from ..session import Session
from .cost_currency import conversion_of
from .output import cell_text, print_json, print_table, stderr_line

__all__ = ["print_repricing"]


def print_repricing(
    opened: Session,
    files: tuple[Path, Path],
    *,
    by: str,
    period: tuple[str | None, str | None],
    exchange: Exchange | None,
    as_json: bool,
) -> None:
    """Old, new and difference by group, with totals."""
    books = (_read(files[0]), _read(files[1]))
    found = read_repricing(
        opened, books, by=by, start=period[0], end=period[1], conversion=conversion_of(exchange, None)
    )
    for file, hours in zip(files, found.unpriced_hours.values(), strict=True):
        if hours:
            stderr_line(f"{file} has no price for {hours:.4f} node-hours: they are left out on its side")
    if as_json:
        print_json(found.rows)
        return
    cells = (
        [
            cell_text(row[by]) if row[by] is not None else f"({row['kind']})",
            row["old"],
            row["new"],
            row["difference"],
            row["currency"],
        ]
        for row in found.rows
    )
    print_table((by, "old", "new", "difference", "currency"), cells, right=("old", "new", "difference"))
    for total in found.totals:
        typer.echo(
            f"total {total['old']} {total['currency']} by {files[0].name}, {total['new']} by {files[1].name}: "
            f"difference {total['difference']} {total['currency']}"
        )


def _read(file: Path) -> PriceBook:
    try:
        return book_of(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}") from error
