"""`admin run`: taking apart what is not one run, and putting together what is."""

from typing import Annotated, Any

import typer

from trainledger_schemas.errors import UsageError
from trainledger_schemas.ids import id_text, random_id

from ..run_lookup import find_run
from ..run_moves import chosen_writers, decisions_on, find_decision, writers_of
from .opening import session
from .options import Json
from .output import cell_text, print_json, print_table, stderr_line

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Take apart what is not one run, put together what is.")

Note = Annotated[str | None, typer.Option(help="Why.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id, the unique beginning of one, or name.")]


@app.command("split")
def split(
    run: RunArgument,
    writer: Annotated[
        list[str] | None, typer.Option(help="A process, by writer_id of view run_writers; again for more.")
    ] = None,
    rank: Annotated[
        list[int] | None, typer.Option(help="Its processes of this rank; again for more.")
    ] = None,
    node: Annotated[list[str] | None, typer.Option(help="Only those on this node; again for more.")] = None,
    attempt: Annotated[
        list[int] | None, typer.Option(help="Only those of this attempt; again for more.")
    ] = None,
    note: Note = None,
    as_json: Json = False,
) -> None:
    """Make a new run of some processes of a run, with all that they wrote, used and cost."""
    with session() as opened:
        run_id = find_run(opened, run, say=stderr_line)
        chosen = chosen_writers(
            writers_of(opened, run_id),
            writers=writer or (),
            ranks=rank or (),
            nodes=node or (),
            attempts=attempt or (),
        )
        fields = _fields(run_id, id_text(random_id()), chosen, note)
        opened.append_admin("writers_moved", fields)
    _say(
        fields, f"{len(chosen)} processes of run {run_id} are run {fields['to_run_id']} now", as_json=as_json
    )


@app.command("merge")
def merge(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run that stays.")],
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The run that becomes a part of it.")],
    note: Note = None,
    as_json: Json = False,
) -> None:
    """Count all processes of one run to another, also those that are heard of later."""
    with session() as opened:
        stays, goes = (find_run(opened, name, say=stderr_line) for name in (run, other))
        if stays == goes:
            raise UsageError(f"both names mean run {stays}; name two runs")
        fields = _fields(goes, stays, [], note)
        opened.append_admin("writers_moved", fields)
    _say(fields, f"run {goes} is a part of run {stays} now", as_json=as_json)


@app.command("undo")
def undo(
    change: Annotated[str, typer.Argument(metavar="CHANGE", help="Id of a decision, or its beginning.")],
    note: Note = None,
    as_json: Json = False,
) -> None:
    """Take a decision back: the processes are of the run that they were of; that it was taken stays known."""
    with session() as opened:
        held = find_decision(opened, change)
        fields = _fields(held["from_run_id"], held["to_run_id"], held["writer_ids"], note)
        fields["undoes"] = held["change_id"]
        opened.append_admin("writers_moved", fields)
    _say(fields, f"decision {held['change_id']} does not count any more", as_json=as_json)


@app.command("ls")
def list_decisions(as_json: Json = False) -> None:
    """List what was decided, the oldest first."""
    with session() as opened:
        rows = decisions_on(opened)
    if as_json:
        print_json(rows)
    elif rows:
        names = ("change", "from run", "to run", "processes", "at (UTC)", "by", "undone", "note")
        print_table(names, (_cells(row) for row in rows), optional=("note",))


def _fields(from_run: str, to_run: str, writers: list[str], note: str | None) -> dict[str, Any]:
    return {
        "change_id": id_text(random_id()),
        "from_run_id": from_run,
        "to_run_id": to_run,
        "writer_ids": writers,
        "undoes": None,
        "note": note,
    }


def _say(fields: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json([fields])
        return
    typer.echo(text)
    if not fields["undoes"]:
        typer.echo(f"to take it back: trainledger admin run undo {fields['change_id']}")


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["change_id"],
        row["from_run_id"],
        row["to_run_id"],
        str(len(row["writer_ids"]) or "all"),
        f"{row['at']:%Y-%m-%d %H:%M}",
        cell_text(row["set_by"]),
        "-" if row["undone_at"] is None else f"{row['undone_at']:%Y-%m-%d %H:%M} by {row['undone_by']}",
        cell_text(row["note"]),
    ]
