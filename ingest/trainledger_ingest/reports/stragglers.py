"""What ranks cost while they waited for the slowest rank of their run: rows of view `straggler_costs`, a row a run."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..cost.money import minor_text, nano_of
from ..session import Session

__all__ = ["COLUMNS", "read_stragglers"]

COLUMNS = (
    "run_id name team attempt straggler straggler_node evidence key ranks_waiting wait_pct cost cost_waited currency"
).split()


def read_stragglers(session: Session, *, start: str | None, end: str | None) -> list[dict[str, Any]]:
    """Runs that were there in [start, end) (UTC hours as text, None: open) and had a straggler, the dearest first.

    `wait_pct`: mean part of their time that the other ranks waited; `cost`: what these ranks paid in all, `cost_waited`
    the part of it for waiting. A row an attempt and currency; money is None without a price."""
    conditions, parameters = ["1"], dict[str, object]()
    if start is not None:
        conditions.append("r.last_seen_at >= toDateTime({start:String}, 'UTC')")
        parameters["start"] = start
    if end is not None:
        conditions.append("r.started_at < toDateTime({end:String}, 'UTC')")
        parameters["end"] = end
    rows = session.query(
        "SELECT toString(s.run_id) AS run_id, any(r.name) AS name, any(r.team) AS team, s.attempt AS attempt, "
        "s.straggler AS straggler, any(s.straggler_node) AS straggler_node, any(s.evidence) AS evidence, "
        "any(s.key) AS key, count() AS ranks_waiting, avg(s.wait_pct) AS wait_pct, sumOrNull(s.cost) AS paid, "
        f"sumOrNull(s.cost_waited) AS waited, s.currency AS currency FROM {session.views}.straggler_costs AS s "
        f"LEFT ANY JOIN {session.views}.runs AS r ON r.run_id = s.run_id WHERE {' AND '.join(conditions)} "
        "GROUP BY run_id, attempt, straggler, currency",
        parameters,
    ).to_pylist()
    return _shown(rows)


def _shown(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    ordered = sorted(
        rows, key=lambda row: (-(row["waited"] or 0), row["run_id"], row["attempt"], row["currency"] or "")
    )
    return [
        {
            **{name: row.get(name) for name in COLUMNS},
            "cost": _money(row["paid"], row["currency"]),
            "cost_waited": _money(row["waited"], row["currency"]),
        }
        for row in ordered
    ]


def _money(amount: Any, currency: str | None) -> str | None:
    return None if amount is None or currency is None else minor_text(nano_of(amount), currency)
