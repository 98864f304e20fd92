"""`admin import`: who had which node, by the records of a scheduler."""

import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from trainledger_schemas.errors import RetryableError, UsageError

from ..reports.times import parse_time
from ..scheduler_records import JobRecord, NodeSize
from ..scheduler_records.bringing_in import BroughtIn, bring_in
from ..scheduler_records.opencost import allocation_url, parse_opencost
from ..scheduler_records.sacct import parse_sacct, parse_sinfo, sacct_command
from .opening import environment, session, utc_now
from .options import Json
from .output import cell_text, print_json, stderr_line

__all__ = ["app"]

SACCT_S = 600
OPENCOST_S = 120
NAMED_MAX = 5
app = typer.Typer(no_args_is_help=True, help="Who had which node, by the records of a scheduler.")

From = Annotated[str | None, typer.Option("--from", help="Jobs since then; default 7d.")]
To = Annotated[str | None, typer.Option("--to", help="Jobs until then; default now.")]
Nodes = Annotated[
    Path | None, typer.Option(help='Sizes of nodes: the output of `sinfo -h -a -N -o "%N|%c|%G"`.')
]


@app.command("sacct")
def import_sacct(
    file: Annotated[
        str | None, typer.Argument(help="Output of sacct, `-` for standard input; default: runs sacct.")
    ] = None,
    start: From = None,
    end: To = None,
    nodes: Nodes = None,
    as_json: Json = False,
) -> None:
    """Bring in jobs of Slurm: what they had and nobody was seen to use is billed to their users and accounts."""
    if file is None:
        text, sizes = (
            _run_sacct(start, end),
            parse_sinfo(_ask_slurm(["sinfo", "-h", "-a", "-N", "-o", "%N|%c|%G"])),
        )
    else:
        if start is not None or end is not None:
            raise UsageError("--from and --to are for sacct itself; a file is brought in whole")
        text, sizes = _read(file), {}
    if nodes is not None:
        sizes |= parse_sinfo(_read(str(nodes)))
    found = parse_sacct(text)
    _bring_in(found.jobs, sizes, found.left_out, as_json=as_json)


@app.command("opencost")
def import_opencost(
    source: Annotated[
        str, typer.Argument(help="URL of OpenCost, as http://opencost:9003; a file with an answer; `-`.")
    ],
    start: Annotated[str | None, typer.Option("--from", help="Since then; default 1d.")] = None,
    end: To = None,
    as_json: Json = False,
) -> None:
    """Bring in what pods had by OpenCost: what nobody was seen to use of it is billed to their namespaces."""
    if source.startswith(("http://", "https://")):
        now = utc_now()
        first, last = parse_time(start or "1d", now=now), parse_time(end, now=now) if end else now
        text = _ask_opencost(allocation_url(source, start=first, end=last))
    elif start is not None or end is not None:
        raise UsageError("--from and --to are for a URL; a file is brought in whole")
    else:
        text = _read(source)
    found = parse_opencost(text)
    _bring_in(found.jobs, {}, found.left_out, as_json=as_json)


def _ask_opencost(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=OPENCOST_S) as answer:
            raw: bytes = answer.read()
            return raw.decode("utf-8")
    except urllib.error.HTTPError as error:
        error.close()
        raise RetryableError(f"OpenCost answered {error.code}; see that the URL is that of its API") from None
    except (OSError, ValueError) as error:
        raise RetryableError(f"OpenCost cannot be reached: {getattr(error, 'reason', error)}") from None


def _bring_in(
    jobs: list[JobRecord], sizes: Mapping[str, NodeSize], left_out: Mapping[str, int], *, as_json: bool
) -> None:
    with session() as opened:
        done = bring_in(jobs, query=opened.query, views=opened.views, append=opened.append_admin, sizes=sizes)
    if as_json:
        row = {"jobs": done.jobs, "nodes": len(done.nodes), "new": done.new, "changed": done.changed}
        print_json([row | {"known": done.known, "left_out": sum(left_out.values())}])
    else:
        typer.echo(
            f"{done.jobs} jobs on {len(done.nodes)} nodes: {done.new} new, {done.changed} changed, "
            f"{done.known} known already (pairs of a job and a node)"
        )
        for why, count in sorted(left_out.items()):
            typer.echo(f"left out: {count} {why}")
    _tell_nodes(done)


def _tell_nodes(done: BroughtIn) -> None:
    if done.unwatched:
        stderr_line(
            f"no agent ran on {_some(done.unwatched)}: such a node has a bill only if its price says that you own it "
            '(presence = "owned" in the file of `trainledger price load`)'
        )
    if done.unsized:
        stderr_line(
            f"nobody says how many cores {_some(done.unsized)} has, so no share of its host is known: "
            'give --nodes FILE with the output of: sinfo -h -a -N -o "%N|%c|%G"'
        )


def _some(names: set[str]) -> str:
    shown = ", ".join(cell_text(name) for name in sorted(names)[:NAMED_MAX])
    return shown + (f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else "")


def _read(name: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return raw.decode("utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"{name} cannot be read: {error}") from None


def _run_sacct(start: str | None, end: str | None) -> str:
    now = utc_now()
    first, last = parse_time(start or "7d", now=now), parse_time(end, now=now) if end else now
    available = _ask_slurm(["sacct", "--helpformat"]).split()
    form = "%Y-%m-%dT%H:%M:%S"
    return _ask_slurm(sacct_command(available, start=f"{first:{form}}", end=f"{last:{form}}"))


def _ask_slurm(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        raise UsageError(
            f"{command[0]} is not installed here; run it where Slurm is, and give its output as FILE"
        )
    # UTC: --from and --to mean what they say, and no hour comes twice.
    told = dict(environment()) | {"SLURM_TIME_FORMAT": "%s", "TZ": "UTC", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, env=told, capture_output=True, timeout=SACCT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise RetryableError(
            f"{command[0]} did not answer within {SACCT_S} s; ask for less with --from"
        ) from None
    if done.returncode != 0:
        why = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise RetryableError(f"{command[0]} failed: {why[-1] if why else f'exit status {done.returncode}'}")
    return done.stdout.decode("utf-8", "replace")
