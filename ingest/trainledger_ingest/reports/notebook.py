"""The cells that ran, as a section of `show`."""

from ..session import Session
from .section import Section, shortened
from .times import duration_text

__all__ = ["notebook_cells"]

ROWS_SHOWN_MAX = 60
_SOURCE_CHARACTERS = 60


def notebook_cells(session: Session, run_id: str) -> Section:
    """A row for each cell in the order in which they ran: its first line, and how it ended."""
    rows = session.query(
        "SELECT execution_count, phase, source, is_whole, status, error, duration_s "
        f"FROM {session.views}.notebook_cells WHERE run_id = {{id:UUID}} "
        f"ORDER BY attempt, rank, ordinal LIMIT {ROWS_SHOWN_MAX + 1}",
        {"id": run_id},
    ).to_pylist()
    cells = tuple(
        (
            f"[{row['execution_count'] if row['execution_count'] is not None else ' '}]",
            _first_line(row["source"]) + ("" if row["is_whole"] else " (not whole)"),
            row["phase"],
            f"{row['status']}: {row['error']}" if row["error"] else row["status"],
            "-" if row["duration_s"] is None else duration_text(row["duration_s"]),
        )
        for row in rows[:ROWS_SHOWN_MAX]
    )
    if len(rows) > ROWS_SHOWN_MAX:
        cells = (*cells, ("...", "more in view notebook_cells", "", "", ""))
    return Section("cells, in the order in which they ran", ("", "cell", "when", "state", "took"), cells)


def _first_line(source: str) -> str:
    lines = [line for line in source.splitlines() if line.strip()]
    more = f" (+{len(lines) - 1} lines)" if len(lines) > 1 else ""
    return shortened(lines[0], _SOURCE_CHARACTERS) + more if lines else "-"
