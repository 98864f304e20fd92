"""The output of a run, in the order in which it was read; `follow_log` goes on as lines come.

Lines are read page by page, so a log of any length passes through little memory. What was printed is remembered
by stream: a line of another rank that arrives late is printed when it arrives, and none is printed twice.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from trainledger_schemas.clock import Clock

from ..session import Session

__all__ = ["LogReader", "follow_log"]

FOLLOW_INTERVAL_S = 1.0
PAGE_LINES = 100_000
_STREAM = "concat(toString(attempt), ' ', toString(ifNull(toInt64(rank), -1)), ' ', stream)"
_PLACE = ("at", "attempt", "place_rank", "stream", "line_no")


@dataclass(slots=True)
class LogReader:
    """Reads the lines of a run that it has not given yet.

    `grep`: only lines that contain this text; `rank`: only those of this rank.
    """

    run_id: str
    grep: str | None = None
    page_lines: int = PAGE_LINES
    rank: int | None = None
    _last_lines: dict[str, int] = field(default_factory=dict)

    def read(self, session: Session) -> Iterator[dict[str, Any]]:
        """New lines as rows of view logs, by time. All of them must be taken for the next call to be right."""
        known = dict(self._last_lines)
        behind: dict[str, object] = {}
        while True:
            rows = self._read_page(session, known, behind)
            if rows:
                behind = {f"last_{name}": rows[-1][name] for name in _PLACE}
                behind["last_at"] = f"{rows[-1]['at']:%Y-%m-%d %H:%M:%S.%f}"
            for row in rows:
                stream = row.pop("place_stream")
                del row["place_rank"]
                self._last_lines[stream] = max(self._last_lines.get(stream, 0), row["line_no"])
                yield row
            if len(rows) < self.page_lines:
                return

    def _read_page(
        self, session: Session, known: dict[str, int], behind: dict[str, object]
    ) -> list[dict[str, Any]]:
        conditions = ["l.run_id = {id:UUID}"]
        parameters: dict[str, object] = {"id": self.run_id} | behind
        if self.grep is not None:
            conditions.append("position(text, {grep:String}) > 0")
            parameters["grep"] = self.grep
        if self.rank is not None:
            conditions.append("l.rank = {rank:UInt32}")
            parameters["rank"] = self.rank
        if known:
            conditions.append(
                f"line_no > transform({_STREAM}, {{streams:Array(String)}}, {{lines:Array(UInt64)}}, toUInt64(0))"
            )
            parameters |= {"streams": list(known), "lines": list(known.values())}
        if behind:
            conditions.append(
                f"tuple({', '.join(_PLACE)}) > tuple(toDateTime64({{last_at:String}}, 6, 'UTC'), "
                "{last_attempt:UInt16}, {last_place_rank:Int64}, {last_stream:String}, {last_line_no:UInt64})"
            )
        rows: list[dict[str, Any]] = session.query(
            f"SELECT toString(l.run_id) AS run_id, attempt, rank, stream, line_no, at, text, "
            f"ifNull(toInt64(rank), -1) AS place_rank, {_STREAM} AS place_stream "
            f"FROM {session.views}.logs AS l WHERE {' AND '.join(conditions)} "
            f"ORDER BY {', '.join(_PLACE)} LIMIT {self.page_lines}",
            parameters,
        ).to_pylist()
        return rows


def follow_log(
    open_session: Callable[[], AbstractContextManager[Session]],
    reader: LogReader,
    *,
    write: Callable[[str], None],
    clock: Clock,
) -> None:
    """Print new lines each second until the run is no longer running. A session a round: none is held open."""
    while True:
        with open_session() as session:
            # Before the lines: what a run wrote last is in the tables when its end is.
            states = session.query(
                f"SELECT state FROM {session.views}.runs WHERE run_id = {{id:UUID}}", {"id": reader.run_id}
            )["state"].to_pylist()
            for row in reader.read(session):
                write(row["text"])
        if states not in (["running"], ["lost"]):
            return
        clock.sleep(FOLLOW_INTERVAL_S)
