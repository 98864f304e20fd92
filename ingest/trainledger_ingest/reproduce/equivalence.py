"""Whether two groups of results are the same apart from chance: two one-sided tests with a stated margin. Pure.

With at least three values a side, the means are called equivalent when their difference is surely within the margin:
both one-sided tests of Welch (unequal variances; Schuirmann 1987, Welch 1947) are below ALPHA. That the difference is
not significant is never taken as sameness: few values show nothing significant. With fewer values only two things can
be said: that the value lies inside the spread of the originals ("inside the seed spread"), or nothing ("cannot say").

The margin is relative to the size of the originals' mean unless it is given as an absolute number. The p-values come
from Student's distribution through the regularised incomplete beta function (continued fraction of Lentz, as in
Numerical Recipes 6.4), and are compared with scipy's in the tests.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ALPHA", "EQUIVALENT", "Equivalence", "compare_groups", "judge_groups", "student_cdf"]

ALPHA = 0.05
VALUES_MIN = 3
_ITERATIONS_MAX = 300
_TINY = 1e-300

EQUIVALENT, INSIDE, CANNOT_SAY, DIFFERENT = "equivalent", "inside the seed spread", "cannot say", "different"


@dataclass(frozen=True, slots=True)
class Equivalence:
    """`p`: the larger p-value of the two tests; None where they could not be made. `margin` in the metric's unit."""

    key: str
    verdict: str
    difference: float
    margin: float
    p: float | None
    counts: tuple[int, int]

    def text(self) -> str:
        """On one line, for people and for the event."""
        p = "" if self.p is None else f", p = {self.p:.3g}"
        return (
            f"{self.key}: {self.verdict} (means differ by {self.difference:.3g}, margin {self.margin:.3g}{p}, "
            f"{self.counts[0]} and {self.counts[1]} runs)"
        )


def compare_groups(
    key: str,
    originals: Sequence[float],
    repetitions: Sequence[float],
    *,
    margin: float,
    is_absolute: bool = False,
) -> Equivalence:
    """Compare the final values of a metric in both groups; values that are no numbers make it different or unclear."""
    counts = len(originals), len(repetitions)
    if not originals or not repetitions:
        return Equivalence(key, CANNOT_SAY, math.nan, margin, None, counts)
    if not all(math.isfinite(value) for value in (*originals, *repetitions)):
        same = sorted(map(repr, originals)) == sorted(map(repr, repetitions))
        return Equivalence(key, CANNOT_SAY if same else DIFFERENT, math.nan, margin, None, counts)
    difference = _mean(repetitions) - _mean(originals)
    width = margin if is_absolute else margin * abs(_mean(originals))
    if min(counts) < VALUES_MIN:
        spread = max(originals) - min(originals)
        is_inside = min(originals) <= min(repetitions) and max(repetitions) <= max(originals)
        verdict = INSIDE if counts[0] >= 2 and is_inside and (spread > 0 or difference == 0) else CANNOT_SAY
        return Equivalence(key, verdict, difference, width, None, counts)
    p = _two_one_sided(originals, repetitions, difference, width)
    if p < ALPHA:
        return Equivalence(key, EQUIVALENT, difference, width, p, counts)
    # Beyond the margin for sure is another thing than not surely within.
    away = _two_one_sided(originals, repetitions, abs(difference) - 2 * width, width, is_outside=True)
    return Equivalence(key, DIFFERENT if away < ALPHA else CANNOT_SAY, difference, width, p, counts)


def judge_groups(rows: Sequence[Equivalence]) -> str:
    """One verdict for all metrics: the worst of them."""
    order = (DIFFERENT, CANNOT_SAY, INSIDE, EQUIVALENT)
    return min((row.verdict for row in rows), key=order.index, default=CANNOT_SAY)


def student_cdf(t: float, freedom: float) -> float:
    """The probability that a value of Student's distribution is at most `t`."""
    if math.isinf(t):
        return 1.0 if t > 0 else 0.0
    tail = 0.5 * _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))
    return 1 - tail if t > 0 else tail


def _two_one_sided(
    a: Sequence[float], b: Sequence[float], difference: float, margin: float, *, is_outside: bool = False
) -> float:
    """The larger p-value of "the difference is not below margin" and "not above -margin".

    `is_outside`: the p-value of "it is not beyond"; `difference` is then |difference| - 2 margin."""
    va, vb = _variance(a) / len(a), _variance(b) / len(b)
    error = math.sqrt(va + vb)
    if error == 0:
        if is_outside:
            return 0.0 if difference + margin > 0 else 1.0
        return 0.0 if abs(difference) < margin or difference == margin == 0 else 1.0
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    if is_outside:
        return 1 - student_cdf((difference + margin) / error, freedom)
    below = student_cdf((difference - margin) / error, freedom)
    above = 1 - student_cdf((difference + margin) / error, freedom)
    return max(below, above)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _ITERATIONS_MAX):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away_from_zero(1 + numerator * d)
            c = _away_from_zero(1 + numerator / c)
            value *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
