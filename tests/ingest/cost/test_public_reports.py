"""What public cost reports got wrong, as scenarios: each through real events, the worker, and the reports.

OpenCost bills the larger of request and use, so that a node can cost more than its price and idle time is negative; it
splits a node without GPU prices by default ratios, so that jobs without a GPU pay for one; it takes a GPU that was asked
for as used, counts each time-slice of a GPU as a GPU, and MIG instances as nothing (spec/opencost-specv01.md, pkg/costmodel).
Agents show 0 % where nothing was measured (nvitop, dcgm-exporter).
"""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import HOUR_US, START_US, fixed_id
from support.ingest_store import fresh_store
from trainledger_ingest.cost.report import read_report

S = 1_000_000
HOUR = START_US - START_US % HOUR_US
CORES = 4
GPU = "GPU-a"


@pytest.fixture
def tables(tmp_path: Path) -> FilledTables:
    """A node of 10.00 an hour, there for one hour, with runs 1 to 4."""
    tables = FilledTables(fresh_store(), tmp_path)
    tables.alive(HOUR, HOUR + HOUR_US)
    for run in (1, 2, 3, 4):
        tables.started(run, run + 10, HOUR, team=f"t{run}")
    tables.price(1, START_US, nano=10 * 10**9)
    return tables


def held(run: int, resource: str, numerator: int, denominator: int, **part: Any) -> dict[str, Any]:
    known = {"kind": "run", "run_id": fixed_id(run), "writer_id": fixed_id(run + 10), "owner": "ann"}
    return known | {
        "resource": resource, "numerator": numerator, "denominator": denominator, "evidence": "claim", **part,
    }  # fmt: skip


def hold(tables: FilledTables, *holders: dict[str, Any]) -> None:
    """These claims, repeated each ten minutes as key frames."""
    for minute in range(0, 60, 10):
        at_us = HOUR + minute * 60 * S
        tables.event("allocation", at_us, at_us=at_us, key_frame=True, holders=list(holders))


def use(
    tables: FilledTables, cores: dict[int, float], *, busy: float | None = None, has_gpu: bool = False
) -> None:
    """CPU time of runs, in windows of a minute; how busy the GPU was, None: not measured."""
    for minute in range(60):
        start_us = HOUR + minute * 60 * S
        usage = [
            {
                "kind": "run", "run_id": fixed_id(run), "writer_id": fixed_id(run + 10), "owner": "ann",
                "cpu_us": round(rate * 60 * S), "memory_peak_bytes": 1,
            }
            for run, rate in cores.items()
        ]  # fmt: skip
        busy_us = None if busy is None else round(busy * 60 * S)
        window = {
            "device_id": GPU,
            "part_id": "",
            "observed_us": 60 * S,
            "busy_us": busy_us,
            "energy_mj": None,
        }
        tables.event(
            "process_usage", start_us + 60 * S, start_us=start_us, end_us=start_us + 60 * S, cores=CORES, usage=usage,
            devices=[window] if has_gpu else [],
        )  # fmt: skip


def with_gpu(tables: FilledTables) -> None:
    found = {"device_id": GPU, "model": "H100", "memory_bytes": 1, "mig_profile": None}
    tables.event("devices", HOUR, at_us=HOUR, devices=[found])


def by_team(tables: FilledTables) -> dict[str, str]:
    """Rows of `cost --by team`; they sum to the bill of the node, and none is below zero."""
    tables.take_in()
    report = read_report(tables.session, by="team", start=None, end=None)
    shown = {row["team"] or row["kind"]: row["cost"] for row in report.rows}
    assert report.totals == report.bills == {"USD": "10.00"}
    assert sum(map(Decimal, shown.values())) == Decimal("10.00")
    assert all(Decimal(cost) >= 0 for cost in shown.values())
    return shown


def lines(tables: FilledTables, run: int) -> list[dict[str, Any]]:
    return tables.rows("cost_lines", rest=f"WHERE run_id = '{id_of(run)}' ORDER BY resource")


def test_no_node_costs_more_than_its_price_where_some_use_more_and_some_less_than_they_asked_for(
    tables: FilledTables,
) -> None:
    # The larger of request and use would be 4 + 2 of 4 cores: 15.00 of a node of 10.00.
    hold(tables, held(1, "host", 2, CORES), held(2, "host", 2, CORES))
    use(tables, {1: 4.0, 2: 0.5})
    assert by_team(tables) == {"t1": "5.00", "t2": "5.00"}


