"""Alerts of runs that stand still: the process lives, and no step came for longer than its steps explain.

A run stands still after the larger of STALL_MINUTES and STEPS times its median step. How long is read from view
silent_runs: up to the newest word of its node, so a node or a broker that is late makes no run stand still.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from .alert_channels import Alert
from .alert_rules import Finding
from .cost.budgets import Query

__all__ = ["StalledRuns", "stall_alert", "stall_findings"]

STEPS = 20
_PACE = """
SELECT run_id, step, moved_at, seen_at, silent_s, median_step_s FROM {views}.silent_runs WHERE silent_s >= {least_s}
"""
_WHO = """
SELECT project, name, team, user FROM {views}.runs WHERE run_id = {{run:UUID}}
"""


class StalledRuns:
    """An alert rule; `minutes`: least minutes without a step."""

    def __init__(self, query: Query, views: str, *, minutes: int) -> None:
        self._query = query
        self._views = views
        self._least_s = minutes * 60

    def findings(self, now: datetime) -> list[Finding]:
        """A finding a run that stands still now."""
        rows = self._query(_PACE.format(views=self._views, least_s=self._least_s), None).to_pylist()
        return stall_findings(rows, least_s=self._least_s)

    def alert(self, findings: Sequence[Finding]) -> Alert:
        """Of one run."""
        run_id = str(findings[-1].facts["run_id"])
        rows = self._query(_WHO.format(views=self._views), {"run": run_id}).to_pylist()
        return stall_alert(findings[-1], rows[0] if rows else {})


def stall_findings(rows: Iterable[Mapping[str, Any]], *, least_s: float) -> list[Finding]:
    """Rows of view silent_runs; `least_s`: seconds without a step that are nothing yet, however fast the steps were."""
    return [
        Finding(f"stall {row['run_id']}", row["moved_at"], lasts=True, facts=row)
        for row in rows
        if row["silent_s"] >= max(least_s, STEPS * (row["median_step_s"] or 0.0))
    ]


def stall_alert(finding: Finding, run: Mapping[str, Any]) -> Alert:
    """Which run, for how long, at which step; `run`: project, name, team and user, as far as known."""
    row = finding.facts
    median = row["median_step_s"]
    usual = "" if median is None else f", a step took {median:.3g} s"
    named = " ".join(str(run[key]) for key in ("project", "name") if run.get(key))
    text = (
        f"run {row['run_id']}{f' ({named})' if named else ''} lives and has made no step for "
        f"{row['silent_s'] / 60:.0f} min: step {row['step']} at {finding.since:%Y-%m-%d %H:%M:%S} UTC{usual}"
    )
    facts = {
        "rule": "stalled run",
        "run_id": str(row["run_id"]),
        **{key: run.get(key) for key in ("project", "name", "team", "user")},
        "step": row["step"],
        "moved_at": finding.since.isoformat(),
        "silent_s": row["silent_s"],
        "median_step_s": median,
    }
    return Alert(finding.key, text, facts)
