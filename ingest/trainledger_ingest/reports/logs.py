"""The output of a run, in the order in which it was read, page by page: a log of any length takes little memory.

What was given is remembered by stream, one of a process: a line of another rank that arrives late is given when it
arrives, and none is given twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..session import Session
from .log_match import LogPattern

__all__ = ["LogReader"]

PAGE_LINES = 100_000
# With more streams than this the condition says less, and more lines are read to be dropped here.
STREAMS_NAMED_MAX = 200
_PLACE = ("at", "writer_id", "stream", "line_no")

Stream = tuple[str, str]
"""The id of a process and the name of a stream of it."""


@dataclass(slots=True)
class LogReader:
    """Reads the lines of a run that it has not given yet.

    `pattern`: only lines that match; `rank`: only those of this rank."""

    run_id: str
    pattern: LogPattern | None = None
    page_lines: int = PAGE_LINES
    rank: int | None = None
    _last_lines: dict[Stream, int] = field(default_factory=dict)
    _has_read: bool = False

    def read(self, session: Session) -> Iterator[dict[str, Any]]:
        """New lines as rows of view logs, by time. All of them must be taken for the next call to be right."""
        known = dict(self._last_lines)
        # Later calls look at every new line: what was looked at must not be read again, whether it matched or not.
        by_engine = self.pattern if not self._has_read else None
        ends = self._ends(session) if by_engine is not None else {}
        behind: dict[str, object] = {}
        while True:
            rows = self._read_page(session, known, behind, by_engine)
            if rows:
                behind = {f"last_{name}": rows[-1][name] for name in _PLACE}
                behind["last_at"] = f"{rows[-1]['at']:%Y-%m-%d %H:%M:%S.%f}"
            for row in self._chosen(rows, by_engine):
                stream = (row.pop("writer_id"), row["stream"])
                if row["line_no"] > known.get(stream, 0):
                    yield row
            if len(rows) < self.page_lines:
                break
        for stream, line_no in ends.items():
            self._note(stream, line_no)
        self._has_read = True

    def _chosen(self, rows: list[dict[str, Any]], by_engine: LogPattern | None) -> Iterator[dict[str, Any]]:
        fits = [True] * len(rows)
        if self.pattern is not None and by_engine is None:
            fits = self.pattern.matches([row["text"] for row in rows])
        for row, is_wanted in zip(rows, fits, strict=True):
            self._note((row["writer_id"], row["stream"]), row["line_no"])
            if is_wanted:
                yield row

    def _note(self, stream: Stream, line_no: int) -> None:
        self._last_lines[stream] = max(self._last_lines.get(stream, 0), line_no)

    def _ends(self, session: Session) -> dict[Stream, int]:
        rows = session.query(
            f"SELECT toString(l.writer_id) AS writer, stream, max(line_no) AS last FROM {session.views}.logs AS l "
            "WHERE l.run_id = {id:UUID} GROUP BY writer, stream",
            {"id": self.run_id},
        ).to_pylist()
        return {(row["writer"], row["stream"]): row["last"] for row in rows}

    def _read_page(
        self,
        session: Session,
        known: dict[Stream, int],
        behind: dict[str, object],
        pattern: LogPattern | None,
    ) -> list[dict[str, Any]]:
        conditions = ["l.run_id = {id:UUID}"]
        parameters: dict[str, object] = {"id": self.run_id} | behind
        if pattern is not None:
            condition, told = pattern.condition("l.text")
            conditions.append(condition)
            parameters |= told
        if self.rank is not None:
            conditions.append("rank = {rank:UInt32}")
            parameters["rank"] = self.rank
        if known:
            condition, told = _behind_known(known)
            conditions.append(condition)
            parameters |= told
        if behind:
            conditions.append(
                "tuple(l.at, toString(l.writer_id), l.stream, l.line_no) > "
                "tuple(toDateTime64({last_at:String}, 6, 'UTC'), {last_writer_id:String}, {last_stream:String}, "
                "{last_line_no:UInt64})"
            )
        rows: list[dict[str, Any]] = session.query(
            "SELECT toString(l.run_id) AS run_id, attempt, rank, l.stream AS stream, l.line_no AS line_no, "
            "l.at AS at, l.text AS text, toString(l.writer_id) AS writer_id "
            f"FROM {session.views}.logs AS l WHERE {' AND '.join(conditions)} "
            f"ORDER BY {', '.join(_PLACE)} LIMIT {self.page_lines}",
            parameters,
        ).to_pylist()
        return rows


def _behind_known(known: dict[Stream, int]) -> tuple[str, dict[str, object]]:
    """Lines of streams that are new, and those behind what is known, said so that the key of the table helps."""
    if len(known) > STREAMS_NAMED_MAX:
        writers = sorted({writer for writer, _ in known})
        return (
            "(l.line_no > {least:UInt64} OR l.writer_id NOT IN {writers:Array(UUID)})",
            {"least": min(known.values()), "writers": writers},
        )
    parameters: dict[str, object] = {}
    parts = []
    for place, ((writer, stream), line_no) in enumerate(known.items()):
        parameters |= {f"w{place}": writer, f"s{place}": stream, f"n{place}": line_no}
        parts.append(
            f"(l.writer_id = {{w{place}:UUID}} AND l.stream = {{s{place}:String}} AND l.line_no > {{n{place}:UInt64}})"
        )
    pairs = ", ".join(f"({{w{n}:UUID}}, {{s{n}:String}})" for n in range(len(known)))
    return f"({' OR '.join(parts)} OR (l.writer_id, l.stream) NOT IN ({pairs}))", parameters
