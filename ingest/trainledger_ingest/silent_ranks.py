"""Which ranks of a launch stand still while others go on, and for which ranks a launch that stands still waits.

A rank stands still after the larger of `least_s` and STEPS of its median steps, up to the newest word of its own node.
The others go on as long as one of them logged a step within half of its own such time: until then they may be waiting
for the silent one, and then the run stands still and is told as that. Where more than half of the ranks are silent
while others log, these wait for the ones that log (an evaluation on rank 0), and nothing is told. A rank that never
logged a step counts only where all others, OTHERS_LEAST of them, do: in many launches rank 0 alone logs. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from .alert_rules import Finding

__all__ = ["STEPS", "awaited_ranks", "patience_s", "rank_findings"]

STEPS = 20
OTHERS_LEAST = 3

Row = Mapping[str, Any]
"""A row of view silent_ranks."""


def patience_s(row: Row, least_s: float) -> float:
    """How long a run or rank may be silent, by its `median_step_s`; `least_s`: however fast the steps were."""
    return float(max(least_s, STEPS * (row["median_step_s"] or 0.0)))


def rank_findings(rows: Iterable[Row], *, least_s: float) -> list[Finding]:
    """A finding a rank that stands still while others of its run go on; those of one run are told together."""
    ordered = sorted(rows, key=lambda row: (str(row["run_id"]), row["rank"]))
    found = []
    for run_id, group in groupby(ordered, key=lambda row: str(row["run_id"])):
        ranks = list(group)
        going = [row for row in _living(ranks) if row["step"] is not None and _silence(row, least_s) < 0.5]
        for row in _standing(ranks, least_s) if going else ():
            since = row["moved_at"] or row["started_at"]
            facts = {**row, "going": len(going), "furthest": max(other["step"] for other in going)}
            subject = f"stall {run_id} attempt {row['attempt']} rank {row['rank']}"
            found.append(Finding(subject, since, lasts=True, facts=facts, together=f"ranks {run_id}"))
    return found


def awaited_ranks(ranks: Sequence[Row]) -> list[Row]:
    """For whom the others of a run wait that stands still, as far as that is known.

    Ranks that died or are lost; else those that never logged or are behind, where they are at most half of all."""
    ended = [row for row in ranks if row["state"] != "running"]
    if ended:
        return ended
    unheard = [row for row in ranks if _is_unheard(row, ranks)]
    steps = [row["step"] for row in ranks if row["step"] is not None]
    behind = [row for row in ranks if row["step"] is not None and row["step"] < max(steps)]
    return unheard or (behind if 2 * len(behind) <= len(steps) else [])


def _standing(ranks: Sequence[Row], least_s: float) -> list[Row]:
    silent = [row for row in _living(ranks) if _silence(row, least_s) >= 1]
    heard = [row for row in silent if row["step"] is not None]
    if 2 * len(heard) > sum(row["step"] is not None for row in ranks):
        return []
    return heard + [row for row in silent if _is_unheard(row, ranks)]


def _is_unheard(row: Row, ranks: Sequence[Row]) -> bool:
    others = [other for other in ranks if other["rank"] != row["rank"]]
    is_alone = len(others) >= OTHERS_LEAST and all(other["step"] is not None for other in others)
    return row["step"] is None and is_alone


def _living(ranks: Iterable[Row]) -> list[Row]:
    return [row for row in ranks if row["state"] == "running" and row["silent_s"] is not None]


def _silence(row: Row, least_s: float) -> float:
    return float(row["silent_s"] / patience_s(row, least_s))
