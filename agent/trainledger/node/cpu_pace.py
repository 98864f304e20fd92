"""Keeps work that can wait below a share of one core, over a second or so, however many threads do it."""

import threading
from collections.abc import Callable

from trainledger_schemas.clock import Clock

__all__ = ["CpuPace"]

# What may be used at once after a rest.
BURST_NS = 200_000_000
WAIT_S_MAX = 1.0


class CpuPace:
    """Any number of threads `pay` for what they have used, and wait in it until their share allows more."""

    def __init__(self, share_max: float, *, clock: Clock, wait: Callable[[float], object]) -> None:
        """`share_max`: of one core. `wait` blocks for some seconds, or less where the work is to end."""
        self._share_max = share_max
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._paid_ns = clock.monotonic_ns()

    def pay(self, cpu_ns: int) -> None:
        """So much CPU time was used; returns when more may be."""
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            self._paid_ns = max(self._paid_ns, now_ns - BURST_NS) + round(cpu_ns / self._share_max)
            left_s = (self._paid_ns - now_ns) / 1e9
        if left_s > 0:
            self._wait(min(left_s, WAIT_S_MAX))
