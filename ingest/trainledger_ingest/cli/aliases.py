"""`admin alias`: names such as production for versions of models."""

from typing import Annotated

import typer

from trainledger_schemas.errors import UsageError
from trainledger_schemas.version_names import is_alias

from ..artifact_lookup import find_version
from .opening import session
from .options import Json
from .output import cell_text, print_json, print_table, table_rows

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Names, such as production, for versions of models.")

_NAME_CHARACTERS_MAX = 200


@app.command("set")
def set_alias(
    version: Annotated[str, typer.Argument(metavar="MODEL:VERSION", help="E.g. resnet:v3 or resnet:latest.")],
    alias: Annotated[str, typer.Argument(help="E.g. production.")],
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
) -> None:
    """Let an alias mean a version from now on; who did it is kept as an event."""
    if not is_alias(alias) or len(alias) > _NAME_CHARACTERS_MAX:
        raise UsageError(
            f"{alias!r} is no alias: give a name without : and /, and neither a version such as v3 nor latest, which "
            "is the newest version"
        )
    with session() as opened:
        found = find_version(opened, version)
        fields = {
            "model": found.name,
            "alias": alias,
            "digest": found.digest,
            "run_id": found.run_id,
            "note": note,
        }
        opened.append_admin("alias_set", fields)
    typer.echo(f"{found.name}:{alias} is {found.version or found.digest}, written by run {found.run_id}")


@app.command("rm")
def remove_alias(
    reference: Annotated[str, typer.Argument(metavar="MODEL:ALIAS")],
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
) -> None:
    """Take an alias away; what it meant, and when, stays known."""
    model, _, alias = reference.partition(":")
    with session() as opened:
        known = opened.query(
            f"SELECT 1 FROM {opened.views}.model_aliases WHERE model = {{m:String}} AND alias = {{a:String}} "
            "AND is_current",
            {"m": model, "a": alias},
        ).num_rows
        if not known:
            raise UsageError(f"there is no alias {reference!r} now; `trainledger admin alias ls` lists them")
        fields = {"model": model, "alias": alias, "digest": None, "run_id": None, "note": note}
        opened.append_admin("alias_set", fields)
    typer.echo(f"{reference} means nothing any more")


@app.command("ls")
def list_aliases(as_json: Json = False) -> None:
    """List aliases as they are now."""
    with session() as opened:
        table = opened.query(
            f"SELECT model, alias, version, digest, run_id, set_at, set_by FROM {opened.views}.model_aliases "
            "WHERE is_current ORDER BY model, alias"
        )
    rows = table_rows(table)
    if as_json:
        print_json(rows)
    elif rows:
        print_table(tuple(rows[0]), ([cell_text(value) for value in row.values()] for row in rows))
