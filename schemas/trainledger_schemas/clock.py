"""Time, in one place. Durations use the monotonic clock, stamps the wall clock, both as integer nanoseconds.

`boot_ns` counts since the machine booted, sleep included, and never steps: with it two records of one boot
can be ordered although the wall clock was set back between them.
"""

import time
from pathlib import Path
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock", "iso_utc", "read_boot_id", "thread_cpu_ns", "wall_ns"]

# The hot path of log() binds this one C function; everything else takes a Clock.
wall_ns = time.time_ns
# CPU time of the calling thread: what work cost that was done, not how late it is.
thread_cpu_ns = time.thread_time_ns


class Clock(Protocol):
    """What time it is, and how to wait."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970 UTC; may step."""

    def monotonic_ns(self) -> int:
        """Nanoseconds for durations; never steps back."""

    def boot_ns(self) -> int:
        """Nanoseconds since boot, sleep included; never steps back within a boot."""

    def sleep(self, seconds: float) -> None:
        """Block for about `seconds`."""


class SystemClock:
    """The machine's clocks."""

    def wall_ns(self) -> int:
        return time.time_ns()

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def boot_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class ManualClock:
    """A clock for tests: it moves only when told to, or when something sleeps on it."""

    def __init__(self, wall_ns: int = 1_700_000_000_000_000_000, boot_ns: int = 1_000_000_000) -> None:
        self._wall_ns = wall_ns
        self._boot_ns = boot_ns

    def wall_ns(self) -> int:
        return self._wall_ns

    def monotonic_ns(self) -> int:
        return self._boot_ns

    def boot_ns(self) -> int:
        return self._boot_ns

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass on all clocks."""
        self._wall_ns += round(seconds * 1e9)
        self._boot_ns += round(seconds * 1e9)

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock alone, as a time server or a person does."""
        self._wall_ns += round(seconds * 1e9)


def iso_utc(wall_us: int) -> str:
    """Format microseconds since 1970 as ISO 8601 UTC with microseconds, e.g. 2026-11-25T10:00:00.000001Z."""
    seconds, micros = divmod(wall_us, 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{micros:06d}Z"


def read_boot_id() -> bytes:
    """The kernel's id of this boot, 16 bytes; zeros where the system has none."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return bytes.fromhex(text.strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)
