"""What one run has cost so far, as `run.cost()` of the SDK asks it: the same as column `cost` of view `runs`.

A training waits at most 200 ms for it, so only hours of nodes that the run was on are read, from its start on.
"""

from typing import Any

from ..storage.store import Store

__all__ = ["cost_so_far"]

_COST = """
SELECT countIf(cost IS NULL) AS unpriced, uniqExact(currency) AS currencies, sum(cost) AS total, any(currency) AS one
FROM (
  SELECT arrayJoin(arrayFilter((c, r) -> ifNull(r = {{id:UUID}}, false), costs, run_ids)) AS cost, currency
  FROM {generation}.priced_node_hours
  WHERE node_id IN (SELECT node_id FROM {generation}.writer_states WHERE run_id = {{id:UUID}})
    AND hour >= (SELECT toStartOfHour(ifNull(min(started_at), toDateTime64(0, 6, 'UTC')))
      FROM {generation}.writer_states WHERE run_id = {{id:UUID}})
)
"""


def cost_so_far(store: Store, generation: str, run_id: str) -> dict[str, Any]:
    """Cost as text, and currency; None while any part is unpriced or nobody watched it."""
    (row,) = store.rows(_COST.format(generation=generation), {"id": run_id})
    if row["unpriced"] or row["currencies"] != 1:
        return {"cost": None, "currency": None}
    return {"cost": str(row["total"]), "currency": row["one"]}
