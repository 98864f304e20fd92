"""Runs that show how far results scatter by chance: those that differ only in seed, and repetitions so far."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..session import Session
from .equivalence import Equivalence, compare_groups
from .grade import is_seed
from .results import Tolerance, is_timing
from .run_facts import REPEATS_TAG, RunFacts

__all__ = ["Groups", "compare_spread", "read_groups"]

RUNS_MAX = 100


@dataclass(frozen=True, slots=True)
class Groups:
    """Last values by metric, of a list of runs each: the run and those that differ only in seed; its repetitions."""

    originals: Mapping[str, tuple[float, ...]]
    repetitions: Mapping[str, tuple[float, ...]]


def read_groups(session: Session, facts: RunFacts) -> Groups:
    """The finished runs of the same code whose parameters are the same but for seeds, and the finished repetitions."""
    views, snapshot = session.views, facts.provenance.get("snapshot_id")
    rows = session.query(
        f"SELECT toString(run_id) AS id, arrayExists(tag -> startsWith(tag, {{tag:String}}), tags) AS is_repetition, "
        f"has(tags, concat({{tag:String}}, {{id:String}})) AS is_of_this FROM {views}.runs WHERE state = 'finished' "
        f"AND (run_id = {{id:UUID}} OR run_id IN (SELECT run_id FROM {views}.provenance "
        f"WHERE snapshot_id = {{snapshot:String}})) ORDER BY started_at DESC LIMIT {RUNS_MAX}",
        {"tag": REPEATS_TAG, "id": facts.run_id, "snapshot": str(snapshot)},
    ).to_pylist()
    wanted = _parameters(session, facts.run_id)
    others = [row["id"] for row in rows if not row["is_repetition"] and row["id"] != facts.run_id]
    originals = [facts.run_id, *(run for run in others if _parameters(session, run) == wanted)]
    repetitions = [row["id"] for row in rows if row["is_of_this"]]
    return Groups(_last_values(session, originals), _last_values(session, repetitions))


def compare_spread(
    groups: Groups, *, margin: float, tolerance: Tolerance, ignored: tuple[str, ...]
) -> list[Equivalence]:
    """One row a metric that is compared; a metric with an atol of its own has that as its margin."""
    rows = []
    for key in sorted(groups.originals):
        if is_timing(key) or key in ignored:
            continue
        own = tolerance.of(key)[1]
        rows.append(
            compare_groups(
                key,
                groups.originals[key],
                groups.repetitions.get(key, ()),
                margin=own or margin,
                is_absolute=own > 0,
            )
        )
    return rows


def _parameters(session: Session, run_id: str) -> dict[str, Any]:
    rows = session.query(
        f"SELECT key, value FROM {session.views}.params WHERE run_id = {{id:UUID}} AND is_current",
        {"id": run_id},
    ).to_pylist()
    return {row["key"]: row["value"] for row in rows if not is_seed(row["key"])}


def _last_values(session: Session, runs: list[str]) -> dict[str, tuple[float, ...]]:
    found: dict[str, tuple[float, ...]] = {}
    for run in runs:
        table = session.query(
            f"SELECT key, last FROM {session.views}.metric_summary WHERE run_id = {{id:UUID}} ORDER BY key",
            {"id": run},
        )
        for key, last in zip(table["key"].to_pylist(), table["last"].to_pylist(), strict=True):
            found[key] = (*found.get(key, ()), float("nan") if last is None else float(last))
    return found
