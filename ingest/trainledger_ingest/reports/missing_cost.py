"""Why a run has no cost yet, in words for a person."""

from typing import Any

from ..session import Session

__all__ = ["why_no_cost"]

# Usage is measured in windows of 10 s: a process that lives shorter may fall between two looks.
SHORT_S = 10.0
# A first bill needs a full window and its way into the tables.
FIRST_BILL_S = 60.0
_QUESTION = """
SELECT (SELECT count() FROM {views}.cost_lines WHERE run_id = {{id:UUID}}) AS lines,
  (SELECT countIf(cost IS NULL) FROM {views}.cost_lines WHERE run_id = {{id:UUID}}) AS unpriced,
  (SELECT count() FROM {views}.node_hour_bills WHERE observed_s > 0
    AND usage_hour BETWEEN (SELECT toStartOfHour(assumeNotNull(min(last_seen_at)), 'UTC') FROM {views}.run_writers
      WHERE run_id = {{id:UUID}}) - INTERVAL 1 HOUR
    AND (SELECT toStartOfHour(assumeNotNull(max(last_seen_at)), 'UTC') FROM {views}.run_writers
      WHERE run_id = {{id:UUID}})
    AND node_id IN (SELECT node_id FROM {views}.run_writers WHERE run_id = {{id:UUID}})) AS watched
"""


def why_no_cost(session: Session, row: dict[str, Any]) -> str:
    """For a row of view runs whose cost is NULL."""
    (found,) = session.query(_QUESTION.format(views=session.views), {"id": row["run_id"]}).to_pylist()
    if found["unpriced"]:
        return "unknown: no price for its node-hours; set one with `trainledger price set`"
    if found["lines"]:
        return "in several currencies; see `trainledger cost --by run`"
    duration_s = row["duration_s"]
    if found["watched"] and row["state"] == "running" and (duration_s or 0) < FIRST_BILL_S:
        return f"not measured yet: the first comes within {FIRST_BILL_S:.0f} s of the start"
    if found["watched"] and duration_s is not None and duration_s < SHORT_S:
        return "too short to be measured"
    return "unknown: no agent watched it; start `trainledger up` (or `agent` on a cluster's node) before training"
