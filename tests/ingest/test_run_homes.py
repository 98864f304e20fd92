"""Processes that a guess joined are split off and merged as people decide: every table of runs and money follows."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import HOUR_US, START_US, fixed_id
from support.ingest_store import fresh_store, unused_store
from trainledger_ingest.derive import Derivation
from trainledger_ingest.ingest_settings import WorkerSettings
from trainledger_ingest.public_views import public_view_names
from trainledger_ingest.rebuild import rebuild_generation
from trainledger_ingest.reports.description import describe_run
from trainledger_ingest.run_homes import Decisions
from trainledger_ingest.run_lookup import find_run
from trainledger_ingest.run_moves import chosen_writers, find_decision
from trainledger_ingest.sources.memory import MemorySource
from trainledger_ingest.storage.migrate import sql_files
from trainledger_ingest.worker import Worker
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import UsageError

S = 1_000_000
BEGIN = START_US - START_US % HOUR_US
VIEWS = {
    "runs": "run_id, state, state_reason, attempts, ranks, nodes, started_at, ended_at, cost, gpu_hours, tags",
    "run_writers": "run_id, writer_id, attempt, rank, state, joined",
    "metrics": "run_id, attempt, rank, key, step, value",
    "metric_summary": "run_id, key, points, first_step, last_step, last, min, max, best, goal",
    "params": "run_id, key, value, attempt, is_current",
    "summary": "run_id, key, value, is_current",
    "logs": "run_id, rank, line_no, text",
    "provenance": "run_id, attempt, commit",
    "run_io": "run_id, direction, name",
    "run_usage": "run_id, rank, cpu_seconds",
    "cost_lines": "usage_hour, node_id, kind, run_id, cost",
    "node_bills": "day, node_id, bill, run, difference",
    "rank_steps": "run_id, rank, key, steps",
}


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[FilledTables]:
    yield FilledTables(fresh_store(), tmp_path)


def number(key: str, value: float) -> dict[str, Any]:
    return {"key": key, "value": str(value), "number": value}


def process(tables: FilledTables, run: int, writer: int, rank: int, *, status: str, after_s: int) -> None:
    """One rank: parameters, code, points, lines, a dataset, use of a node of its own, its end."""
    at, node = BEGIN + after_s * S, f"node-{writer}"
    ids: dict[str, Any] = {"run_id": fixed_id(run), "writer_id": fixed_id(writer)}
    tables.started(run, writer, at, node=node, rank=rank, world_size=2, joined="environment", join="weak",
                   name=f"of-{writer}", config=[number("lr", writer)], tags=[f"t{writer}"])  # fmt: skip
    tables.event(
        "provenance", at + S, **ids, at_us=at + S, vcs="git", repository="r", commit=f"c{writer}", branch=None,
        dirty=False, entry_point="t.py", argv=["t.py"], python="3.11", packages={"a": "1"}, os="linux", reasons=[],
    )  # fmt: skip
    tables.event("summary_set", at + 5 * S, **ids, at_us=at + 5 * S, changes=[number("best", writer)])
    tables.event("metric_defined", at + 5 * S, **ids, at_us=at + 5 * S, key=f"loss-{writer}", goal="min")
    tables.points(run, writer, **{"loss": [3.0 + writer, 2.0, 1.0], f"loss-{writer}": [1.0, 2.0, 3.0]})
    tables.log_lines(run, writer, (at + 6 * S, f"line of {writer}"))
    tables.event(
        "dataset_used", at + 7 * S, **ids, at_us=at + 7 * S, use_id=fixed_id(1000 + writer), stage=0, kind="dataset",
        name=f"data-{writer}", version=None, role=None, uri=None, digest=None, size_bytes=None, files=None,
        manifest_sha256=None, status="declared", system=None, reference=None, is_fixed=None, reasons=[],
    )  # fmt: skip
    tables.present(at, at + 30 * S, at + 60 * S, node=node)
    tables.usage(at, at + 60 * S, (run, writer), node=node)
    tables.exited(run, writer, at + 60 * S, status)


def moved(
    tables: FilledTables, change: int, source: int, target: int, *writers: int, undoes: int | None = None
) -> None:
    tables.event(
        "writers_moved", BEGIN + change * S, at_us=BEGIN + change * S, change_id=fixed_id(change),
        from_run_id=fixed_id(source), to_run_id=fixed_id(target), writer_ids=[fixed_id(w) for w in writers],
        undoes=None if undoes is None else fixed_id(undoes), set_by="ann", note=None,
    )  # fmt: skip


def picture(tables: FilledTables) -> dict[str, list[str]]:
    """All views as sorted text: what a person can see."""
    return {
        view: sorted(repr(row) for row in tables.rows(view, columns=columns))
        for view, columns in VIEWS.items()
    }


def of_run(tables: FilledTables, run: int, view: str, column: str) -> list[Any]:
    rows = tables.rows(view, columns=column, rest=f"WHERE run_id = toUUID('{id_of(run)}') ORDER BY {column}")
    return [row[column] for row in rows]


def two_launches_as_one(tables: FilledTables) -> None:
    process(tables, 1, 11, 0, status="finished", after_s=0)
    process(tables, 1, 12, 1, status="failed", after_s=10)
    # What rank 1 started: a child, which says nothing of where it belongs but by its parent.
    tables.started(1, 13, BEGIN + 20 * S, joined="parent", parent_writer=fixed_id(12), node="node-12")
    tables.points(1, 13, child=[1.0])
    tables.price(50, BEGIN, nano=3_600_000_000_000)


def test_a_split_gives_the_processes_and_their_children_a_run_with_all_that_is_theirs(
    tables: FilledTables,
) -> None:
    two_launches_as_one(tables)
    tables.take_in()
    before = picture(tables)
    total = sum(row["run"] for row in tables.rows("node_bills", columns="run"))
    moved(tables, 60, 1, 5, 12)
    tables.take_in()
    assert (of_run(tables, 1, "runs", "state"), of_run(tables, 5, "runs", "state")) == (
        ["finished"],
        ["failed"],
    )
    assert (of_run(tables, 1, "runs", "ranks"), of_run(tables, 5, "runs", "name")) == ([1], ["of-12"])
    assert of_run(tables, 5, "runs", "tags") == [["t12"]]
    assert of_run(tables, 1, "run_writers", "pid") == [111]
    assert of_run(tables, 5, "run_writers", "pid") == [112, 113]
    assert set(of_run(tables, 1, "metrics", "key")) == {"loss", "loss-11"}
    assert set(of_run(tables, 5, "metrics", "key")) == {"loss", "loss-12", "child"}
    assert of_run(tables, 5, "metric_summary", "points") == [1, 3, 3]
    assert of_run(tables, 1, "metric_summary", "goal") == ["min", None]
    assert of_run(tables, 5, "logs", "text") == ["line of 12"]
    assert (of_run(tables, 1, "params", "value"), of_run(tables, 5, "params", "value")) == (["11"], ["12"])
    assert (of_run(tables, 1, "summary", "value"), of_run(tables, 5, "summary", "value")) == (["11"], ["12"])
    assert (of_run(tables, 1, "provenance", "commit"), of_run(tables, 5, "provenance", "commit")) == (
        ["c11"],
        ["c12"],
    )
    assert of_run(tables, 5, "run_io", "name") == ["data-12"]
    assert of_run(tables, 5, "run_usage", "cpu_seconds") == [60.0]
    # Money: what each holds is its own, and nothing was made or lost.
    assert of_run(tables, 1, "cost_lines", "node_id") == ["node-11"]
    assert of_run(tables, 5, "cost_lines", "node_id") == ["node-12"]
    costs = [of_run(tables, run, "runs", "cost")[0] for run in (1, 5)]
    assert sum(costs) == total > 0
    assert {row["difference"] for row in tables.rows("node_bills", columns="difference")} == {0}
    for view in sorted(public_view_names()):
        tables.rows(view, rest="LIMIT 1")  # every column that a view reads is there for moved processes too

    # A child that is heard of later, under the old id, is where its parent is.
    tables.started(1, 14, BEGIN + 30 * S, joined="parent", parent_writer=fixed_id(13), node="node-12")
    tables.points(1, 14, late=[7.0])
    tables.take_in()
    assert "late" in of_run(tables, 5, "metrics", "key") and "late" not in of_run(tables, 1, "metrics", "key")

    moved(tables, 61, 1, 5, 12, undoes=60)
    tables.take_in()
    after = picture(tables)
    assert of_run(tables, 5, "runs", "state") == []
    changed = {view for view in VIEWS if after[view] != before[view]}
    assert changed == {"run_writers", "metrics", "metric_summary"}, "only the late child is new"
    assert [row["undone_by"] for row in tables.rows("writer_moves")] == ["ann"]


def test_a_merged_run_is_a_part_of_the_other_also_in_what_comes_later(tables: FilledTables) -> None:
    process(tables, 1, 11, 0, status="finished", after_s=0)
    process(tables, 2, 12, 1, status="failed", after_s=10)
    tables.price(50, BEGIN, nano=3_600_000_000_000)
    tables.take_in()
    before = picture(tables)
    moved(tables, 60, 2, 1)
    tables.take_in()
    assert of_run(tables, 2, "runs", "state") == []
    assert (of_run(tables, 1, "runs", "state"), of_run(tables, 1, "runs", "ranks")) == (["failed"], [2])
    assert of_run(tables, 1, "cost_lines", "node_id") == ["node-11", "node-12"]
    assert of_run(tables, 1, "rank_steps", "rank") == [0, 1], "loss is the metric of both now"
    tables.logged(2, 12, (BEGIN + 90 * S, 9, 0.5))
    tables.take_in()
    assert 9 in of_run(tables, 1, "metrics", "step") and of_run(tables, 2, "metrics", "step") == []
    # Whoever still asks for the run that is gone is led to the one that has its processes.
    said: list[str] = []
    assert find_run(tables.session, id_of(2), say=said.append) == id_of(1)
    assert said == [f"run {id_of(2)} was merged into run {id_of(1)}"]
    facts = dict(describe_run(tables.session, id_of(1)).facts)
    assert facts["moved here"].startswith(f"all processes of run {id_of(2)}, by ann"[:40])
    assert find_decision(tables.session, id_of(60))["to_run_id"] == id_of(1)
    moved(tables, 61, 2, 1, undoes=60)
    tables.take_in()
    after = picture(tables)
    assert {view for view in VIEWS if after[view] != before[view]} == {"metrics", "metric_summary"}


def test_the_order_in_which_decisions_and_events_arrive_changes_nothing(tmp_path: Path) -> None:
    def told(tables: FilledTables) -> None:
        two_launches_as_one(tables)

    def decided(tables: FilledTables) -> None:
        moved(tables, 60, 1, 5, 12)
        moved(tables, 61, 5, 7)

    pictures = []
    for number_, steps in enumerate(itertools.permutations((told, decided))):
        tables = FilledTables(fresh_store(), tmp_path / str(number_))
        (tmp_path / str(number_)).mkdir()
        for step in steps:
            step(tables)
            tables.take_in()
        pictures.append(picture(tables))
        assert of_run(tables, 7, "runs", "state") == ["failed"]
    assert pictures[0] == pictures[1]


def test_a_rebuild_obeys_decisions(tmp_path: Path) -> None:
    tables = FilledTables(unused_store(), tmp_path)
    two_launches_as_one(tables)
    moved(tables, 60, 1, 5, 12)
    tables.take_in()
    before = picture(tables)
    outcome = rebuild_generation(
        tables.store, tables.schema, source=MemorySource(tables.log), worker_for=tables.worker_for
    )
    tables.schema = outcome.schema
    assert outcome.schema.number == 2
    assert picture(tables) == before
    assert of_run(tables, 5, "runs", "state") == ["failed"]


def test_a_decision_whose_refresh_died_is_found_and_finished(tmp_path: Path) -> None:
    store = fresh_store()
    tables = FilledTables(store, tmp_path)
    two_launches_as_one(tables)
    tables.take_in()
    # The event is in the tables, and the worker died before it wrote anything that follows from it.
    moved(tables, 60, 1, 5, 12)
    silent = Worker(
        MemorySource(tables.log), store, tables.schema.tables, clock=SystemClock(),
        settings=WorkerSettings(pending=tmp_path / "pending"), on_batch=lambda _: None,
    )  # fmt: skip
    silent.drain()
    fresh = Derivation(store, tables.schema.generation)
    assert set(fresh.runs.stale()) == {id_of(1), id_of(5)}
    fresh.catch_up()
    assert fresh.runs.stale() == []
    assert of_run(tables, 5, "runs", "state") == ["failed"]
    assert of_run(tables, 5, "cost_lines", "node_id") == ["node-12"]


def body(change: str, source: str, target: str, *writers: str, undoes: str | None = None) -> dict[str, Any]:
    return {
        "change_id": change,
        "from_run_id": source,
        "to_run_id": target,
        "writer_ids": writers,
        "undoes": undoes,
    }


def test_decisions_hold_in_their_order_and_those_taken_back_never_were() -> None:
    told = {"w1": "A", "w2": "A", "c2": "A", "x": "B"}
    parents = {"c2": "w2", "w2": None}
    split, merge = body("1", "A", "N", "w2"), body("2", "N", "B")
    assert Decisions([split]).homes(told, parents) == {"w1": "A", "w2": "N", "c2": "N", "x": "B"}
    assert Decisions([split, merge]).homes(told, parents) == {"w1": "A", "w2": "B", "c2": "B", "x": "B"}
    assert Decisions([merge, split]).homes(told, parents)["w2"] == "N"
    undone = Decisions([split, merge, body("3", "N", "B", undoes="2")])
    assert undone.homes(told, parents) == Decisions([split]).homes(told, parents)
    assert undone.related("A") == {"A", "N", "B"} and undone.newest(["A"]) == 1 and undone.newest(["B"]) == 3
    # Runs that were merged with each other in a circle are still one.
    circle = Decisions([body("1", "A", "B"), body("2", "B", "A")])
    assert set(circle.homes(told, parents).values()) == {"A"}


def row(writer: str, **more: Any) -> dict[str, Any]:
    known = {
        "parent_writer": None,
        "role": "sdk",
        "rank": None,
        "node_id": "n1",
        "attempt": 1,
        "decides": True,
    }
    return {"writer_id": writer, **known, **more}


ROWS = [
    row("aa0", role="wrapper", rank=0),
    row("aa1", parent_writer="aa0", rank=0),
    row("bb0", role="wrapper", rank=1),
    row("bb1", parent_writer="bb0", rank=1),
    row("bb2", parent_writer="bb1", decides=False),
    row("cc1", rank=2, node_id="n2", attempt=2),
]


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ({"writers": ["bb1"]}, ["bb0", "bb1"]),
        ({"ranks": [2]}, ["cc1"]),
        ({"nodes": ["n1"], "ranks": [0]}, ["aa0", "aa1"]),
        ({"attempts": [2], "writers": ["aa1"]}, ["aa0", "aa1", "cc1"]),
    ],
    ids=["a wrapper goes with its training", "rank", "node and rank", "attempt and a process"],
)
def test_processes_are_chosen_with_the_wrapper_that_is_theirs_alone(
    choice: dict[str, Any], chosen: list[str]
) -> None:
    assert chosen_writers(ROWS, **choice) == chosen


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"writers": ["b"]}, "3 processes of the run begin with 'b'"),
        ({"writers": ["zz"]}, "no process of the run begin with 'zz'"),
        ({"ranks": [9]}, "no process of the run is like that"),
        ({"ranks": [0, 1, 2]}, "nothing would be left of it"),
        ({}, "no process of the run is like that"),
    ],
    ids=["several", "none", "no rank", "all", "nothing said"],
)
def test_a_choice_that_means_nothing_or_everything_is_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        chosen_writers(ROWS, **choice)


HOMED = "points text_points log_lines run_events run_usage_windows run_gpu_windows progress_samples"


def test_no_view_reads_what_a_process_tells_without_asking_where_it_belongs() -> None:
    told = re.compile(r"\{generation\}\.(" + "|".join(HOMED.split()) + r")\b")
    for file in sql_files("views"):
        found = told.findall(file.read_text(encoding="utf-8"))
        assert not found or file.name == "05_writer_homes.sql", (
            f"{file.name} reads {found}: write {{homed}} before the name, see 05_writer_homes.sql"
        )
        for told_of in re.findall(
            r"\{generation\}\.writer_states FINAL[^)]*", file.read_text(encoding="utf-8")
        ):
            assert "NOT gone" in told_of, (
                f"{file.name} takes processes that are of another run now: {told_of}"
            )
