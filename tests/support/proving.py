"""How many cases a property is tried on: few in each run of the tests, ten thousand by `make prove`."""

import os

from hypothesis import HealthCheck, settings

__all__ = ["cases"]

_PROVED = int(os.environ.get("TRAINLEDGER_PROVE_CASES", "0"))


def cases(count: int, *, most: int | None = None) -> settings:
    """Settings for `count` cases, or as many as `make prove` asks for, but no more than `most` of slow ones."""
    wanted = min(_PROVED, most) if most is not None else _PROVED
    # A red example is found again by its seed; in a long run looking for the smallest one is worth its time.
    return settings(
        max_examples=max(count, wanted),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
