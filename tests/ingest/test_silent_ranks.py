"""Which rank stands still, and for whom the others wait: the rule by itself."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from trainledger_ingest.silent_ranks import awaited_ranks, rank_findings

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def rank(
    number: int,
    silent_min: float,
    *,
    step: int | None = 100,
    median_s: float | None = 1.0,
    state: str = "running",
) -> dict[str, Any]:
    """A rank that is known up to now."""
    moved_at = NOW - timedelta(minutes=silent_min)
    return {
        "run_id": "r", "attempt": 1, "rank": number, "node_id": "n", "state": state, "step": step,
        "moved_at": None if step is None else moved_at, "started_at": moved_at, "seen_at": NOW,
        "silent_s": silent_min * 60, "median_step_s": None if step is None else median_s,
    }  # fmt: skip


def standing(*ranks: Mapping[str, Any]) -> list[int]:
    return [finding.facts["rank"] for finding in rank_findings(reversed(ranks), least_s=600)]


@pytest.mark.parametrize(
    ("silent", "told"),
    [
        ([11, 0, 0, 0], [0]),
        ([9, 0, 0, 0], []),
        ([11, 6, 6, 6], []),
        ([11, 6, 6, 4], [0]),
        ([11, 11, 0, 0], [0, 1]),
        ([11, 11, 11, 0], []),
        ([11, 0], [0]),
        ([11], []),
    ],
    ids=[
        "one",
        "not long",
        "others may wait",
        "one other goes on",
        "half",
        "most wait for one",
        "of two",
        "alone",
    ],
)
def test_a_rank_stands_still_while_others_go_on(silent: list[float], told: list[int]) -> None:
    assert standing(*(rank(number, minutes) for number, minutes in enumerate(silent))) == told


def test_slow_steps_take_their_time_and_a_dead_rank_is_no_living_one() -> None:
    others = [rank(number, 0) for number in (1, 2, 3)]
    assert standing(rank(0, 30, median_s=100), *others) == []
    assert standing(rank(0, 34, median_s=100), *others) == [0]
    assert standing(rank(0, 30, state="crashed"), *others) == []


def test_a_rank_that_never_logged_counts_where_it_is_the_only_one_of_four() -> None:
    silent = rank(0, 30, step=None)
    assert standing(silent, *(rank(number, 0) for number in (1, 2, 3))) == [0]
    assert standing(silent, *(rank(number, 0) for number in (1, 2))) == []
    assert standing(silent, rank(1, 30, step=None), *(rank(number, 0) for number in (2, 3, 4))) == []


def awaited(*ranks: Mapping[str, Any]) -> list[int]:
    return [row["rank"] for row in awaited_ranks(ranks)]


def test_a_run_waits_for_ranks_that_died_else_for_those_behind_unless_they_are_most() -> None:
    others = [rank(number, 20) for number in (1, 2, 3)]
    assert awaited(rank(0, 20), *others) == []
    assert awaited(rank(0, 20, step=99), *others) == [0]
    assert awaited(rank(0, 20, step=101), *others) == []
    assert awaited(rank(0, 20, step=None), *others) == [0]
    assert awaited(rank(0, 20, state="lost"), rank(4, 20, step=99), *others) == [0]


def test_what_is_told_of_a_rank_is_the_same_at_each_look_and_one_message_a_run() -> None:
    ranks = [rank(0, 11), rank(1, 12), rank(2, 0), rank(3, 0)]
    first, second = rank_findings(ranks, least_s=600)
    assert first.together == second.together and first.subject != second.subject
    later = [
        {**row, "seen_at": NOW + timedelta(minutes=1), "silent_s": row["silent_s"] + 60} for row in ranks[:2]
    ]
    assert [finding.key for finding in rank_findings(later + ranks[2:], least_s=600)] == [
        first.key,
        second.key,
    ]
