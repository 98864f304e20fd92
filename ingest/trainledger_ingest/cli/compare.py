"""`compare`: what differs between runs, and the patch between their codes."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from trainledger_schemas.errors import TrainledgerError, UsageError

from ..reports.code_difference import CodeDifference, compare_code
from ..reports.comparison import compare_runs, sort_rows
from ..reports.listing import short_id
from ..reproduce.blob_places import known_blobs
from ..reproduce.restore import read_snapshot
from ..run_lookup import find_run
from .opening import environment, read_settings, session
from .options import Json
from .output import cell_text, print_json, print_table, stderr_line

__all__ = ["register"]

FILES_SHOWN_MAX = 50


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "compare",
        help="Show what differs between runs: parameters, code, data, environment, results, usage and cost.",
    )(compare)


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN ...", help="Two or more runs.")],
    all_rows: Annotated[bool, typer.Option("--all", help="Also what is the same.")] = False,
    code: Annotated[
        bool, typer.Option("--code", help="Print the patch between the codes of two runs, nothing else.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the differences of runs; numbers with the distance to the first run."""
    if len(runs) < 2:
        raise UsageError("compare needs at least two runs")
    if code and len(runs) != 2:
        raise UsageError("--code compares two runs")
    with session() as opened:
        ids = [find_run(opened, run, say=stderr_line) for run in runs]
        if len(set(ids)) < len(ids):
            raise UsageError("the same run is named twice; compare needs different runs")
        rows = [] if code else compare_runs(opened, ids, all_rows=all_rows)
        documents = {
            row["id"]: row["document"]
            for row in opened.query(
                f"SELECT toString(p.run_id) AS id, p.snapshot_sha256 AS document FROM {opened.views}.provenance AS p "
                "WHERE p.run_id IN {ids:Array(UUID)} ORDER BY p.attempt",
                {"ids": ids},
            ).to_pylist()
        }
    differences = {run_id: _code_difference(documents, ids[0], run_id) for run_id in ids[1:]}
    for run_id, difference in differences.items():
        for problem in difference.problems:
            stderr_line(f"code of {short_id(ids[0])} and {short_id(run_id)}: {problem}")
    if code:
        _print_patch(differences[ids[1]], as_json=as_json)
        return
    rows = sort_rows([*rows, *_file_rows(ids, differences)])
    if as_json:
        print_json(rows)
    else:
        _print_rows(rows, ids)


def _code_difference(documents: Mapping[str, str | None], first: str, other: str) -> CodeDifference:
    one, another = documents.get(first), documents.get(other)
    if one is None or another is None:
        missing = [short_id(run_id) for run_id in (first, other) if documents.get(run_id) is None]
        return CodeDifference(problems=[f"no code is stored of {' and '.join(missing)}"])
    if one == another:
        return CodeDifference()
    blobs = known_blobs(read_settings())
    try:
        snapshots = [read_snapshot(blobs, document) for document in (one, another)]
    except TrainledgerError as error:
        return CodeDifference(problems=[f"not on this machine: {error}"])
    return compare_code(*snapshots, blobs=blobs, environment=environment())


def _file_rows(ids: Sequence[str], differences: Mapping[str, CodeDifference]) -> list[dict[str, Any]]:
    """A row a file that differs from that of the first run: how many lines came and went."""
    changes: dict[str, dict[str, str]] = {}
    for run_id, difference in differences.items():
        for change in difference.files:
            changes.setdefault(change.path, {})[run_id] = str(change)
    nothing = dict.fromkeys(ids)
    return [
        {"what": "file", "key": path, "values": nothing | told, "difference_pct": nothing}
        for path, told in changes.items()
    ]


def _print_patch(difference: CodeDifference, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {"path": change.path, "added": change.added, "removed": change.removed}
            for change in difference.files
        )
        return
    if not difference.files and not difference.problems:
        stderr_line("the codes are the same")
    # Bytes of a file that are no UTF-8 come out as they were.
    typer.echo(difference.patch.encode("utf-8", "surrogateescape"), nl=False)


def _print_rows(rows: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> None:
    if not rows:
        stderr_line("no differences in parameters, code, data, environment, results, usage or cost")
        return
    files = [row for row in rows if row["what"] == "file"]
    hidden = {id(row) for row in files[FILES_SHOWN_MAX:]}
    print_table(
        ("what", "key", *(short_id(run_id) for run_id in ids)),
        (
            [row["what"], cell_text(row["key"]), *(_cell(row, run_id) for run_id in ids)]
            for row in rows
            if id(row) not in hidden
        ),
    )
    if hidden:
        stderr_line(f"and {len(hidden)} more files; --json lists all")
    if files:
        stderr_line("the patch: trainledger compare --code " + " ".join(short_id(i) for i in ids[:2]))


def _cell(row: Mapping[str, Any], run_id: str) -> str:
    percent, value = row["difference_pct"][run_id], row["values"][run_id]
    is_size = row["what"] == "usage" and row["key"].endswith("_bytes") and value is not None
    text = f"{value / 2**20:.0f} MiB" if is_size else cell_text(value)
    return text if percent is None else f"{text} ({percent:+.3g} %)"
