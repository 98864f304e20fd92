"""`admin owner`: which teams pay for what a user, an account of SLURM or a namespace of pods runs, from an hour on."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from trainledger_schemas.errors import UsageError

from ..cost.node_events import hour_of
from ..cost.prices import whole_hour
from ..reports.near_names import unknown_name
from ..reports.times import parse_time
from ..session import Session
from .opening import session, utc_now
from .options import Json
from .output import cell_text, print_json, print_table, stderr_line, table_rows

__all__ = ["app"]

NAME_CHARACTERS_MAX = 200
_SUBJECTS = ("user", "account", "namespace")
app = typer.Typer(no_args_is_help=True, help="Which teams pay for what a user, account or namespace runs.")

From = Annotated[str | None, typer.Option("--from", help="Whole UTC hour; default the current one.")]


@app.command("set")
def set_owner(
    name: Annotated[
        str, typer.Argument(help="User, as `cost --by user` names it; account:NAME or namespace:NAME.")
    ],
    team: Annotated[
        list[str], typer.Option(help="A team; give it again for more: runs may declare any of them.")
    ],
    start: From = None,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
) -> None:
    """From an hour on, the first team pays for a user, an account or a namespace; a run that declares another of them
    is paid by that one."""
    hour_us = _append(name, team, start, note)
    others = f" (runs may declare {', '.join(map(cell_text, team[1:]))})" if team[1:] else ""
    typer.echo(f"{cell_text(name)}: {cell_text(team[0])} pays{others} from {_hour_text(hour_us)} UTC")


@app.command("rm")
def remove_owner(
    name: Annotated[str, typer.Argument(help="User, account:NAME or namespace:NAME.")],
    start: From = None,
    note: Annotated[str | None, typer.Option(help="Why.")] = None,
) -> None:
    """From an hour on a user belongs to no team: the declared teams of its runs pay. An account or namespace is its own
    team again."""
    hour_us = _append(name, [], start, note, must_be_set=True)
    subject, plain = _parse(name)
    team = "no team" if subject == "user" else f"team {cell_text(plain)}"
    typer.echo(f"{cell_text(name)}: {team} from {_hour_text(hour_us)} UTC")


@app.command("ls")
def list_owners(as_json: Json = False) -> None:
    """List who belongs to which teams from when on."""
    with session() as opened:
        rows = table_rows(
            opened.query(
                "SELECT subject, name, teams, from_hour, set_at, set_by, note "
                f"FROM {opened.views}.owners ORDER BY subject = 'user' DESC, subject, name, from_hour, set_at"
            )
        )
    if as_json:
        print_json(rows)
    elif rows:
        cells = (
            [
                cell_text(row["name"] if row["subject"] == "user" else f"{row['subject']}:{row['name']}"),
                ", ".join(map(cell_text, row["teams"])) or "(none)",
                f"{row['from_hour']:%Y-%m-%d %H:%M}",
                cell_text(row["set_by"]),
                f"{row['set_at']:%Y-%m-%d %H:%M}",
            ]
            for row in rows
        )
        print_table(("who", "teams", "from (UTC)", "set by", "set at (UTC)"), cells)


def _append(
    name: str, teams: list[str], start: str | None, note: str | None, *, must_be_set: bool = False
) -> int:
    subject, plain = _parse(name)
    for text in (plain, *teams):
        if not text.strip() or len(text) > NAME_CHARACTERS_MAX:
            raise UsageError(f"{text!r} is no name: 1 to {NAME_CHARACTERS_MAX} characters")
    if len(set(teams)) != len(teams):
        raise UsageError("a team is named twice")
    now = utc_now()
    moment = parse_time(start, now=now) if start is not None else None
    hour_us = whole_hour(_micros(moment), start or "") if moment else hour_of(_micros(now))
    fields = {"subject": subject, "name": plain, "teams": teams, "from_hour_us": hour_us, "note": note}
    with session() as opened:
        if must_be_set and opened.has_tables_open():
            where = "subject = {subject:String} AND name = {name:String}"
            known = f"SELECT 1 FROM {opened.views}.owners WHERE {where} LIMIT 1"
            if not opened.query(known, {"subject": subject, "name": plain}).num_rows:
                raise UsageError(
                    f"no team was ever set for {name!r}; `trainledger admin owner ls` lists who has one"
                )
        opened.append_admin("owner_set", fields)
        # A user who has not run anything yet may be meant: said, not refused. So are new teams.
        hint = unknown_name(opened, subject, name)
        if hint and not must_be_set:
            stderr_line(hint)
        _say_later(opened, name, hour_us)
    return hour_us


def _say_later(opened: Session, name: str, hour_us: int) -> None:
    """A line if something else was set for the same name from a later hour on: it counts from then."""
    if not opened.has_tables_open():
        return
    subject, plain = _parse(name)
    rows = opened.query(
        f"SELECT from_hour, teams FROM {opened.views}.owners WHERE subject = {{subject:String}} AND name = "
        "{name:String} AND from_hour > toDateTime({hour:UInt32}, 'UTC') ORDER BY from_hour, set_at DESC LIMIT 1",
        {"subject": subject, "name": plain, "hour": hour_us // 1_000_000},
    ).to_pylist()
    for row in rows:
        what = f"{cell_text(row['teams'][0])} pays" if row["teams"] else "its end was set"
        stderr_line(
            f"{cell_text(name)}: from {row['from_hour']:%Y-%m-%d %H:%M} UTC {what}, as was set before, and that counts "
            "from then on; set that hour anew if it is not meant"
        )


def _parse(name: str) -> tuple[str, str]:
    """What kind of thing is named, and its name. Names of users have no colon."""
    subject, colon, plain = name.partition(":")
    if not colon:
        return "user", name
    if subject not in _SUBJECTS:
        raise UsageError(f"{name!r} is neither a user nor account:NAME or namespace:NAME")
    return subject, plain


def _micros(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


def _hour_text(hour_us: int) -> str:
    return f"{datetime.fromtimestamp(hour_us / 1e6, UTC):%Y-%m-%d %H:%M}"
