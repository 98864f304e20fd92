"""Wait for what real processes and files do, with a deadline and without guessing how long it takes."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def poll_until(look: Callable[[], T | None], *, deadline_s: float = 20.0, pause_s: float = 0.01) -> T:
    """The first answer of `look` that is true; AssertionError after `deadline_s` without one."""
    end = time.monotonic() + deadline_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"nothing came within {deadline_s} s"
        time.sleep(pause_s)