def test_more_is_asked_for_than_there_is_and_idle_time_is_nothing_not_negative(tables: FilledTables) -> None:
    hold(tables, held(1, "host", 3, CORES), held(2, "host", 3, CORES), held(3, "host", 2, CORES))
    use(tables, {1: 0.1, 2: 0.1, 3: 0.1})
    shown = by_team(tables)
    assert shown == {"t1": "3.75", "t2": "3.75", "t3": "2.50"}


def test_cpu_time_beyond_the_cores_is_no_more_than_the_node(tables: FilledTables) -> None:
    use(tables, {1: 6.0, 2: 2.0})
    assert by_team(tables) == {"t1": "7.50", "t2": "2.50"}


def test_a_run_without_a_gpu_pays_for_none_on_a_node_that_has_one(tables: FilledTables) -> None:
    with_gpu(tables)
    hold(tables, held(2, f"device:{GPU}", 1, 1))
    use(tables, {1: 2.0}, busy=0.9, has_gpu=True)
    assert by_team(tables) == {"t1": "0.50", "t2": "9.00", "idle": "0.50"}
    assert [line["resource"] for line in lines(tables, 1)] == ["host"]
    (day,) = tables.rows("cost_daily", rest="WHERE team = 't1'")
    assert day["gpu_hours_held"] == 0


def test_a_gpu_that_was_held_is_not_taken_as_used(tables: FilledTables) -> None:
    with_gpu(tables)
    hold(tables, held(1, f"device:{GPU}", 1, 1))
    use(tables, {}, busy=0.1, has_gpu=True)
    assert by_team(tables) == {"t1": "9.00", "idle": "1.00"}
    (line,) = lines(tables, 1)
    assert line["device_hours"] == 1 and line["used_hours"] == pytest.approx(0.1 * line["held_hours"])
    assert (line["cost_used"], line["cost_unused"], line["cost_unknown"]) == (
        Decimal("0.9"),
        Decimal("8.1"),
        0,
    )
    (day,) = tables.rows("cost_daily", rest="WHERE team = 't1'")
    assert day["gpu_hours_used"] == pytest.approx(0.1)


def test_four_quarters_of_a_gpu_are_one_gpu(tables: FilledTables) -> None:
    with_gpu(tables)
    hold(tables, *(held(run, f"device:{GPU}", 1, 4) for run in (1, 2, 3, 4)))
    use(tables, {}, busy=1.0, has_gpu=True)
    quarter = "2.25"
    assert by_team(tables) == {f"t{run}": quarter for run in (1, 2, 3, 4)} | {"idle": "1.00"}
    days = tables.rows("cost_daily", rest="WHERE kind = 'run'")
    assert sum(day["gpu_hours_held"] for day in days) == pytest.approx(1)


def test_an_instance_of_mig_costs_its_part_of_the_gpu_and_the_rest_is_idle(tables: FilledTables) -> None:
    with_gpu(tables)
    half = {"part_id": "MIG-1", "part_numerator": 4, "part_denominator": 8}
    hold(tables, held(1, f"device:{GPU}", 1, 1, **half))
    use(tables, {})
    assert by_team(tables) == {"t1": "4.50", "idle": "5.50"}


def test_missing_samples_are_not_known_and_not_nought(tables: FilledTables) -> None:
    with_gpu(tables)
    hold(tables, held(1, f"device:{GPU}", 1, 1))
    use(tables, {}, busy=None, has_gpu=True)
    assert by_team(tables) == {"t1": "9.00", "idle": "1.00"}
    (line,) = lines(tables, 1)
    assert line["used_hours"] is None and line["unknown_hours"] == line["held_hours"]
    assert (line["cost_used"], line["cost_unused"], line["cost_unknown"]) == (0, 0, Decimal(9))
    (day,) = tables.rows("cost_daily", rest="WHERE team = 't1'")
    assert day["gpu_hours_used"] is None and day["cost_held_unused"] is None


def test_time_that_nobody_watched_is_unknown_and_not_idle(tables: FilledTables) -> None:
    # The agent says nothing of who used what: there is a node, and nothing is known about it.
    assert by_team(tables) == {"unknown": "10.00"}
