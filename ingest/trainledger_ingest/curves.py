"""A metric's course in a few characters."""

import math
from collections.abc import Sequence

__all__ = ["CURVE_BUCKETS", "sparkline"]

CURVE_BUCKETS = 24
_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None]) -> str:
    """One bar a value between the smallest and the largest; a blank where there is no finite value."""
    finite = [v for v in values if v is not None and math.isfinite(v)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    span = (high - low) or 1.0
    return "".join(
        _BARS[min(int((v - low) / span * len(_BARS)), len(_BARS) - 1)]
        if v is not None and math.isfinite(v)
        else " "
        for v in values
    )
