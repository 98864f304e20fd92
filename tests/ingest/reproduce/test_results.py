"""Results are the same by their bits, near within a tolerance, or different, and where is told."""

import math

import pytest

from trainledger_ingest.reproduce.results import Outcome, Tolerance, compare_results, is_timing

NAN = math.nan


def compared(
    one: list[float], other: list[float], key: str = "loss", tolerance: Tolerance | None = None
) -> Outcome:
    series = [{key: {(-1, step): value for step, value in enumerate(values)}} for values in (one, other)]
    return compare_results(series[0], series[1], tolerance=tolerance or Tolerance())


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ([1.0, NAN, math.inf], [1.0, NAN, math.inf], "identical"),
        ([1.0], [1.0 + 1e-9], "within tolerance"),
        ([0.0], [-0.0], "within tolerance"),
        ([1.0], [1.1], "different"),
        ([1.0], [NAN], "different"),
        ([math.inf], [1.0], "different"),
        ([1.0, 2.0], [1.0], "different"),
    ],
)
def test_verdict(one: list[float], other: list[float], verdict: str) -> None:
    outcome = compared(one, other)
    assert (outcome.verdict, outcome.is_same) == (verdict, verdict != "different")
    assert compared(other, one).verdict == verdict


def test_first_difference_names_metric_step_and_values() -> None:
    assert compared([1.0, 2.0, 3.0], [1.0, 2.5, 9.0]).first_difference == "loss at step 1: 2.0 and 2.5"
    assert compared([1.0, 2.0], [1.0]).first_difference == "loss: step 1 is missing in the repetition"


def test_tolerance_of_a_metric_wins() -> None:
    loose = Tolerance(by_key=(("eval/*", 0.5, None), ("loss", 0.0, 0.2)))
    assert compared([1.0], [1.3], "eval/loss", loose).verdict == "within tolerance"
    assert compared([1.0], [1.3], "loss", loose).verdict == "different"


def test_time_is_named_and_never_compared() -> None:
    outcome = compared([1.0], [2.0], "train/epoch_time")
    assert (outcome.verdict, outcome.not_compared) == ("nothing compared", ["train/epoch_time"])
    assert not outcome.is_same
    assert [
        key for key in ("step_s", "tokens_per_sec", "time/loss", "timesteps", "loss") if is_timing(key)
    ] == [
        "step_s",
        "tokens_per_sec",
    ]


def test_ignored_metrics_are_named() -> None:
    series = {"a": {(-1, 0): 1.0}, "b": {(-1, 0): 1.0}}
    outcome = compare_results(series, {"b": {(-1, 0): 1.0}}, tolerance=Tolerance(), ignored=("a",))
    assert (outcome.verdict, outcome.not_compared, outcome.points) == ("identical", ["a"], 1)


def test_a_metric_of_one_run_alone_is_missing_in_the_other() -> None:
    both = {"loss": {(-1, 0): 1.0}}
    for one, other, where in (
        (both, {}, "the repetition"),
        ({}, both, "the original"),
    ):
        outcome = compare_results(one, other, tolerance=Tolerance())
        assert outcome.verdict == "different" and outcome.first_difference == f"loss is missing in {where}"
        assert [row[2:] for row in outcome.rows] == [(f"missing in {where}", "-")]
