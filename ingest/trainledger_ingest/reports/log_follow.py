"""Following the output of a run as `tail -f` follows a file, until the run is over.

Every line is given once, also when `up` or the server is started anew meanwhile: what was given is remembered here,
by process and line. The end of a run comes before its last lines may: the wrapper of a command writes them
afterwards. So following ends when no process of the run is left, and a look after that, which covers everything that
was written, found nothing new. The looks before are cheap and may be a little behind.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import HomeLockedError, RetryableError

from ..session import Say, Session
from .logs import LogReader

__all__ = ["Looks", "follow_log"]

GIVE_UP_S = 600.0


@dataclass(frozen=True, slots=True)
class Looks:
    """How to open a session: one that covers everything written before, and a cheap one that may be a little behind."""

    complete: Callable[[], AbstractContextManager[Session]]
    glance: Callable[[], AbstractContextManager[Session]]


def follow_log(
    looks: Looks,
    reader: LogReader,
    *,
    write: Callable[[Mapping[str, Any]], None],
    clock: Clock,
    say: Say,
    pause_s: Callable[[], float],
) -> None:
    """Give each new line to `write` until the run is over. A session a round: none is held open between them.

    What cannot be reached is tried again for GIVE_UP_S, then its RetryableError is raised."""
    is_last = False
    failed_ns: int | None = None
    while True:
        try:
            with looks.complete() if is_last else looks.glance() as session:
                # Before the lines: what a run wrote last is in the tables when its end is.
                is_over = _is_over(session, reader.run_id)
                count = 0
                for row in reader.read(session):
                    write(row)
                    count += 1
            failed_ns = None
            if is_last and is_over and not count:
                return
            is_last = is_over
        except (RetryableError, HomeLockedError) as error:
            now_ns = clock.monotonic_ns()
            if failed_ns is None:
                failed_ns = now_ns
                say(f"waiting: {error}")
            if now_ns - failed_ns > GIVE_UP_S * 1e9:
                raise
        clock.sleep(pause_s())


def _is_over(session: Session, run_id: str) -> bool:
    writing = session.query(
        f"SELECT count() AS n FROM {session.views}.run_writers WHERE run_id = {{id:UUID}} AND state = 'running'",
        {"id": run_id},
    )["n"].to_pylist()
    if int(writing[0]):
        return False  # the usual answer, without the view of runs, which also asks for cost and progress
    states = session.query(
        f"SELECT state FROM {session.views}.runs WHERE run_id = {{id:UUID}}", {"id": run_id}
    )["state"].to_pylist()
    return states not in (["running"], ["lost"])
