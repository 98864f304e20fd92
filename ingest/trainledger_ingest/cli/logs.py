"""`logs`: what a run wrote, as it comes too, and lines of all runs that match."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer

from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import UsageError

from ..reports.listing import parse_since, short_id
from ..reports.log_follow import Looks, follow_log
from ..reports.log_match import LogPattern
from ..reports.log_search import LogSearch, search_logs
from ..reports.logs import LogReader
from ..reports.rank_output import why_no_output_of_rank
from ..run_lookup import find_run
from ..session import Session
from ..session_choice import is_cheap_to_open
from .opening import glance, read_settings, session, utc_now
from .options import Json
from .output import print_json, stderr_line

__all__ = ["register"]

FOLLOW_S = 1.0
# Without `up` every look opens the tables, half a second of CPU.
FOLLOW_ALONE_S = 3.0
CONTEXT_LINES_MAX = 100


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "logs", help="Print what a run wrote to stdout and stderr, or search the output of all runs."
    )(logs)


def logs(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Id, the unique beginning of one, or name.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on as lines come, until the run ends.")
    ] = False,
    grep: Annotated[
        str | None, typer.Option(help="Only lines that contain this text; without RUN, of all runs.")
    ] = None,
    is_regex: Annotated[
        bool, typer.Option("-E", "--regexp", help="The text is a regular expression (RE2).")
    ] = False,
    ignore_case: Annotated[bool, typer.Option("-i", "--ignore-case", help="Letters of any case.")] = False,
    context: Annotated[
        int,
        typer.Option("-C", "--context", min=0, max=CONTEXT_LINES_MAX, help="Lines around each that matches."),
    ] = 0,
    rank: Annotated[int | None, typer.Option(min=0, help="Only the output of this rank.")] = None,
    project: Annotated[str | None, typer.Option(help="Search the runs of this project.")] = None,
    since: Annotated[str | None, typer.Option(help="Search lines since: 2026-11-01 or 7d.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Search for at most this many.")] = 1000,
    as_json: Json = False,
) -> None:
    """Print the output of a run, or search that of all runs."""
    pattern = None if grep is None else LogPattern(grep, is_regex, ignore_case)
    if pattern is None and (is_regex or ignore_case or context):
        raise UsageError("-E, -i and -C are for --grep TEXT")
    if follow and as_json:
        raise UsageError("--follow prints lines without an end, --json one array: choose one")
    if run is not None and (project is not None or since is not None):
        raise UsageError("--project and --since are for a search over all runs: leave RUN out")
    if rank is not None and (run is None or context):
        raise UsageError("--rank is for the output of one run, without -C")
    if run is None or context:
        if pattern is None or follow:
            raise UsageError(
                "following with context lines is not possible: leave out -f or -C"
                if run is not None
                else "which run? give its id or name, or --grep TEXT alone to search all runs"
            )
        since_at = parse_since(since, now=utc_now())
        with session() as opened:
            run_id = None if run is None else find_run(opened, run, say=stderr_line)
            search = LogSearch(pattern, run_id, project, since_at, limit, context)
            rows, more = search_logs(opened, search)
        _print_found(rows, more, search, as_json=as_json)
        return
    _print_log(run, pattern, rank, follow=follow, as_json=as_json)


def _print_log(
    run: str, pattern: LogPattern | None, rank: int | None, *, follow: bool, as_json: bool
) -> None:
    with session() as opened:
        reader = LogReader(find_run(opened, run, say=stderr_line), pattern, rank=rank)
        if as_json:
            rows = list(reader.read(opened))
            print_json(rows)
            if not rows and rank is not None:
                stderr_line(why_no_output_of_rank(opened, reader.run_id, rank, is_search=pattern is not None))
            return
        line = _line_form(_ranks(opened, reader.run_id))
        is_empty = True
        for row in reader.read(opened):
            typer.echo(line(row))
            is_empty = False
        if is_empty and rank is not None:
            stderr_line(why_no_output_of_rank(opened, reader.run_id, rank, is_search=pattern is not None))
    if is_empty and rank is None and not follow:
        stderr_line(
            "no line contains that text"
            if pattern is not None
            else "no output is kept of this run; that of `trainledger run -- CMD` is"
        )
    if follow:
        settings = read_settings()
        follow_log(
            Looks(complete=session, glance=glance),
            reader,
            write=lambda row: typer.echo(line(row)),
            clock=SystemClock(),
            say=stderr_line,
            pause_s=lambda: FOLLOW_S if is_cheap_to_open(settings) else FOLLOW_ALONE_S,
        )


def _ranks(opened: Session, run_id: str) -> int:
    rows = opened.query(
        f"SELECT ranks FROM {opened.views}.runs WHERE run_id = {{id:UUID}}", {"id": run_id}
    ).to_pylist()
    return int(rows[0]["ranks"]) if rows else 1


def _line_form(ranks: int) -> Callable[[Mapping[str, Any]], str]:
    """A line as it was, behind the rank that wrote it where there are several."""
    if ranks <= 1:
        return lambda row: str(row["text"])
    width = len(str(ranks - 1))
    return lambda row: f"[rank {'-' if row['rank'] is None else row['rank']:>{width}}] {row['text']}"


def _print_found(rows: list[dict[str, Any]], more: bool, search: LogSearch, *, as_json: bool) -> None:
    if more:
        stderr_line(f"only the newest {search.limit} matches; --limit shows more")
    if as_json:
        print_json({name: value for name, value in row.items() if name != "writer_id"} for row in rows)
        return
    if not rows:
        stderr_line("no line matches")
        return
    for line in _found_lines(rows, has_heads=search.run_id is None):
        typer.echo(line)


def _found_lines(rows: Iterable[Mapping[str, Any]], *, has_heads: bool) -> Iterable[str]:
    run_id: str | None = None
    before: tuple[str, str, int] | None = None
    for row in rows:
        if row["run_id"] != run_id:
            if has_heads:
                blank = "" if run_id is None else "\n"
                name = f" {row['name']}" if row["name"] else ""
                yield f"{blank}run {short_id(row['run_id'])}{name}, project {row['project']}"
            run_id, before = row["run_id"], None
        stream = (row["writer_id"], row["stream"])
        if before is not None and (before[:2] != stream or row["line_no"] != before[2] + 1):
            yield "--"
        before = (*stream, row["line_no"])
        rank = "" if row["rank"] is None else f"rank {row['rank']} "
        mark = ":" if row["is_match"] else "-"
        yield f"{rank}{row['stream']} {row['line_no']}{mark} {row['text']}"
