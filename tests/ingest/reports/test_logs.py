"""Searching lines of all runs, and following a run through all that goes wrong on the way, on real tables."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import HOUR_US, START_US
from support.ingest_store import fresh_store
from trainledger_ingest.reports.log_follow import Looks, follow_log
from trainledger_ingest.reports.log_match import LogPattern
from trainledger_ingest.reports.log_search import LogSearch, search_logs
from trainledger_ingest.reports.logs import STREAMS_NAMED_MAX, LogReader
from trainledger_ingest.reports.rank_output import why_no_output_of_rank
from trainledger_ingest.session import Session
from trainledger_schemas.clock import ManualClock
from trainledger_schemas.errors import RetryableError, UsageError

S = 1_000_000


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledTables]:
    """Runs 1 to 3, an hour apart: 30 lines each; run 3 has two ranks."""
    tables = FilledTables(fresh_store(), tmp_path_factory.mktemp("logs"))
    for run, name, project in ((1, "old", "vision"), (2, "odd", "vision"), (3, "new", "text")):
        at = START_US + run * HOUR_US
        ranks = (0, 1) if run == 3 else (None,)
        for rank in ranks:
            writer = run * 10 + (rank or 0)
            tables.started(run, writer, at, name=name, project=project, rank=rank, world_size=len(ranks))
            lines = [f"step {n} of run {name}" for n in range(30)]
            lines[7] = f"CUDA Error: device-side assert in {name}"
            if run == 2:
                lines[20] = "100%_done | C:\\temp"
            tables.log_lines(run, writer, *((at + n * S, line) for n, line in enumerate(lines)))
    tables.take_in()
    yield tables


def search(tables: FilledTables, text: str, **options: object) -> list[tuple[str, int, bool]]:
    pattern = LogPattern(text, bool(options.pop("regex", False)), bool(options.pop("ignore_case", False)))
    rows, _ = search_logs(tables.session, LogSearch(pattern, **options))  # type: ignore[arg-type] # as the test says
    return [(f"{row['name']} {row['rank']}", row["line_no"], row["is_match"]) for row in rows]


def test_a_text_is_found_in_all_runs_the_newest_first(tables: FilledTables) -> None:
    assert search(tables, "device-side") == [
        ("new 0", 8, True), ("new 1", 8, True), ("odd None", 8, True), ("old None", 8, True),
    ]  # fmt: skip
    rows, more = search_logs(tables.session, LogSearch(LogPattern("device-side"), limit=3))
    assert len(rows) == 3 and more
    assert {name: rows[0][name] for name in ("run_id", "project", "stream", "text")} == {
        "run_id": id_of(3), "project": "text", "stream": "stdout", "text": "CUDA Error: device-side assert in new",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "options", "runs"),
    [
        ("cuda error", {}, []),
        ("cuda error", {"ignore_case": True}, ["new 0", "new 1", "odd None", "old None"]),
        ("assert in [no]", {}, []),
        ("assert in [no]", {"regex": True}, ["new 0", "new 1", "odd None", "old None"]),
        ("ASSERT in o[l]d$", {"regex": True, "ignore_case": True}, ["old None"]),
        ("device-side", {"project": "vision"}, ["odd None", "old None"]),
        ("device-side", {"run_id": id_of(2)}, ["odd None"]),
        (
            "device-side",
            {"since": datetime.fromtimestamp((START_US + 2 * HOUR_US) / 1e6, UTC)},
            ["new 0", "new 1", "odd None"],
        ),
        ("100%_done", {}, ["odd None"]),
        ("100__done", {}, []),
        ("1%e", {}, []),
        ("C:\\temp", {}, ["odd None"]),
        ("nowhere at all", {}, []),
    ],
)
def test_a_search_finds_what_was_asked_for(
    tables: FilledTables, text: str, options: dict[str, object], runs: list[str]
) -> None:
    assert [name for name, _, _ in search(tables, text, **options)] == runs


def test_lines_around_a_match_are_of_its_own_stream_and_come_once(tables: FilledTables) -> None:
    found = search(tables, "device-side", context=2, project="text")
    assert found == [(f"new {rank}", line, line == 8) for rank in (0, 1) for line in (6, 7, 8, 9, 10)]
    # Two matches whose surroundings overlap, and one at the start.
    found = search(tables, "step [0129] of", context=1, regex=True, run_id=id_of(1))
    assert [line for _, line, _ in found] == [1, 2, 3, 4, 9, 10, 11]
    assert [line for _, line, is_match in found if is_match] == [1, 2, 3, 10]


def test_a_rare_word_is_looked_up_and_not_read_for(tables: FilledTables) -> None:
    condition, parameters = LogPattern("device-side").condition("l.text")
    plan = tables.store.rows(
        f"EXPLAIN indexes = 1 SELECT l.line_no FROM {tables.session.views}.logs AS l WHERE {condition}",
        parameters,
    )
    assert any("text_grams" in str(row) for row in plan)


def test_what_is_no_pattern_is_refused() -> None:
    for text, is_regex in (("", False), ("(", True)):
        with pytest.raises(UsageError, match="--grep"):
            LogPattern(text, is_regex)


class Rounds(ManualClock):
    """Between two looks of a follower, the next thing happens; after the last, the run ends."""

    def __init__(self, *things: Callable[[], object]) -> None:
        super().__init__()
        self._things = list(things)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self._things:
            self._things.pop(0)()


def follow(
    tables: FilledTables, reader: LogReader, clock: ManualClock, session: Session
) -> tuple[list[str], list[str]]:
    @contextmanager
    def opened() -> Iterator[Session]:
        yield session

    told: list[str] = []
    said: list[str] = []
    follow_log(
        Looks(opened, opened),
        reader,
        write=lambda row: told.append(row["text"]),
        clock=clock,
        say=said.append,
        pause_s=lambda: 1.0,
    )
    return told, said


class FailingSession:
    """The session of tables whose `up` is started anew in the middle: the n-th questions fail."""

    def __init__(self, session: Session, *failing: int) -> None:
        self.views = session.views
        self._session = session
        self._failing = failing
        self.asked = 0

    def query(self, sql: str, parameters: object = None) -> object:
        self.asked += 1
        if self.asked in self._failing:
            raise RetryableError("up does not answer")
        return self._session.query(sql, parameters)  # type: ignore[arg-type] # passed on


def open_run(tables: FilledTables, run: int) -> int:
    tables.started(run, run * 10, START_US + 9 * HOUR_US)
    tables.take_in()
    return START_US + 9 * HOUR_US


@pytest.mark.parametrize("failing", [(1, 2), (3,), (5, 6), (7, 8, 9)], ids=str)
def test_a_follower_waits_for_up_and_gives_no_line_twice(
    tables: FilledTables, failing: tuple[int, ...]
) -> None:
    run = 100 + failing[0]
    at = open_run(tables, run)
    tables.log_lines(run, run * 10, *((at + n, f"line {n}") for n in range(5)))
    tables.take_in()

    def write() -> None:
        tables.log_lines(run, run * 10, (at + 10 * S, "line 5"), (at + 11 * S, "line 6"))
        tables.take_in()

    def end() -> None:
        tables.exited(run, run * 10, at + 20 * S)
        tables.log_lines(run, run * 10, (at + 21 * S, "after the end"))
        tables.take_in()

    session = FailingSession(tables.session, *failing)
    # Pages of two lines: it fails between the pages of one look too.
    told, said = follow(tables, LogReader(id_of(run), page_lines=2), Rounds(write, end), session)  # type: ignore[arg-type] # as much of one as is asked
    assert told == [f"line {n}" for n in range(7)] + ["after the end"]
    assert said == ["waiting: up does not answer"]


def test_a_follower_gives_up_after_ten_minutes(tables: FilledTables) -> None:
    open_run(tables, 120)
    clock = Rounds()
    with pytest.raises(RetryableError):
        follow(tables, LogReader(id_of(120)), clock, FailingSession(tables.session, *range(1, 10_000)))  # type: ignore[arg-type] # as above
    assert 600 <= clock.monotonic_ns() / 1e9 <= 610


def test_following_with_grep_looks_at_new_lines_alone(tables: FilledTables) -> None:
    at = open_run(tables, 130)
    tables.log_lines(130, 1300, (at, "a loss"), (at + 1, "b"), (at + 2, "c"))
    tables.take_in()

    def write() -> None:
        tables.log_lines(130, 1300, (at + 3, "d"), (at + 4, "e loss"))
        tables.log_lines(130, 1300, (at + 5, "f loss"), stream="stderr")
        tables.take_in()

    def end() -> None:
        tables.exited(130, 1300, at + 20 * S)
        tables.take_in()

    told, _ = follow(tables, LogReader(id_of(130), LogPattern("loss")), Rounds(write, end), tables.session)
    assert told == ["a loss", "e loss", "f loss"]


def test_lines_of_more_processes_than_a_condition_can_name_come_once(tables: FilledTables) -> None:
    at = open_run(tables, 140)
    writers = range(2000, 2000 + STREAMS_NAMED_MAX + 1)
    for writer in writers:
        tables.log_lines(140, writer, (at + writer, f"first of {writer}"))
    tables.take_in()
    reader = LogReader(id_of(140))
    assert len(list(reader.read(tables.session))) == len(writers)
    tables.log_lines(140, 2003, (at + S, "second"))
    tables.log_lines(140, 1999, (at + S, "of a new process"))
    tables.take_in()
    assert sorted(row["text"] for row in reader.read(tables.session)) == ["of a new process", "second"]
    assert list(reader.read(tables.session)) == []


def test_why_there_is_no_output_of_a_rank(tables: FilledTables) -> None:
    at = START_US + 9 * HOUR_US
    # The ranks of run 9 write nothing; what was around them all recorded the output.
    tables.started(9, 90, at, role="wrapper", world_size=None)
    for rank in (0, 1, 2):
        tables.started(9, 91 + rank, at, joined="env", rank=rank, world_size=3)
    tables.log_lines(9, 90, (at, "loss 1"))
    tables.take_in()

    def why(run: int, rank: int, *, is_search: bool = False) -> str:
        return why_no_output_of_rank(tables.session, id_of(run), rank, is_search=is_search)

    assert "not split by rank" in why(9, 1) and "not split by rank" in why(9, 2, is_search=True)
    assert why(9, 7) == "the run has no rank 7; its ranks: 0-2"
    assert why(3, 1, is_search=True) == "no line of rank 1 contains that text"
    assert why(1, 0) == "the run has no ranks"


def test_a_follower_looks_cheaply_and_once_at_everything_before_it_ends(tables: FilledTables) -> None:
    run = 177
    at = open_run(tables, run)
    tables.log_lines(run, run * 10, (at, "seen at a glance"))
    tables.exited(run, run * 10, at + 5_000_000)
    tables.take_in()
    # Written, and in no table yet: what a wrapper writes after the end of its command.
    tables.log_lines(run, run * 10, (at + 6_000_000, "the last line"))
    looks: list[str] = []

    @contextmanager
    def glance() -> Iterator[Session]:
        looks.append("glance")
        yield tables.session

    @contextmanager
    def complete() -> Iterator[Session]:
        looks.append("complete")
        tables.take_in()
        yield tables.session

    told: list[str] = []
    follow_log(
        Looks(complete, glance),
        LogReader(id_of(run), None),
        write=lambda row: told.append(row["text"]),
        clock=ManualClock(),
        say=lambda _: None,
        pause_s=lambda: 1.0,
    )
    assert told == ["seen at a glance", "the last line"]
    assert looks == ["glance", "complete", "complete"]
