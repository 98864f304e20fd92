"""Compressing what the tables have, for a short time at the end of a command."""

from pathlib import Path
from typing import Protocol

from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import RetryableError

from .session import Say

__all__ = ["tidy_a_little"]

TIDY_ONE_SHOT_S = 1.0


class Tidy(Protocol):
    """Compresses one segment; whether there may be more."""

    def __call__(self, *, at_once: bool) -> bool: ...


def tidy_a_little(tidy: Tidy, home: Path, *, clock: Clock, say: Say) -> None:
    """Call `tidy` until it has nothing more to do, at most TIDY_ONE_SHOT_S."""
    give_up_ns = clock.monotonic_ns() + round(TIDY_ONE_SHOT_S * 1e9)
    try:
        while clock.monotonic_ns() < give_up_ns and tidy(at_once=True):
            pass
    except (OSError, RetryableError) as error:
        # The command has done its work; the next one tries again.
        say(f"the log in {home} could not be compressed: {error}")
