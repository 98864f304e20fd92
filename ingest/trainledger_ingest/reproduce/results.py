"""Whether two runs had the same results: metric by metric and step by step.

identical: every value has the same 64 bits (NaN equals NaN). within tolerance: |a - b| <= atol + rtol * |a|.
different: a value is further away, or a metric or step is missing on one side (`missing`: in the row of a metric that
one run has none of). Metrics of time and speed are never
the same and are named as not compared. Outputs are compared by their digests: one that has other bytes, as files with
times in them have, leaves "within tolerance" of "identical"; one that is missing makes the results different.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..session import Session

__all__ = [
    "SAME",
    "Outcome",
    "Series",
    "Tolerance",
    "compare_outputs",
    "compare_results",
    "is_timing",
    "read_metrics",
    "read_series",
]

SAME = frozenset({"identical", "within tolerance", "equivalent"})
_WORDS = re.compile(r"[a-z]+")
_TIMING = frozenset(
    "time duration elapsed seconds secs sec ms throughput fps eta speed clock latency walltime runtime".split()
)

Series = Mapping[str, Mapping[tuple[int, int], float]]
"""By metric: by (rank, step) the value; rank -1 stands for a single process."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two values may lie apart; `by_key`: patterns of metrics with an rtol, perhaps an atol, of their own."""

    rtol: float = 1e-5
    atol: float = 0.0
    by_key: tuple[tuple[str, float, float | None], ...] = ()

    def of(self, key: str) -> tuple[float, float]:
        """The relative and absolute tolerance of a metric."""
        for pattern, rtol, atol in self.by_key:
            if fnmatch.fnmatchcase(key, pattern):
                return rtol, self.atol if atol is None else atol
        return self.rtol, self.atol


@dataclass(slots=True)
class Outcome:
    """`rows`: for people, one a metric: metric, points, verdict, largest relative difference."""

    verdict: str = "nothing compared"
    metrics: int = 0
    points: int = 0
    first_difference: str | None = None
    not_compared: list[str] = field(default_factory=list)
    rows: list[tuple[str, int, str, str]] = field(default_factory=list)
    artifacts: int = 0

    @property
    def is_same(self) -> bool:
        """Whether the repetition counts as one with the same results."""
        return self.verdict in SAME


def read_series(session: Session, run_id: str) -> Series:
    """All points of a run; for a repeated step the highest attempt, then the latest."""
    table = session.query(
        "SELECT key, coalesce(toInt64(rank), -1) AS place, step, argMax(value, tuple(attempt, at)) AS chosen "
        f"FROM {session.views}.metrics WHERE run_id = {{id:UUID}} GROUP BY key, place, step ORDER BY key, step, place",
        {"id": run_id},
    )
    found: dict[str, dict[tuple[int, int], float]] = {}
    columns = (table[name].to_pylist() for name in ("key", "place", "step", "chosen"))
    for key, place, step, value in zip(*columns, strict=True):
        found.setdefault(key, {})[place, step] = value
    return found


def read_metrics(session: Session, run_id: str) -> set[str]:
    """The names of a run's metrics."""
    rows = session.query(
        f"SELECT key FROM {session.views}.metric_summary WHERE run_id = {{id:UUID}}", {"id": run_id}
    ).to_pylist()
    return {row["key"] for row in rows}


def compare_results(
    original: Series, repetition: Series, *, tolerance: Tolerance, ignored: Sequence[str] = ()
) -> Outcome:
    """Compare all metrics that either has."""
    outcome = Outcome()
    verdicts = set()
    for key in sorted({*original, *repetition}):
        if is_timing(key) or any(fnmatch.fnmatchcase(key, pattern) for pattern in ignored):
            outcome.not_compared.append(key)
            continue
        outcome.metrics += 1
        if key not in original or key not in repetition:
            where = "the repetition" if key in original else "the original"
            outcome.first_difference = outcome.first_difference or f"{key} is missing in {where}"
            outcome.rows.append((key, len(original.get(key, {})), f"missing in {where}", "-"))
            verdicts.add("different")
            continue
        verdict, detail = _compare_series(key, original[key], repetition[key], tolerance, outcome)
        verdicts.add(verdict)
        outcome.rows.append((key, len(original[key]), verdict, detail))
    for verdict in ("different", "within tolerance", "identical"):
        if verdict in verdicts:
            outcome.verdict = verdict
            break
    return outcome


def compare_outputs(
    outcome: Outcome, original: Sequence[Mapping[str, Any]], repetition: Sequence[Mapping[str, Any]]
) -> None:
    """Add the outputs, rows of view run_io in their order, to an outcome; those without a digest are not compared."""
    later: dict[str, list[str]] = {}
    for written in repetition:
        if written.get("digest") is not None:
            later.setdefault(str(written["name"]), []).append(str(written["digest"]))
    for written in original:
        if written.get("digest") is None:
            continue
        name = str(written["name"])
        digest = later[name].pop(0) if later.get(name) else None
        outcome.artifacts += 1
        if digest == written["digest"]:
            word, verdict = "identical", "identical"
        else:
            missing = f"output {name} is missing in the repetition"
            word, verdict = ("other bytes", "within tolerance") if digest else ("missing", "different")
            difference = missing if digest is None else f"output {name} has other bytes"
            outcome.first_difference = outcome.first_difference or difference
        outcome.rows.append((f"output {name}", 1, word, ""))
        order = ("different", "within tolerance", "identical", "nothing compared")
        outcome.verdict = min(outcome.verdict, verdict, key=order.index)


def is_timing(key: str) -> bool:
    """Whether a metric measures time or speed, by the last part of its name."""
    last = key.rpartition("/")[2].lower()
    words = _WORDS.findall(last)
    return not _TIMING.isdisjoint(words) or "per_s" in last or last.endswith("_s")


def _compare_series(
    key: str,
    one: Mapping[tuple[int, int], float],
    other: Mapping[tuple[int, int], float],
    tolerance: Tolerance,
    outcome: Outcome,
) -> tuple[str, str]:
    shared = sorted(one.keys() & other.keys(), key=lambda place: (place[1], place[0]))
    outcome.points += len(shared)
    alone = one.keys() ^ other.keys()
    a = np.array([one[place] for place in shared], np.float64)
    b = np.array([other[place] for place in shared], np.float64)
    same_bits = (a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = np.abs(a - b)
        # An infinity is near to nothing but itself: its tolerance would be infinite too.
        are_finite = np.isfinite(a) & np.isfinite(b)
        rtol, atol = tolerance.of(key)
        near = same_bits | (a == b) | (are_finite & (distance <= atol + rtol * np.abs(a)))
        relative = np.where(same_bits | (a == b), 0.0, np.where(are_finite, distance / np.abs(a), np.inf))
    if not near.all():
        first = int(np.argmin(near))
        place = shared[first]
        rank = "" if place[0] < 0 else f", rank {place[0]}"
        text = f"{key} at step {place[1]}{rank}: {one[place]!r} and {other[place]!r}"
        outcome.first_difference = outcome.first_difference or text
    if alone:
        place = min(alone, key=lambda place: (place[1], place[0]))
        where = "the repetition" if place in one else "the original"
        outcome.first_difference = outcome.first_difference or f"{key}: step {place[1]} is missing in {where}"
    verdict = "identical" if same_bits.all() else "within tolerance"
    if not shared:
        return "different", "-"
    if alone or not near.all():
        verdict = "different"
    return verdict, "0" if same_bits.all() else f"{float(relative.max()):.3g}"
