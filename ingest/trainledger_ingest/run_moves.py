"""Choosing the processes that are split off a run, and what was decided about a run so far."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from trainledger_schemas.errors import NotFoundError, UsageError

from .session import Session

__all__ = ["chosen_writers", "decisions_on", "find_decision", "merged_into", "writers_of"]


def writers_of(session: Session, run_id: str) -> list[dict[str, Any]]:
    """The processes of a run, as `chosen_writers` wants them."""
    rows: list[dict[str, Any]] = session.query(
        "SELECT toString(writer_id) AS writer_id, toString(parent_writer) AS parent_writer, role, rank, node_id, pid, "
        f"attempt, decides FROM {session.views}.run_writers WHERE run_id = {{id:UUID}} ORDER BY attempt, rank, pid",
        {"id": run_id},
    ).to_pylist()
    return rows


def chosen_writers(
    rows: Sequence[Mapping[str, Any]],
    *,
    writers: Collection[str] = (),
    ranks: Collection[int] = (),
    nodes: Collection[str] = (),
    attempts: Collection[int] = (),
) -> list[str]:
    """The processes that go, each with its children and with the wrapper that is theirs alone.

    `writers`: ids or their beginnings; the others narrow each other down. Raises UsageError where one means nothing
    or several, where none is left to go, and where none would be left behind.
    """
    chosen = {_by_id(rows, part) for part in writers}
    if ranks or nodes or attempts:
        chosen |= {
            row["writer_id"]
            for row in rows
            if row["decides"]
            and (not ranks or row["rank"] in ranks)
            and (not nodes or row["node_id"] in nodes)
            and (not attempts or row["attempt"] in attempts)
        }
    if not chosen:
        raise UsageError(
            "no process of the run is like that: `trainledger show RUN` lists its ranks, nodes and attempts, "
            "`trainledger sql` the ids in view run_writers"
        )
    # A wrapper whose trainings all go is of them; one around a whole launch stays with the others.
    for row in rows:
        made = {child["writer_id"] for child in rows if child["parent_writer"] == row["writer_id"]}
        trainings = {child["writer_id"] for child in rows if child["decides"]} & made
        if row["role"] == "wrapper" and trainings and trainings <= chosen:
            chosen.add(row["writer_id"])
    goes = _with_children(rows, chosen)
    if not any(row["decides"] for row in rows if row["writer_id"] not in goes):
        raise UsageError("these are all processes of the run: nothing would be left of it")
    return sorted(chosen)


def _by_id(rows: Iterable[Mapping[str, Any]], part: str) -> str:
    found = [row["writer_id"] for row in rows if row["writer_id"].startswith(part.lower())]
    if not part or len(found) != 1:
        what = "no process" if not found else f"{len(found)} processes"
        raise UsageError(
            f'{what} of the run begin with {part!r}: `trainledger sql "SELECT writer_id, rank, node_id, pid FROM '
            'run_writers WHERE run_id = ..."` lists them'
        )
    return str(found[0])


def _with_children(rows: Iterable[Mapping[str, Any]], chosen: Collection[str]) -> set[str]:
    found = set(chosen)
    while fresh := {row["writer_id"] for row in rows if row["parent_writer"] in found} - found:
        found |= fresh
    return found


def decisions_on(session: Session, run_id: str | None = None) -> list[dict[str, Any]]:
    """Rows of view writer_moves, of one run or all, the oldest first; ids as text."""
    where = "WHERE m.from_run_id = {id:UUID} OR m.to_run_id = {id:UUID}" if run_id else ""
    rows: list[dict[str, Any]] = session.query(
        "SELECT toString(m.change_id) AS change_id, toString(m.from_run_id) AS from_run_id, "
        "toString(m.to_run_id) AS to_run_id, arrayMap(id -> toString(id), m.writer_ids) AS writer_ids, at, set_by, "
        f"note, undone_at, undone_by FROM {session.views}.writer_moves AS m {where} ORDER BY at, change_id",
        {"id": run_id} if run_id else {},
    ).to_pylist()
    return rows


def find_decision(session: Session, part: str) -> dict[str, Any]:
    """The decision that still holds and whose id begins so; raises NotFoundError or UsageError."""
    held = [
        row
        for row in decisions_on(session)
        if row["undone_at"] is None and row["change_id"].startswith(part.lower())
    ]
    if not held:
        raise NotFoundError(
            f"no decision that holds begins with {part!r}: `trainledger admin run ls` lists them"
        )
    if len(held) > 1:
        raise UsageError(f"{len(held)} decisions begin with {part!r}; give more of the id")
    return held[0]


def merged_into(session: Session, part: str) -> tuple[str, str] | None:
    """A run that is there no more, by the beginning of its id, and the run that has its processes now."""
    merges = {
        row["from_run_id"]: row["to_run_id"]
        for row in decisions_on(session)
        if row["undone_at"] is None and not row["writer_ids"]
    }
    found = [run_id for run_id in merges if run_id.startswith(part.lower())]
    if len(found) != 1:
        return None
    seen, home = {found[0]}, merges[found[0]]
    while home in merges and home not in seen:
        seen.add(home)
        home = merges[home]
    return found[0], home
