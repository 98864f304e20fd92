"""The estimated time to completion: from what a run says of its length, and from how fast it came forward of late."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import fixed_id
from support.ingest_store import fresh_store
from trainledger_ingest.progress_samples import ProgressSamples
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.ids import id_text

S = 1_000_000
MINUTE = 60 * S


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledTables]:
    yield FilledTables(fresh_store(), tmp_path_factory.mktemp("progress"))


def now_us() -> int:
    return SystemClock().wall_ns() // 1000


def number(key: str, value: float) -> dict[str, object]:
    return {"key": key, "value": str(value), "number": value}


def begin(tables: FilledTables, run: int, *, age_s: int = 1000, **config: float) -> int:
    """A run that began `age_s` ago with this config; the time of its start."""
    start = now_us() - age_s * S
    tables.started(run, run + 100, start, config=[number(k.replace("__", "/"), v) for k, v in config.items()])
    return start


def progress(tables: FilledTables, run: int) -> Mapping[str, Any]:
    tables.present(now_us())
    tables.take_in()
    (row,) = tables.rows("run_progress", rest=f"WHERE run_id = '{id_of(run)}'")
    (listed,) = tables.rows("runs", columns="state, eta_s", rest=f"WHERE run_id = '{id_of(run)}'")
    assert (listed["eta_s"] is None) == (row["eta_s"] is None or listed["state"] != "running")
    return row


def one_a_second(start: int, until_s: int, *, first: int = 0) -> list[tuple[int, int, float]]:
    return [(start + s * S, first + s, 0.5) for s in range(0, until_s + 1, 10)]


def test_the_time_left_is_the_steps_left_by_the_rate(tables: FilledTables) -> None:
    start = begin(tables, 1, max_steps=4000)
    tables.logged(1, 101, *one_a_second(start, 1000))
    row = progress(tables, 1)
    assert (row["step"], row["total_steps"], row["total_from"]) == (1000, 4000, "max_steps")
    assert row["steps_per_s"] == pytest.approx(1.0)
    assert row["eta_s"] == pytest.approx(3000, abs=20)


def test_the_rate_is_that_of_late_not_that_of_the_start(tables: FilledTables) -> None:
    start = begin(tables, 2, total_steps=10_000)
    fast = [(start + s * S, s * 10, 0.5) for s in range(0, 500, 10)]
    slow = [(start + s * S, 5000 + (s - 500), 0.5) for s in range(500, 1001, 10)]
    tables.logged(2, 102, *fast, *slow)
    row = progress(tables, 2)
    assert row["steps_per_s"] == pytest.approx(1.0)
    assert row["eta_s"] == pytest.approx(4500, abs=20)


def test_a_pause_for_an_evaluation_is_part_of_the_rate_and_its_own_steps_are_not(
    tables: FilledTables,
) -> None:
    start = begin(tables, 3, total_steps=2000)
    # 100 steps in 100 s, then 100 s of evaluation, logged by epoch.
    for turn in range(5):
        at = start + turn * 200 * S
        tables.logged(3, 103, *((at + s * S, turn * 100 + s, 0.5) for s in range(0, 101, 10)))
        tables.logged(3, 103, *((at + s * S, turn, 0.9) for s in range(110, 200, 10)), key="eval/acc")
    row = progress(tables, 3)
    assert row["step"] == 500 and row["steps_per_s"] == pytest.approx(0.5, rel=0.2)


CASES: dict[str, tuple[dict[str, float], float | None, str | None]] = {
    "steps": ({"total_steps": 500}, 500, "total_steps"),
    "nested": ({"trainer__max_steps": 500}, 500, "trainer/max_steps"),
    "steps before epochs": ({"epochs": 3, "max_iters": 700}, 700, "max_iters"),
    "none by -1": ({"max_steps": -1}, None, None),
    "epochs and their length": ({"epochs": 3, "steps_per_epoch": 200}, 600, "epochs and steps_per_epoch"),
    "epochs alone": ({"num_train_epochs": 3}, None, None),
    "of an evaluation": ({"eval__max_steps": 50}, None, None),
    "nothing": ({"lr": 0.1}, None, None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_length_of_a_run_is_taken_from_what_it_says(tables: FilledTables, case: str) -> None:
    config, total, told = CASES[case]
    run = 10 + list(CASES).index(case)
    start = begin(tables, run, age_s=100, **config)
    tables.logged(run, run + 100, *one_a_second(start, 100))
    row = progress(tables, run)
    assert (row["total_steps"], row["total_from"]) == (total, told)
    assert (row["eta_s"] is None) == (total is None)


def test_a_total_may_be_told_in_the_summary(tables: FilledTables) -> None:
    start = begin(tables, 20, age_s=100)
    tables.event(
        "summary_set", start, run_id=fixed_id(20), writer_id=fixed_id(120), at_us=start,
        changes=[number("total_steps", 300)],
    )  # fmt: skip
    tables.logged(20, 120, *one_a_second(start, 100))
    assert progress(tables, 20)["eta_s"] == pytest.approx(200, abs=20)


@pytest.mark.parametrize(
    ("first", "shares"), [(0, True), (0, False), (1, False)], ids=["shares", "from 0", "from 1"]
)
def test_epochs_count_with_the_metric_epoch(tables: FilledTables, first: int, shares: bool) -> None:
    run = 21 + 2 * first + shares
    start = begin(tables, run, age_s=1000, num_train_epochs=10)
    # 250 steps an epoch.
    rows = [
        (at, step, first + (step / 250 if shares else step // 250))
        for at, step, _ in one_a_second(start, 1000)
    ]
    tables.logged(run, run + 100, *rows, key="epoch")
    row = progress(tables, run)
    assert row["total_from"] == "num_train_epochs and metric epoch"
    assert row["total_steps"] == pytest.approx(2500, rel=0.3 if not shares else 0.01)


def test_a_resumed_run_is_measured_by_its_newest_attempt(tables: FilledTables) -> None:
    start = begin(tables, 30, age_s=4000, total_steps=2000)
    tables.logged(30, 130, *one_a_second(start, 1000))
    tables.exited(30, 130, start + 1001 * S, "failed")
    again = start + 3000 * S
    tables.started(30, 131, again, joined="resume")
    # From the checkpoint at step 500 on, at half the pace.
    tables.logged(30, 131, *((again + s * S, 500 + s // 2, 0.5) for s in range(0, 1001, 10)))
    row = progress(tables, 30)
    assert (row["step"], row["steps_per_s"]) == (1000, pytest.approx(0.5))
    assert row["eta_s"] == pytest.approx(2000, abs=30)


def test_no_time_is_told_when_steps_stay_away_or_pass_the_end_or_the_run_is_over(
    tables: FilledTables,
) -> None:
    silent = begin(tables, 40, age_s=2000, total_steps=5000)
    tables.logged(40, 140, *one_a_second(silent, 1000))
    assert progress(tables, 40)["eta_s"] is None
    beyond = begin(tables, 41, age_s=200, total_steps=100)
    tables.logged(41, 141, *one_a_second(beyond, 200))
    assert progress(tables, 41)["eta_s"] is None
    over = begin(tables, 42, age_s=200, total_steps=1000)
    tables.logged(42, 142, *one_a_second(over, 190))
    assert progress(tables, 42)["eta_s"] is not None
    tables.exited(42, 142, now_us())
    tables.take_in()
    assert tables.rows("run_progress", rest=f"WHERE run_id = '{id_of(42)}'") == []
    (row,) = tables.rows("runs", columns="eta_s", rest=f"WHERE run_id = '{id_of(42)}'")
    assert row["eta_s"] is None


def test_the_time_left_is_that_of_the_slowest_rank_that_logs(tables: FilledTables) -> None:
    start = begin(tables, 60, total_steps=4000)
    for rank in (1, 2):
        tables.started(60, 160 + rank, start, joined="rank", rank=rank, world_size=3)
    # Rank 0 makes one step a second, rank 1 half of that, rank 2 logged only in the beginning.
    tables.logged(60, 160, *one_a_second(start, 1000))
    tables.logged(60, 161, *((start + s * S, s // 2, 0.5) for s in range(0, 1001, 10)))
    tables.logged(60, 162, *((start + s * S, s // 10, 0.5) for s in range(0, 101, 10)))
    row = progress(tables, 60)
    assert (row["step"], row["steps_per_s"]) == (500, pytest.approx(0.5))
    assert row["eta_s"] == pytest.approx(7000, abs=60)


def test_a_run_is_sampled_once_in_ten_seconds(tables: FilledTables) -> None:
    begin(tables, 50)
    samples = ProgressSamples(tables.store, tables.schema.generation)
    run, writer, at = id_text(fixed_id(50)), id_text(fixed_id(150)), now_us() // (10 * S) * 10 * S
    for after_s, step in ((0, 1), (4, 2), (9, 3), (10, 4), (12, 5), (3, 6), (31, 7)):
        samples.add({(run, writer, (at + after_s * S) // (10 * S)): (step, at + after_s * S)})
    found = tables.store.rows(
        f"SELECT step FROM {tables.schema.generation}.progress_samples WHERE run_id = '{id_of(50)}' ORDER BY at"
    )
    assert [row["step"] for row in found] == [1, 4, 7]
