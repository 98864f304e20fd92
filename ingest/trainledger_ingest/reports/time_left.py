"""How long a run will go on, in words for a person: the estimate of view run_progress and what it rests on."""

from typing import Any

from ..session import Session

__all__ = ["about_text", "time_left"]

_NO_TOTAL = 'unknown: no parameter tells the number of steps; run.config["total_steps"] = N does'


def time_left(session: Session, run_id: str) -> str:
    """For a run that is running."""
    rows = session.query(
        "SELECT step, steps_per_s, total_steps, total_from, eta_s "
        f"FROM {session.views}.run_progress WHERE run_id = {{id:UUID}}",
        {"id": run_id},
    ).to_pylist()
    if not rows:
        return "unknown: no step has been logged yet"
    (row,) = rows
    return f"{_estimate(row)} ({_place(row)})"


def about_text(seconds: float) -> str:
    """A duration as exact as an estimate deserves: 40 s, 12 min, 3.5 h, 2.1 d."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86_400 else f"{seconds / 86_400:.1f} d"


def _estimate(row: dict[str, Any]) -> str:
    if row["eta_s"] is not None:
        return f"about {about_text(row['eta_s'])}"
    if row["total_steps"] is None:
        return _NO_TOTAL
    if row["total_steps"] < row["step"]:
        return f"unknown: it is beyond the {row['total_steps']:.0f} steps of {row['total_from']}"
    return "not known yet" if row["steps_per_s"] is None else "unknown: no step came for long"


def _place(row: dict[str, Any]) -> str:
    place = f"step {row['step']:,}"
    if row["total_steps"] is not None:
        place += f" of {row['total_steps']:,.0f} by {row['total_from']}"
    rate = row["steps_per_s"]
    if rate is None:
        return place
    return f"{place}, {rate:.3g} steps/s" if rate >= 1 else f"{place}, {1 / rate:.3g} s a step"
