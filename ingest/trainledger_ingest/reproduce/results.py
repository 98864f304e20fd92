"""Whether two runs had the same results: metric by metric and step by step.

identical: every value has the same 64 bits (NaN equals NaN). within tolerance: |a - b| <= atol + rtol * |a|.
different: a value is further away, or a metric or step is missing on one side. Metrics of time and speed are never
the same and are named as not compared.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..session import Session

__all__ = ["SAME", "Outcome", "Series", "Tolerance", "compare_results", "is_timing", "read_series"]

SAME = frozenset({"identical", "within tolerance"})
_WORDS = re.compile(r"[a-z]+")
_TIMING = frozenset(
    "time duration elapsed seconds secs sec ms throughput fps eta speed clock latency walltime runtime".split()
)

Series = Mapping[str, Mapping[tuple[int, int], float]]
"""By metric: by (rank, step) the value; rank -1 stands for a single process."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two values may lie apart; `by_key`: patterns of metrics with an rtol of their own."""

    rtol: float = 1e-5
    atol: float = 0.0
    by_key: tuple[tuple[str, float], ...] = ()

    def rtol_of(self, key: str) -> float:
        """The relative tolerance of a metric."""
        return next((rtol for pattern, rtol in self.by_key if fnmatch.fnmatchcase(key, pattern)), self.rtol)


@dataclass(slots=True)
class Outcome:
    """`rows`: for people, one a metric: metric, points, verdict, largest relative difference."""

    verdict: str = "nothing compared"
    metrics: int = 0
    points: int = 0
    first_difference: str | None = None
    not_compared: list[str] = field(default_factory=list)
    rows: list[tuple[str, int, str, str]] = field(default_factory=list)

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
        verdict, detail = _compare_series(
            key, original.get(key, {}), repetition.get(key, {}), tolerance, outcome
        )
        verdicts.add(verdict)
        outcome.metrics += 1
        outcome.rows.append((key, len(original.get(key, {})), verdict, detail))
    for verdict in ("different", "within tolerance", "identical"):
        if verdict in verdicts:
            outcome.verdict = verdict
            break
    return outcome


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
        near = (
            same_bits
            | (a == b)
            | (are_finite & (distance <= tolerance.atol + tolerance.rtol_of(key) * np.abs(a)))
        )
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
    if alone or not near.all():
        verdict = "different"
    return verdict, "0" if same_bits.all() else f"{float(relative.max()):.3g}"
