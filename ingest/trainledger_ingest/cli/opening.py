"""How a command gets its session."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from trainledger_schemas.clock import SystemClock

from ..session import Session
from ..session_choice import open_session, peek_session
from .call_settings import environment, read_settings
from .output import stderr_line
from .progress import progress_bar

__all__ = ["environment", "glance", "read_settings", "session", "utc_now"]


@contextmanager
def session(home: Path | None = None) -> Iterator[Session]:
    """A session that covers everything written before now; closed at the end."""
    with progress_bar("reading what is pending") as progress:
        opened = open_session(read_settings(home), say=stderr_line, progress=progress)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def glance() -> Iterator[Session]:
    """A session for looking again and again: beside a live `up` it is cheap, and may be a second behind."""
    opened = peek_session(read_settings(), say=stderr_line)
    try:
        yield opened
    finally:
        opened.close()


def utc_now() -> datetime:
    """The time of this call."""
    return datetime.fromtimestamp(SystemClock().wall_ns() / 1e9, tz=UTC)
