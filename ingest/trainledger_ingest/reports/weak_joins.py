"""Ranks that are one run by a guess: what speaks against it, and the command that takes them apart.

A guess is made of an address, a shell or a short id, which two launches may share. Later evidence that they did: a
launch that had finished as a whole, or still lives, and has the rank again; sizes of the launch that differ; nodes that
ran other code; starts long after one another. Commands are not compared: only that of rank 0 is kept.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from ..session import Session
from .times import duration_text

__all__ = ["Doubt", "find_doubt", "join_facts"]

# Ranks of one launch start together; after this long a guessed one is worth a question.
APART_S_MIN = 600
WRITERS_MAX = 10_000
OPTIONS_MAX = 8
_ID_SHOWN = 8

Row = Mapping[str, Any]


class Doubt(NamedTuple):
    """Why processes are not of this launch, and the options of `admin run split` that name them."""

    reason: str
    options: str


def join_facts(session: Session, run_id: str) -> list[tuple[str, str]]:
    """What is to be said of a run that processes joined by a guess; nothing of any other."""
    rows = session.query(
        "SELECT toString(writer_id) AS writer_id, attempt, rank, node_id, state, world_size, started_at "
        f"FROM {session.views}.run_writers WHERE run_id = {{id:UUID}} AND joined = 'weak' AND decides "
        f"ORDER BY attempt, started_at LIMIT {WRITERS_MAX}",
        {"id": run_id},
    ).to_pylist()
    if len(rows) < 2:
        return []
    others = session.query(
        f"SELECT DISTINCT extract(arrayJoin(reasons), '^node (.*) ran other code: ') AS node "
        f"FROM {session.views}.provenance WHERE run_id = {{id:UUID}}",
        {"id": run_id},
    )["node"].to_pylist()
    doubt = find_doubt(rows, {str(node) for node in others if node})
    if doubt is None:
        return [
            (
                "joined by",
                "a guess: the ranks share only an address, a shell or a short id; set TRAINLEDGER_RUN_ID",
            )
        ]
    return [
        ("joined by", f"a guess, and {doubt.reason}: perhaps two launches"),
        ("to take them apart", f"trainledger admin run split {run_id[:_ID_SHOWN]} {doubt.options}"),
    ]


def find_doubt(rows: Sequence[Row], nodes_of_other_code: set[str]) -> Doubt | None:
    """The strongest evidence that processes joined by a guess (rows of run_writers) are two launches. Pure."""
    attempts = _parts(rows, lambda row: int(row["attempt"]))
    numbers = sorted(attempts)
    for before, after in zip(numbers, numbers[1:], strict=False):
        if reason := _launched_again(attempts[before], attempts[after]):
            return Doubt(reason, _options(attempts[after], rows))
    newest = attempts[numbers[-1]]
    sizes = _parts([row for row in newest if row["world_size"]], lambda row: row["world_size"])
    if len(sizes) > 1:
        # The launch that came later is the one that is taken out.
        (first, _), *_, (last, late) = sizes.items()
        return Doubt(f"their launches have {first} and {last} ranks", _options(late, rows))
    if other := [row for row in newest if row["node_id"] in nodes_of_other_code]:
        names = ", ".join(sorted({row["node_id"] for row in other})[:OPTIONS_MAX])
        if len(other) < len(newest):
            return Doubt(f"other code ran on {names}", _options(other, rows))
    return _apart([row for row in newest if row["started_at"] is not None], rows)


def _launched_again(before: Sequence[Row], after: Sequence[Row]) -> str | None:
    """Why the next attempt cannot be one of the same launch, if it cannot."""
    again = {row["rank"] for row in after}
    both = [row for row in before if row["rank"] in again and row["state"] == "running"]
    number = after[0]["attempt"]
    if both and any(row["state"] == "running" for row in after):
        return f"rank {both[0]['rank']} runs in attempt {before[0]['attempt']} and again in attempt {number}"
    if all(row["state"] == "finished" for row in before):
        return f"attempt {before[0]['attempt']} had finished when attempt {number} began"
    return None


def _apart(rows: Sequence[Row], all_rows: Sequence[Row]) -> Doubt | None:
    ordered = sorted(rows, key=lambda row: row["started_at"])
    gaps = [
        ((later["started_at"] - earlier["started_at"]).total_seconds(), place)
        for place, (earlier, later) in enumerate(zip(ordered, ordered[1:], strict=False), 1)
    ]
    if not gaps or (ordered[-1]["started_at"] - ordered[0]["started_at"]).total_seconds() < APART_S_MIN:
        return None
    _, place = max(gaps)
    apart_s = (ordered[place]["started_at"] - ordered[0]["started_at"]).total_seconds()
    return Doubt(f"they started {duration_text(apart_s)} apart", _options(ordered[place:], all_rows))


def _options(chosen: Sequence[Row], rows: Sequence[Row]) -> str:
    """Options that name these of all processes: an attempt, nodes of their own, ranks, else their ids."""
    rest = [row for row in rows if not any(row is one for one in chosen)]
    attempt = chosen[0]["attempt"]
    if all(row["attempt"] != attempt for row in rest):
        return f"--attempt {attempt}"
    within = f" --attempt {attempt}" if rest and any(row["attempt"] != attempt for row in rest) else ""
    nodes = sorted({str(row["node_id"]) for row in chosen})
    if (
        not {row["node_id"] for row in rest if row["attempt"] == attempt} & set(nodes)
        and len(nodes) <= OPTIONS_MAX
    ):
        return _listed("node", nodes) + within
    if any(row["rank"] is None for row in chosen):
        return _listed("writer", [str(row["writer_id"]) for row in chosen])
    return _listed("rank", sorted({int(row["rank"]) for row in chosen})) + within


def _listed(option: str, values: Sequence[object]) -> str:
    more = ["..."] if len(values) > OPTIONS_MAX else []
    return " ".join([*(f"--{option} {value}" for value in values[:OPTIONS_MAX]), *more])


def _parts(rows: Sequence[Row], key: Callable[[Row], Hashable]) -> dict[Any, list[Row]]:
    """Rows by a key, in their order."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found
