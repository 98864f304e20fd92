"""`admin`: for those who run the tables."""

from typing import Annotated, Any

import typer

from trainledger_schemas.errors import UsageError

from .aliases import app as alias_app
from .budgets import app as budget_app
from .data import app as data_app
from .garbage import gc
from .imports import app as import_app
from .opening import read_settings, session
from .options import Json
from .output import cell_text, print_json, print_table
from .owners import app as owner_app
from .periods import app as period_app
from .progress import progress_bar
from .run_moves import app as run_app

__all__ = ["register"]

app = typer.Typer(
    no_args_is_help=True,
    help="For those who run the tables: migrate, rebuild, verify, garbage, dead letters.",
)
dead_app = typer.Typer(no_args_is_help=True, help="Records that could not be understood.")
app.add_typer(dead_app, name="dead")
app.add_typer(alias_app, name="alias")
app.add_typer(data_app, name="data")
app.add_typer(owner_app, name="owner")
app.command()(gc)
app.add_typer(budget_app, name="budget")
app.add_typer(import_app, name="import")
app.add_typer(period_app, name="period")
app.add_typer(run_app, name="run")


def register(program: typer.Typer) -> None:
    """Add `admin` to the program."""
    program.add_typer(app, name="admin")


@app.command()
def migrate(as_json: Json = False) -> None:
    """Create or upgrade tables and views."""
    with session() as opened:
        rows = opened.query(
            f"SELECT generation, name, applied_at FROM {opened.views}.schema_migrations ORDER BY applied_at"
        ).to_pylist()
    _print(rows, as_json=as_json)


@app.command()
def rebuild(as_json: Json = False) -> None:
    """Replay the log into new tables, compare, and switch to them."""
    with session() as opened, progress_bar("replaying the log") as progress:
        rows = opened.rebuild(progress)
    _print(rows, as_json=as_json)


@app.command()
def verify(as_json: Json = False) -> None:
    """Compare the log with the tables; exit status 1 if they disagree."""
    with session() as opened:
        rows = opened.verify()
    _print(rows, as_json=as_json)
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)


@dead_app.command("ls")
def dead_ls(as_json: Json = False) -> None:
    """List dead letters, newest first."""
    with session() as opened:
        rows = opened.query(
            f"SELECT topic, partition, offset, at, reason, message "
            f"FROM {opened.views}.dead_letters ORDER BY at DESC LIMIT 1000"
        ).to_pylist()
    _print(rows, as_json=as_json)


@dead_app.command("skip")
def dead_skip(
    topic: str, partition: int, offset: int, reason: Annotated[str, typer.Option(help="Why.")] = ""
) -> None:
    """Skip the poison record that stops a partition; the decision is kept as an event."""
    if not reason:
        raise UsageError("say why the record may be skipped: --reason TEXT")
    with session() as opened:
        fields = {"topic": topic, "partition": partition, "offset": offset, "reason": reason}
        opened.append_admin("dead_skipped", fields)
    typer.echo(f"{topic} {partition} {offset} is skipped")


@app.command()
def topics(as_json: Json = False) -> None:
    """Create the topics in Kafka, or check that they are as they must be."""
    # Loaded here, as in session_choice.
    from ..embedded import make_topics

    settings = read_settings()
    if settings.kafka is None:
        raise UsageError("set TRAINLEDGER_KAFKA to the bootstrap servers")
    _print(make_topics(settings.kafka), as_json=as_json)


def _print(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    elif rows:
        print_table(tuple(rows[0]), ([_cell(value) for value in row.values()] for row in rows))


def _cell(value: Any) -> str:
    # Messages stand whole here: nobody else shows them.
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return value if isinstance(value, str) else cell_text(value)
