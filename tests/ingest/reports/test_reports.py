"""Listing, showing, comparing and following runs, on real tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import HOUR_US, START_US, fixed_id
from support.ingest_store import fresh_store
from trainledger_ingest.curves import CURVE_BUCKETS, sparkline
from trainledger_ingest.reports.comparison import compare_runs
from trainledger_ingest.reports.description import describe_run
from trainledger_ingest.reports.listing import RUN_COLUMNS, RunChoice, list_runs, ls_cells
from trainledger_ingest.reports.log_follow import Looks, follow_log
from trainledger_ingest.reports.log_match import LogPattern
from trainledger_ingest.reports.logs import LogReader
from trainledger_ingest.reports.times import duration_text, parse_month, parse_time
from trainledger_ingest.run_lookup import find_run
from trainledger_ingest.session import Session
from trainledger_schemas.clock import ManualClock
from trainledger_schemas.errors import NotFoundError, UsageError

S = 1_000_000
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def number(key: str, value: float) -> dict[str, object]:
    return {"key": key, "value": str(value), "number": value}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledTables]:
    """Four runs: `fast` and `slow` of team red, two named `same`, all an hour apart."""
    tables = FilledTables(fresh_store(), tmp_path_factory.mktemp("reports"))
    runs = [
        (1, "fast", "red", 0.1),
        (2, "slow", "red", 0.01),
        (3, "same", "blue", 0.1),
        (4, "same", None, 0.1),
    ]
    for run, name, team, rate in runs:
        at = START_US + run * HOUR_US
        config = [number("rate", rate), {"key": "model", "value": "mlp", "number": None}]
        group, tags = ("sweep" if name == "fast" else None), (["good", "new"] if name == "slow" else [])
        tables.started(
            run, run + 10, at, name=name, team=team, project="vision", config=config, group=group, tags=tags
        )
        if name in ("fast", "slow"):
            tables.event(
                "metric_defined", at + S, run_id=fixed_id(run), writer_id=fixed_id(run + 10), at_us=at + S,
                key="score", goal="max",
            )  # fmt: skip
            tables.logged(run, run + 10, (at + S, 1, 2.0 * run), (at + 2 * S, 2, 1.0), key="score")
            tables.event(
                "summary_set", at + S, run_id=fixed_id(run), writer_id=fixed_id(run + 10), at_us=at + S,
                changes=[number("accuracy", 0.9 + rate), {"key": "by", "value": "hand", "number": None}],
            )  # fmt: skip
        tables.points(run, run + 10, loss=[1 / (1 + rate * step) for step in range(100)], same=[1.0] * 100)
        tables.exited(run, run + 10, at + 90 * S, "failed" if run == 4 else "finished")
    tables.take_in()
    yield tables


def names(tables: FilledTables, choice: RunChoice) -> list[str]:
    found, _ = list_runs(tables.session, choice)
    return [f"{row['name']} {str(row['run_id'])[-1]}" for row in found.to_pylist()]


def test_runs_are_listed_newest_first_with_the_columns_of_the_view(tables: FilledTables) -> None:
    found, more = list_runs(tables.session, RunChoice())
    assert tuple(found.column_names) == RUN_COLUMNS and not more
    assert found["run_id"].to_pylist() == [id_of(n) for n in (4, 3, 2, 1)]
    assert found["duration_s"].to_pylist() == [90.0] * 4


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (RunChoice(team="red"), ["slow 2", "fast 1"]),
        (RunChoice(state="failed"), ["same 4"]),
        (RunChoice(project="none"), []),
        (RunChoice(sort="name"), ["fast 1", "same 3", "same 4", "slow 2"]),
        (RunChoice(sort="-team"), ["fast 1", "slow 2", "same 3", "same 4"]),
        (RunChoice(sort="team", limit=1), ["same 3"]),
        (RunChoice(group="sweep"), ["fast 1"]),
        (RunChoice(tag="good"), ["slow 2"]),
        (RunChoice(sort="metric:loss", limit=1), ["fast 1"]),
        (RunChoice(sort="-metric:loss", limit=1), ["slow 2"]),
        (RunChoice(sort="metric:score"), ["slow 2", "fast 1", "same 3", "same 4"]),
        (RunChoice(sort="-metric:score", limit=2), ["fast 1", "slow 2"]),
        (RunChoice(sort="param:rate", limit=1), ["slow 2"]),
        (RunChoice(sort="param:model", team="red"), ["fast 1", "slow 2"]),
        (
            RunChoice(since=datetime.fromtimestamp(START_US / 1e6, UTC) + timedelta(hours=3)),
            ["same 4", "same 3"],
        ),
    ],
    ids=[
        "team",
        "state",
        "no project",
        "by name",
        "nothing last",
        "limit",
        "group",
        "tag",
        "by a metric",
        "down a metric",
        "best first",
        "best last",
        "by a number",
        "by a text",
        "since",
    ],
)
def test_a_list_holds_the_runs_that_were_asked_for(
    tables: FilledTables, choice: RunChoice, expected: list[str]
) -> None:
    assert names(tables, choice) == expected


def test_a_list_shows_the_columns_that_were_asked_for(tables: FilledTables) -> None:
    choice = RunChoice(
        columns=("name", "param:rate", "metric:loss", "metric:none"), sort="param:rate", limit=2
    )
    found, _ = list_runs(tables.session, choice)
    assert found.to_pylist() == [
        {"name": "slow", "param:rate": "0.01", "metric:loss": 1 / 1.99, "metric:none": None},
        {"name": "fast", "param:rate": "0.1", "metric:loss": 1 / 10.9, "metric:none": None},
    ]
    found, _ = list_runs(tables.session, RunChoice(sort="metric:loss", limit=1))
    assert found.column_names == [*RUN_COLUMNS, "metric:loss"]


def test_a_cut_list_says_so(tables: FilledTables) -> None:
    for limit, more in ((1, True), (3, True), (4, False), (5, False)):
        found, is_cut = list_runs(tables.session, replace(RunChoice(), limit=limit))
        assert (found.num_rows, is_cut) == (min(limit, 4), more)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"sort": "start_at"}, "cannot sort by 'start_at'; did you mean started_at"),
        ({"sort": "-zzz"}, "cannot sort by 'zzz'; the columns are run_id, project"),
        ({"sort": "metrics:loss"}, "cannot sort by 'metrics:loss'"),
        ({"state": "finish"}, "no state 'finish'; did you mean finished"),
        ({"state": "zzz"}, "no state 'zzz'; the states are running, finished"),
    ],
)
def test_an_unknown_column_or_state_is_refused_with_a_near_one(choice: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RunChoice(**choice)  # type: ignore[arg-type] # only texts are given


def test_a_cell_says_little_and_enough(tables: FilledTables) -> None:
    found, _ = list_runs(tables.session, RunChoice(state="failed"))
    assert ls_cells(found.to_pylist()[0]) == [
        id_of(4)[:8], "same", "vision", "-", "-", "failed", "2023-11-15 02:13:20", "1 min 30 s", "-",
    ]  # fmt: skip


def test_a_run_is_found_by_id_by_its_beginning_and_by_name(tables: FilledTables) -> None:
    told: list[str] = []
    assert find_run(tables.session, id_of(2), say=told.append) == id_of(2)
    assert find_run(tables.session, id_of(2).upper(), say=told.append) == id_of(2)
    assert find_run(tables.session, "slow", say=told.append) == id_of(2)
    unique = id_of(3)[: next(n for n in range(36) if id_of(3)[:n] != id_of(4)[:n])]
    assert find_run(tables.session, unique, say=told.append) == id_of(3)
    assert told == []


def test_a_shared_name_means_the_newest_run_and_says_so(tables: FilledTables) -> None:
    told: list[str] = []
    assert find_run(tables.session, "same", say=told.append) == id_of(4)
    assert told == [f"2 runs are named 'same'; this is the newest, {id_of(4)}"]


def test_the_beginning_of_several_ids_names_them(tables: FilledTables) -> None:
    with pytest.raises(
        UsageError, match=f"several runs begin with '0': {id_of(4)}, {id_of(3)}.*give more of the id"
    ):
        find_run(tables.session, "0", say=print)


@pytest.mark.parametrize("reference", ["nobody", "", "%", "fff", "0000000'", "--"])
def test_an_unknown_run_is_not_found(tables: FilledTables, reference: str) -> None:
    with pytest.raises(NotFoundError, match="`trainledger ls` lists the runs"):
        find_run(tables.session, reference, say=print)


def test_compare_shows_differences_alone(tables: FilledTables) -> None:
    rows = compare_runs(tables.session, [id_of(1), id_of(2)])
    differing = {(row["what"], row["key"]): row for row in rows}
    assert set(differing) == {
        ("parameter", "rate"), ("summary", "accuracy"), ("result", "loss (last)"), ("result", "score (max)"),
    }  # fmt: skip
    assert differing["summary", "accuracy"]["values"] == {id_of(1): 1.0, id_of(2): 0.91}
    assert differing["summary", "accuracy"]["difference_pct"] == {id_of(1): None, id_of(2): pytest.approx(-9)}
    assert differing["parameter", "rate"]["values"] == {id_of(1): 0.1, id_of(2): 0.01}
    assert set(differing["parameter", "rate"]["difference_pct"].values()) == {None}
    states = compare_runs(tables.session, [id_of(3), id_of(4)])
    assert [(row["key"], list(row["values"].values())) for row in states if row["what"] == "run"] == [
        ("state", ["finished", "failed"]), ("team", ["blue", "-"]),
    ]  # fmt: skip


def test_compare_shows_everything_when_asked(tables: FilledTables) -> None:
    rows = compare_runs(tables.session, [id_of(1), id_of(2), id_of(3)], all_rows=True)
    found = {(row["what"], row["key"]): list(row["values"].values()) for row in rows}
    assert found["parameter", "model"] == ["mlp", "mlp", "mlp"]
    assert found["summary", "by"] == ["hand", "hand", None]
    assert found["usage", "duration_s"] == [90.0, 90.0, 90.0] and found["cost", "cost"] == ["-", "-", "-"]
    assert [row["what"] for row in rows] == sorted(
        (row["what"] for row in rows), key=["run", "parameter", "summary", "result", "usage", "cost"].index
    )


def test_show_has_the_row_of_the_view_and_a_course_of_each_metric(tables: FilledTables) -> None:
    picture = describe_run(tables.session, id_of(1))
    assert tuple(picture.row) == RUN_COLUMNS and picture.title == "fast"
    sections = {section.title: section for section in picture.sections}
    loss, same, _ = sections["results"].rows
    assert loss[0] == "loss" and len(loss[1]) == CURVE_BUCKETS
    assert (loss[1][0], loss[1][-1]) == ("█", "▁") and list(loss[1]) == sorted(loss[1], reverse=True)
    assert same[1] == "▁" * CURVE_BUCKETS
    assert sections["parameters"].rows == (("model", "mlp"), ("rate", "0.1"))
    assert sections["summary"].rows == (("accuracy", "1.0"), ("by", "hand"))
    assert [row[4] for row in sections["processes"].rows] == ["finished"]


def test_show_says_when_a_run_was_at_its_best_and_which_model_was_written_then(tables: FilledTables) -> None:
    at = START_US + HOUR_US
    for second, name in ((1.5, "early"), (3.0, "late")):
        moment = at + int(second * S)
        tables.event(
            "artifact_logged", moment, run_id=fixed_id(1), writer_id=fixed_id(11), at_us=moment, kind="model",
            name=name, artifact_id=fixed_id(int(second * 10)), stage=0, status="complete", uri=None,
            digest=f"sha256:{name}", size_bytes=1, files=1, manifest_sha256=None, is_stored=True, new_bytes=1,
            aliases=[], reasons=[],
        )  # fmt: skip
    tables.take_in()
    sections = {section.title: section for section in describe_run(tables.session, id_of(1)).sections}
    score = next(row for row in sections["results"].rows if row[0] == "score")
    assert score[6] == "2 at 1, after 1.0 s (max)"
    assert sections["models"].columns == ("model", "digest", "score then")
    assert [(row[0].partition(":")[0], row[2]) for row in sections["models"].rows] == [
        ("early", "2 at 1 (best)"), ("late", "1 at 2"),
    ]  # fmt: skip
    without_goal = {section.title for section in describe_run(tables.session, id_of(3)).sections}
    assert "models" not in without_goal and "last lines" not in without_goal


def test_show_of_a_failed_run_begins_with_its_last_lines(tables: FilledTables) -> None:
    at = START_US + 4 * HOUR_US
    tables.log_lines(4, 14, *((at + n * S, f"line {n}") for n in range(30)))
    tables.log_lines(4, 14, (at + 30 * S, "RuntimeError: out of cards"), stream="stderr")
    tables.take_in()
    first, *_ = describe_run(tables.session, id_of(4)).sections
    assert first.title == "last lines" and len(first.rows) == 12
    assert first.rows[-2:] == (
        ("02:13:49", "-", "stdout", "line 29"),
        ("02:13:50", "-", "stderr", "RuntimeError: out of cards"),
    )


def test_a_sparkline_follows_the_values() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([-1e308, 0.0, 1e308]) == "▁▅█"
    assert sparkline([1.0, None, float("nan"), float("inf"), 2.0]) == "▁   █"
    assert sparkline([]) == "" and sparkline([float("nan")]) == "" and sparkline([5.0]) == "▁"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T10:00", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("2026-11-01T10:00+02:00", datetime(2026, 11, 1, 8, tzinfo=UTC)),
        ("2026-11-01T10:00:00Z", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("30m", NOW - timedelta(minutes=30)),
        (" 7 d", NOW - timedelta(days=7)),
    ],
)
def test_a_time_is_read_as_people_write_it(text: str, moment: datetime) -> None:
    assert parse_time(text, now=NOW) == moment


@pytest.mark.parametrize(
    "text", ["yesterday", "", "7", "7y", "2026-02-30", "99999999w", "1969-12-31", "9999-12-31T23:59-10:00"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not"):
        parse_time(text, now=NOW)


def test_a_month_is_from_its_first_moment_to_the_next() -> None:
    assert parse_month("2026-12") == (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    for text in ("2026-13", "2026", "9999-12", "0001-01", "november"):
        with pytest.raises(UsageError, match="is not"):
            parse_month(text)


def test_a_duration_is_told_in_two_units() -> None:
    told = [duration_text(s) for s in (None, 0, 59.94, 200, 8040, 442_800)]
    assert told == ["-", "0.0 s", "59.9 s", "3 min 20 s", "2 h 14 min", "5 d 3 h"]


@pytest.fixture
def logs(tables: FilledTables) -> FilledTables:
    """Run 5 with two ranks, whose lines arrive out of order."""
    at = START_US + 9 * HOUR_US
    if not tables.rows("logs", rest=f"WHERE run_id = '{id_of(5)}'"):
        for rank, writer in enumerate((51, 52)):
            tables.started(5, writer, at, name="talk", rank=rank, world_size=2)
        tables.log_lines(5, 51, *((at + n * S, f"zero {n}") for n in range(5)))
        tables.log_lines(5, 52, *((at + n * S + 1, f"one {n}") for n in range(3)))
        tables.log_lines(5, 51, (at + 2 * S, "zero error"), stream="stderr")
        tables.take_in()
    return tables


def test_lines_of_all_ranks_and_streams_come_by_time_on_pages_of_any_size(logs: FilledTables) -> None:
    whole = [row["text"] for row in LogReader(id_of(5)).read(logs.session)]
    assert whole == [
        "zero 0",
        "one 0",
        "zero 1",
        "one 1",
        "zero error",
        "zero 2",
        "one 2",
        "zero 3",
        "zero 4",
    ]
    for lines in (1, 2, 3, 8, 9):
        assert [row["text"] for row in LogReader(id_of(5), page_lines=lines).read(logs.session)] == whole
    row = next(LogReader(id_of(5)).read(logs.session))
    assert list(row) == ["run_id", "attempt", "rank", "stream", "line_no", "at", "text"]


def found(logs: FilledTables, pattern: LogPattern) -> list[str]:
    return [row["text"] for row in LogReader(id_of(5), pattern).read(logs.session)]


def test_grep_is_a_plain_text(logs: FilledTables) -> None:
    assert found(logs, LogPattern("error")) == ["zero error"]
    for text in ("zero.*", "%", "_", "zero%or"):
        assert found(logs, LogPattern(text)) == []


class ArrivingLines(ManualClock):
    """Between two looks of a follower, the next thing happens."""

    def __init__(self, tables: FilledTables) -> None:
        super().__init__()
        self._tables = tables
        self.rounds = 0

    def sleep(self, seconds: float) -> None:
        at = START_US + 9 * HOUR_US
        self.rounds += 1
        if self.rounds == 1:
            # Behind all lines of the other rank that were printed already.
            self._tables.log_lines(5, 52, (at + 2 * S + 2, "one late"))
            self._tables.log_lines(5, 51, (at + 5 * S, "zero 5"))
        elif self.rounds == 2:
            self._tables.log_lines(5, 51, (at + 6 * S, "zero last"))
            for writer in (51, 52):
                self._tables.exited(5, writer, at + 7 * S)
        self._tables.take_in()


def test_following_prints_every_line_once_late_ones_too_and_ends_with_the_run(logs: FilledTables) -> None:
    @contextmanager
    def open_session() -> Iterator[Session]:
        yield logs.session

    reader = LogReader(id_of(5))
    already = [row["text"] for row in reader.read(logs.session)]
    assert len(already) == 9
    told: list[str] = []
    clock = ArrivingLines(logs)
    follow_log(
        Looks(open_session, open_session),
        reader,
        write=lambda row: told.append(row["text"]),
        clock=clock,
        say=print,
        pause_s=lambda: 1.0,
    )
    assert told == ["one late", "zero 5", "zero last"]
    # One more look after the end: the wrapper of a command writes last.
    assert clock.rounds == 3


def test_no_cell_of_show_is_wider_than_a_line_and_ranks_are_told(tables: FilledTables) -> None:
    at, long = START_US + 40 * HOUR_US, "n" * 5000
    settings = [{"key": "note", "value": long, "number": None}]
    for rank in (0, 1):
        tables.started(40, 400 + rank, at, config=settings, rank=rank, world_size=2, tags=[long[:200]] * 3)
    tables.logged(40, 400, (at + S, 1, 0.5))
    tables.event(
        "artifact_logged", at, run_id=fixed_id(40), writer_id=fixed_id(400), at_us=at, kind="model", name=long,
        artifact_id=fixed_id(401), stage=0, status="complete", uri=f"/{long}", digest="sha256:4040", size_bytes=1,
        files=1, manifest_sha256=None, is_stored=True, new_bytes=1, aliases=[], reasons=[],
    )  # fmt: skip
    tables.take_in()
    picture = describe_run(tables.session, id_of(40))
    titles = {section.title for section in picture.sections}
    assert {
        "parameters",
        "inputs and outputs",
        "results (last, min, max and best over all 2 ranks)",
    } <= titles
    assert max(len(cell) for section in picture.sections for row in section.rows for cell in row) <= 200
    assert max(len(value) for _, value in picture.facts) <= 200
