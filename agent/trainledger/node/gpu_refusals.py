"""Calls that a driver refused, not to be repeated for ten minutes: so that one that begins to work is found again."""

from trainledger_schemas.clock import Clock

__all__ = ["REFUSED_S", "Refusals"]

REFUSED_S = 600
SECOND_NS = 1_000_000_000


class Refusals:
    """By place (a device or part) and function. Places are told apart, so threads of several devices may share one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_ns: dict[tuple[str, str], int] = {}

    def holds(self, place: str, function: str) -> bool:
        """Whether the call was refused within the last ten minutes."""
        until_ns = self._until_ns.get((place, function))
        if until_ns is None:
            return False
        if self._clock.monotonic_ns() < until_ns:
            return True
        self._until_ns.pop((place, function), None)
        return False

    def note(self, place: str, function: str) -> None:
        """The call was refused now."""
        self._until_ns[place, function] = self._clock.monotonic_ns() + REFUSED_S * SECOND_NS

    def forget(self, place: str) -> None:
        """Ask a place everything again: its layout changed."""
        # A copy first: other threads note refusals of other places meanwhile.
        self._until_ns = {key: until for key, until in list(self._until_ns.items()) if key[0] != place}
