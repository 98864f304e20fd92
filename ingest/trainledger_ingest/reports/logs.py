"""The output of a run, in the order in which it was read; `follow_log` goes on as lines come."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa

from trainledger_schemas.clock import Clock

from ..session import Session

__all__ = ["follow_log", "print_log", "read_log"]

FOLLOW_INTERVAL_S = 1.0
PAGE_LINES = 100_000


def read_log(
    session: Session, run_id: str, *, grep: str | None, behind: tuple[str, int] | None = None
) -> pa.Table:
    """Lines of view logs, by time; `behind` is (time text, line number) of the last line already seen."""
    conditions = ["l.run_id = {id:UUID}"]
    parameters: dict[str, object] = {"id": run_id}
    if grep is not None:
        conditions.append("position(text, {grep:String}) > 0")
        parameters["grep"] = grep
    if behind is not None:
        conditions.append("tuple(at, line_no) > tuple(toDateTime64({at:String}, 6, 'UTC'), {line:UInt64})")
        parameters["at"], parameters["line"] = behind
    return session.query(
        f"SELECT toString(l.run_id) AS run_id, attempt, rank, stream, line_no, at, text "
        f"FROM {session.views}.logs AS l WHERE {' AND '.join(conditions)} "
        f"ORDER BY at, line_no, stream LIMIT {PAGE_LINES}",
        parameters,
    )


def print_log(
    session: Session,
    run_id: str,
    *,
    grep: str | None,
    write: Callable[[str], None],
    behind: tuple[str, int] | None = None,
) -> tuple[str, int] | None:
    """Write all lines behind `behind`; returns the place of the last one."""
    while True:
        rows: list[dict[str, Any]] = read_log(session, run_id, grep=grep, behind=behind).to_pylist()
        for row in rows:
            write(row["text"])
        if not rows:
            return behind
        behind = (rows[-1]["at"].strftime("%Y-%m-%d %H:%M:%S.%f"), int(rows[-1]["line_no"]))
        if len(rows) < PAGE_LINES:
            return behind


def follow_log(
    open_session: Callable[[], AbstractContextManager[Session]],
    run_id: str,
    *,
    grep: str | None,
    write: Callable[[str], None],
    behind: tuple[str, int] | None,
    clock: Clock,
) -> None:
    """Print new lines each second until the run is no longer running. A session a round: none is held open."""
    for session in _sessions(open_session, clock):
        running = session.query(
            f"SELECT state FROM {session.views}.runs WHERE run_id = {{id:UUID}}", {"id": run_id}
        )["state"].to_pylist() in (["running"], ["lost"])
        behind = print_log(session, run_id, grep=grep, write=write, behind=behind)
        if not running:
            return


def _sessions(open_session: Callable[[], AbstractContextManager[Session]], clock: Clock) -> Iterator[Session]:
    while True:
        with open_session() as session:
            yield session
        clock.sleep(FOLLOW_INTERVAL_S)
