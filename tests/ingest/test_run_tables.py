"""The tables of runs are a function of the events that are there, however these came and whatever died on the way."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from support.filled_tables import FilledTables, id_of
from support.ingest_events import START_US, fixed_id
from support.ingest_store import Crash, FaultyStore, fresh_store
from trainledger_ingest.run_tables import RunTables

S = 1_000_000
VIEWS = ("runs", "run_writers", "params", "summary", "provenance")
DERIVED = (
    "run_states",
    "writer_states",
    "param_changes",
    "summary_changes",
    "metric_goals",
    "provenance_facts",
)


def number(key: str, value: float) -> dict[str, Any]:
    return {"key": key, "value": str(value), "number": value}


def claims(tables: FilledTables) -> list[Callable[[], None]]:
    """What is said of one run: a wrapper, two attempts, two ranks, parameters that change, code, ends."""
    at = START_US
    run, first, second, other, wrapper = 1, 11, 12, 13, 10

    def seen_code(writer: int, second_s: int, commit: str) -> Callable[[], None]:
        return lambda: tables.event(
            "provenance", at + second_s * S, run_id=fixed_id(run), writer_id=fixed_id(writer), at_us=at + second_s * S,
            vcs="git", repository="r", commit=commit, branch=None, dirty=False, entry_point="t.py", argv=["t.py"],
            python="3.11", packages={"a": "1"}, os="linux", reasons=[],
        )  # fmt: skip

    def changed(writer: int, second_s: int, value: float) -> Callable[[], None]:
        return lambda: tables.event(
            "params_changed", at + second_s * S, run_id=fixed_id(run), writer_id=fixed_id(writer),
            at_us=at + second_s * S, changes=[number("lr", value)],
        )  # fmt: skip

    def summed(writer: int, second_s: int, value: float) -> Callable[[], None]:
        return lambda: tables.event(
            "summary_set", at + second_s * S, run_id=fixed_id(run), writer_id=fixed_id(writer),
            at_us=at + second_s * S, changes=[number("best", value)],
        )  # fmt: skip

    def gone(writer: int, second_s: int) -> Callable[[], None]:
        return lambda: tables.event(
            "writer_gone", at + second_s * S, run_id=fixed_id(run), writer_id=fixed_id(writer),
            at_us=at + second_s * S, evidence="lock_free", exit_seen=False,
        )  # fmt: skip

    return [
        lambda: tables.started(run, wrapper, at, role="wrapper", name="w", argv=["run"]),
        lambda: tables.started(run, first, at + S, joined="wrapper", parent_writer=fixed_id(wrapper), config=[number("lr", 1)]),
        lambda: tables.started(run, second, at + 100 * S, team="red", config=[number("lr", 3)]),
        lambda: tables.started(run, other, at + 101 * S, rank=1, world_size=2),
        seen_code(first, 2, "aaa"),
        seen_code(second, 102, "bbb"),
        seen_code(other, 103, "ccc"),
        changed(first, 5, 2.0),
        changed(second, 110, 4.0),
        lambda: tables.exited(run, first, at + 50 * S, "failed", cause="exit"),
        gone(first, 60),
        lambda: tables.exited(run, first, at + 105 * S, "failed", cause="exception"),
        lambda: tables.exited(run, second, at + 200 * S),
        gone(other, 210),
        summed(first, 40, 0.5),
        summed(second, 190, 0.9),
    ]  # fmt: skip


def shown(tables: FilledTables) -> dict[str, list[dict[str, Any]]]:
    return {view: tables.rows(view, rest="ORDER BY ALL") for view in VIEWS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    yield tmp_path_factory.mktemp("run-tables")


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(st.permutations(range(16)), st.sets(st.integers(0, 15), max_size=5))
def test_events_in_any_order_show_what_all_of_them_together_say(
    folder: Any, order: list[int], stops: set[int]
) -> None:
    tables = FilledTables(fresh_store(), folder)
    events = claims(tables)
    for place, index in enumerate(order):
        events[index]()
        if place in stops:
            tables.take_in()
    tables.take_in()
    told = shown(tables)
    for table in DERIVED:
        tables.store.command(f"TRUNCATE TABLE {tables.schema.tables.name(table)}")
    tables.derivation.runs.refresh(tables.derivation.runs.stale())
    assert told == shown(tables)
    assert [(r["key"], r["value_number"], r["is_current"]) for r in told["summary"]] == [
        ("best", 0.5, False),
        ("best", 0.9, True),
    ]
    assert told["params"] and len(told["run_writers"]) == 4


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("insert", range(5))
def test_a_crash_at_any_insert_is_found_and_mended(folder: Any, insert: int, after: bool) -> None:
    tables = FilledTables(fresh_store(), folder)
    for claim in claims(tables):
        claim()
    generation = tables.schema.generation
    tables.take_in()
    told = shown(tables)
    for table in DERIVED:
        tables.store.command(f"TRUNCATE TABLE {tables.schema.tables.name(table)}")
    with pytest.raises(Crash):
        RunTables(FaultyStore(tables.store, crash_insert=insert, after=after), generation).refresh([id_of(1)])
    runs = RunTables(tables.store, generation)
    # The last insert is the row that says that all is done.
    assert runs.stale() == ([] if insert == 4 and after else [id_of(1)])
    runs.refresh(runs.stale())
    assert shown(tables) == told and runs.stale() == []
