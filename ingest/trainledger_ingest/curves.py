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
    # The difference of two finite numbers may be infinite; that of their halves is not.
    scale = 1.0 if math.isfinite(high - low) else 0.5
    floor = low * scale
    span = (high * scale - floor) or 1.0
    return "".join(
        _BARS[min(int((v * scale - floor) / span * len(_BARS)), len(_BARS) - 1)]
        if v is not None and math.isfinite(v)
        else " "
        for v in values
    )
