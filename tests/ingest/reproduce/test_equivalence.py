"""Groups of results are equivalent when that is shown, and not when a difference is not shown. scipy is the oracle."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from trainledger_ingest.reproduce.equivalence import (
    ALPHA,
    compare_groups,
    judge_groups,
    student_cdf,
)

SEEDS = [0.912, 0.915, 0.909, 0.914, 0.911]


@given(st.floats(-60, 60), st.floats(1, 300))
@settings(max_examples=100, deadline=None)
def test_student_distribution_is_that_of_scipy(t: float, freedom: float) -> None:
    assert math.isclose(student_cdf(t, freedom), float(stats.t.cdf(t, freedom)), rel_tol=1e-9, abs_tol=1e-13)


values = st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=3, max_size=8)


@given(values, values, st.floats(0.01, 5))
@settings(max_examples=100, deadline=None)
def test_p_value_is_that_of_two_welch_tests_of_scipy(a: list[float], b: list[float], margin: float) -> None:
    assume(len(set(a)) > 1 and len(set(b)) > 1)  # without any spread there is no t
    found = compare_groups("x", a, b, margin=margin, is_absolute=True)
    below = stats.ttest_ind([x - margin for x in b], a, equal_var=False, alternative="less").pvalue
    above = stats.ttest_ind([x + margin for x in b], a, equal_var=False, alternative="greater").pvalue
    wanted = max(float(below), float(above))
    assert found.p is not None and math.isclose(found.p, wanted, rel_tol=1e-6, abs_tol=1e-9)
    assert (found.verdict == "equivalent") == (found.p < ALPHA)


@pytest.mark.parametrize(
    ("originals", "repetitions", "margin", "verdict"),
    [
        (SEEDS, [0.913, 0.910, 0.912], 0.01, "equivalent"),
        (SEEDS, [0.93, 0.931, 0.929], 0.01, "different"),
        (SEEDS, [0.92, 0.918, 0.925], 0.01, "cannot say"),
        # Not significant is not the same: so few and so scattered values show nothing.
        ([0.5, 0.9, 0.7], [0.4, 0.8, 0.9], 0.01, "cannot say"),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], 0.01, "equivalent"),
        ([1.0, 1.0, 1.0], [1.5, 1.5, 1.5], 0.01, "different"),
        (SEEDS, [0.913], 0.01, "inside the seed spread"),
        (SEEDS, [0.95], 0.01, "cannot say"),
        ([0.9], [0.9], 0.01, "cannot say"),
        ([], [0.9], 0.01, "cannot say"),
        ([math.nan, 1.0, 1.0], [1.0, 1.0, 1.0], 0.01, "different"),
    ],
)
def test_verdict(originals: list[float], repetitions: list[float], margin: float, verdict: str) -> None:
    found = compare_groups("accuracy", originals, repetitions, margin=margin)
    assert found.verdict == verdict, found.text()


def test_the_worst_metric_decides() -> None:
    good = compare_groups("a", SEEDS, SEEDS, margin=0.1)
    bad = compare_groups("b", SEEDS, [9.0, 9.1, 9.2], margin=0.1)
    assert (judge_groups([good]), judge_groups([good, bad]), judge_groups([])) == (
        "equivalent",
        "different",
        "cannot say",
    )
    assert "5 and 3 runs" in bad.text()
