"""Alerts of runs that stand still, and of single ranks that do: the process lives, and no step came for longer than its
steps explain.

A run stands still after the larger of STALL_MINUTES and STEPS times its median step. How long is read from view
silent_runs: up to the newest word of its node, so a node or a broker that is late makes no run stand still. Of a run
with several ranks it is told for which of them the others wait, where that is known: see `silent_ranks`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from .alert_channels import Alert
from .alert_rules import Finding
from .cost.budgets import Query
from .silent_ranks import awaited_ranks, patience_s, rank_findings

__all__ = ["StalledRuns", "rank_alert", "ranks_sentence", "stall_alert", "stall_findings", "stall_sentence"]

RANKS_SHOWN = 4
_PACE = """
SELECT run_id, step, moved_at, seen_at, silent_s, median_step_s FROM {views}.silent_runs WHERE silent_s >= {least_s}
"""
_RANKS = """
SELECT run_id, attempt, rank, node_id, state, step, moved_at, started_at, seen_at, silent_s, median_step_s
FROM {views}.silent_ranks
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
        """A finding a run that stands still now, and a rank that does while others of its run go on."""
        runs = self._query(_PACE.format(views=self._views, least_s=self._least_s), None).to_pylist()
        ranks = self._query(_RANKS.format(views=self._views), None).to_pylist()
        by_run: dict[str, list[Mapping[str, Any]]] = {}
        for row in ranks:
            by_run.setdefault(str(row["run_id"]), []).append(row)
        return stall_findings(runs, by_run, least_s=self._least_s) + rank_findings(
            ranks, least_s=self._least_s
        )

    def alert(self, findings: Sequence[Finding]) -> Alert:
        """Of one run, or of ranks of one run."""
        run_id = str(findings[-1].facts["run_id"])
        rows = self._query(_WHO.format(views=self._views), {"run": run_id}).to_pylist()
        run = rows[0] if rows else {}
        return rank_alert(findings, run) if "rank" in findings[-1].facts else stall_alert(findings[-1], run)


def stall_findings(
    rows: Iterable[Mapping[str, Any]],
    ranks: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    least_s: float,
) -> list[Finding]:
    """Rows of views silent_runs, and by run of silent_ranks; `least_s`: seconds without a step that are nothing yet."""
    return [
        Finding(
            f"stall {row['run_id']}",
            row["moved_at"],
            lasts=True,
            facts={**row, "ranks": ranks.get(str(row["run_id"]), ())},
        )
        for row in rows
        if row["silent_s"] >= patience_s(row, least_s)
    ]


def stall_alert(finding: Finding, run: Mapping[str, Any]) -> Alert:
    """Which run, for how long, at which step, for whom it waits; `run`: project, name, team and user, where known."""
    row = finding.facts
    awaited = awaited_ranks(row["ranks"])
    text = f"run {_named(row, run)} {stall_sentence(finding)}"
    facts = {
        "rule": "stalled run",
        "run_id": str(row["run_id"]),
        **{key: run.get(key) for key in ("project", "name", "team", "user")},
        "step": row["step"],
        "moved_at": finding.since.isoformat(),
        "silent_s": row["silent_s"],
        "median_step_s": row["median_step_s"],
        "ranks": len(row["ranks"]) or None,
        "waits_for": [_rank_facts(rank) for rank in awaited],
    }
    return Alert(finding.key, text, facts)


def rank_alert(findings: Sequence[Finding], run: Mapping[str, Any]) -> Alert:
    """Which ranks of a run stand still, where, since when, and how far those are that go on."""
    ranks = sorted((finding.facts for finding in findings), key=lambda row: row["rank"])
    last = ranks[-1]
    text = f"run {_named(last, run)}: {ranks_sentence(findings)}"
    facts = {
        "rule": "stalled rank",
        "run_id": str(last["run_id"]),
        **{key: run.get(key) for key in ("project", "name", "team", "user")},
        "stalled": [_rank_facts(rank) for rank in ranks],
        "ranks_going": last["going"],
        "furthest_step": last["furthest"],
    }
    return Alert(findings[-1].key, text, facts)


def stall_sentence(finding: Finding) -> str:
    """For how long a run stands still, and for which ranks the others wait, where that is known."""
    row = finding.facts
    awaited = awaited_ranks(row["ranks"])
    waiting = f"; the others wait for {_list(awaited, ', which ')}" if awaited else ""
    return (
        f"lives and has made no step for {row['silent_s'] / 60:.0f} min: "
        f"step {row['step']} at {_time(finding.since)}{_usual(row)}{waiting}"
    )


def ranks_sentence(findings: Sequence[Finding]) -> str:
    """Which ranks of one run stand still, and how many others go on."""
    ranks = sorted((finding.facts for finding in findings), key=lambda row: row["rank"])
    last = ranks[-1]
    they = "rank goes on" if last["going"] == 1 else "ranks go on"
    return f"{_list(ranks, ' ')}{_usual(last)}; {last['going']} other {they}, up to step {last['furthest']}"


def _named(row: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    named = " ".join(str(run[key]) for key in ("project", "name") if run.get(key))
    return f"{row['run_id']}{f' ({named})' if named else ''}"


def _place(rank: Mapping[str, Any]) -> str:
    return f"rank {rank['rank']} on node {rank['node_id']}"


def _standing(rank: Mapping[str, Any]) -> str:
    if rank["state"] == "lost":
        return f"is lost: nothing was heard of it since {_time(rank['seen_at'])}"
    if rank["state"] != "running":
        word = "was killed" if rank["state"] == "killed" else rank["state"]
        return f"{word} at {_time(rank['seen_at'])}"
    silent = f"lives and has made no step for {rank['silent_s'] / 60:.0f} min"
    if rank["step"] is None:
        return f"{silent}, none since it began at {_time(rank['started_at'])}"
    return f"{silent}: step {rank['step']} at {_time(rank['moved_at'])}"


def _rank_facts(rank: Mapping[str, Any]) -> dict[str, Any]:
    since = rank["moved_at"] or rank["started_at"]
    return {
        "rank": rank["rank"],
        "node_id": rank["node_id"],
        "state": rank["state"],
        "step": rank["step"],
        "moved_at": since and since.isoformat(),
        "seen_at": rank["seen_at"].isoformat(),
    }


def _list(ranks: Sequence[Mapping[str, Any]], joint: str) -> str:
    more = len(ranks) - RANKS_SHOWN
    shown = "; ".join(_place(rank) + joint + _standing(rank) for rank in ranks[:RANKS_SHOWN])
    return shown + (f"; and {more} more" if more > 0 else "")


def _usual(row: Mapping[str, Any]) -> str:
    return "" if row["median_step_s"] is None else f", a step took {row['median_step_s']:.3g} s"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
