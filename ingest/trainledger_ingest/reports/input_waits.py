"""Runs whose GPUs wait for input: rows of view `input_waits`, with what of it is evidence and what waiting cost."""

from typing import Any

from ..cost.money import minor_text, nano_of
from ..session import Session

__all__ = ["COLUMNS", "read_input_waits"]

COLUMNS = (
    "run_id name team node_id gpus is_starved evidence busy_pct observed_s low_s cpu_s read_s swing_s starved_s "
    "unseen_s low_cores low_read_bytes cost_waited currency"
).split()


def read_input_waits(
    session: Session, *, start: str | None, end: str | None, is_all: bool
) -> list[dict[str, Any]]:
    """Runs that were there in [start, end) (UTC hours as text, None: open) and are starved, with `is_all` the others
    too; the dearest waiting first. Money is text in minor units, None without a price."""
    conditions, parameters = ["1" if is_all else "i.is_starved"], dict[str, object]()
    if start is not None:
        conditions.append("r.last_seen_at >= toDateTime({start:String}, 'UTC')")
        parameters["start"] = start
    if end is not None:
        conditions.append("r.started_at < toDateTime({end:String}, 'UTC')")
        parameters["end"] = end
    rows = session.query(
        f"SELECT i.* EXCEPT (run_id), toString(i.run_id) AS run_id, r.name AS name, r.team AS team "
        f"FROM {session.views}.input_waits AS i LEFT ANY JOIN {session.views}.runs AS r ON r.run_id = i.run_id "
        f"WHERE {' AND '.join(conditions)}",
        parameters,
    ).to_pylist()
    rows.sort(key=lambda row: (-(row["cost_waited"] or 0), -row["starved_s"], row["run_id"], row["node_id"]))
    return [
        {
            **{name: row[name] for name in COLUMNS},
            "cost_waited": None
            if row["cost_waited"] is None
            else minor_text(nano_of(row["cost_waited"]), row["currency"]),
        }
        for row in rows
    ]
