"""What a run that ended badly wrote last: where people look first."""

from ..session import Session
from .section import Section

__all__ = ["last_lines"]

LINES_SHOWN = 12
LINE_CHARACTERS_MAX = 200
_BAD = frozenset({"failed", "killed", "crashed", "lost"})


def last_lines(session: Session, run_id: str, *, state: str) -> Section:
    """The last lines of the output of all ranks, by time; no rows for a run that ended well or goes on.

    Of what was read at the same moment stderr is the last: there stands what ended the run.
    """
    title, names = "last lines", ("time (UTC)", "rank", "stream", "line")
    if state not in _BAD:
        return Section(title, names, ())
    rows = session.query(
        f"SELECT l.at AS at, rank, l.stream AS stream, l.text AS text FROM {session.views}.logs AS l "
        f"WHERE l.run_id = {{id:UUID}} ORDER BY l.at DESC, l.stream, l.line_no DESC LIMIT {LINES_SHOWN}",
        {"id": run_id},
    ).to_pylist()
    cells = tuple(
        (
            f"{row['at']:%H:%M:%S}",
            "-" if row["rank"] is None else str(row["rank"]),
            row["stream"],
            row["text"][:LINE_CHARACTERS_MAX],
        )
        for row in reversed(rows)
    )
    return Section(title, names, cells, optional=("rank", "stream"))
