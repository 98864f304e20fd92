"""What a unit of a metric cost: improvements and the money between them, by hand in Fractions."""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from math import nan
from pathlib import Path
from random import Random
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import HOUR_US, fixed_id
from support.ingest_store import fresh_store
from support.random_cluster import BEGIN_US, S
from trainledger_ingest.reports.metric_cost import read_metric_cost
from trainledger_schemas.errors import UsageError

HALF_HOUR_US = HOUR_US // 2
END_US = BEGIN_US + 3 * HOUR_US
Logged = list[tuple[int, int, float]]


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[FilledTables]:
    yield FilledTables(fresh_store(), tmp_path)


def fill(tables: FilledTables, logged: dict[int, Logged], goals: dict[int, str | None]) -> None:
    """Runs from half past the first hour to half past the third, on one node that is priced."""
    for run, rows in logged.items():
        tables.started(run, run * 10, BEGIN_US + HALF_HOUR_US, name=f"r{run}", group="sweep")
        if goals[run]:
            tables.event(
                "metric_defined", BEGIN_US + HALF_HOUR_US, run_id=fixed_id(run), writer_id=fixed_id(run * 10),
                at_us=BEGIN_US + HALF_HOUR_US, key="acc", goal=goals[run],
            )  # fmt: skip
        tables.logged(run, run * 10, *rows, key="acc")
        tables.exited(run, run * 10, END_US - HALF_HOUR_US)
    tables.alive(BEGIN_US, END_US, step_s=60)
    for start_us in range(BEGIN_US + HALF_HOUR_US, END_US - HALF_HOUR_US, 600 * S):
        tables.usage(start_us, start_us + 600 * S, *((run, run * 10) for run in logged), cores=0.7)
    tables.price(1, BEGIN_US, nano=7_123_456_789)
    tables.take_in()


def series(chance: Random) -> Logged:
    """Points at rising times within the life of the run; some are equal, some not finite."""
    times = sorted(chance.sample(range(HALF_HOUR_US, 3 * HOUR_US - HALF_HOUR_US), 20))
    return [
        (BEGIN_US + at_us, step, chance.choice((nan, chance.randrange(64) / 64, chance.randrange(64) / 64)))
        for step, at_us in enumerate(times)
    ]


def improvements(rows: Logged, sign: int) -> Logged:
    found: Logged = []
    for row in rows:
        if row[2] == row[2] and (not found or sign * row[2] > sign * found[-1][2]):
            found.append(row)
    return found


def cost_at(hours: dict[int, Decimal], at_us: int) -> int:
    """10^-9 of money up to a time: whole hours, and of that hour the part of the run's time that is over."""
    total = 0
    for hour_us, cost in hours.items():
        begin, end = max(hour_us, BEGIN_US + HALF_HOUR_US), min(hour_us + HOUR_US, END_US - HALF_HOUR_US)
        part = min(max(Fraction(at_us - begin, end - begin), Fraction(0)), Fraction(1))
        total += int(int(cost.scaleb(9)) * part)
    return total


@pytest.mark.parametrize("seed", [1, 2])
def test_improvements_and_their_cost_are_those_of_the_slow_calculation(
    tables: FilledTables, seed: int
) -> None:
    chance = Random(seed)
    logged = {run: series(chance) for run in (1, 2, 3)}
    goals = {1: "max", 2: "min", 3: None}
    fill(tables, logged, goals)
    for run, rows in logged.items():
        hours = {
            round(row["usage_hour"].timestamp()) * S: row["cost"]
            for row in tables.rows(
                "cost_lines", columns="usage_hour, sum(cost) AS cost",
                rest=f"WHERE run_id = '{id_of(run)}' GROUP BY usage_hour",
            )
        }  # fmt: skip
        for goal, sign in (("max", 1), ("min", -1)):
            found = tables.rows(
                "metric_costs", rest=f"WHERE run_id = '{id_of(run)}' AND goal = '{goal}' ORDER BY at"
            )
            if goals[run] not in (None, goal):
                assert found == []
                continue
            before: tuple[float, int] | None = None
            wanted = improvements(rows, sign)
            assert len(found) == len(wanted) > 0
            for row, (at_us, step, value) in zip(found, wanted, strict=True):
                so_far = cost_at(hours, at_us)
                assert (row["step"], row["value"], bool(row["is_set"])) == (
                    step,
                    value,
                    goals[run] is not None,
                )
                assert int(row["cost_so_far"].scaleb(9)) == so_far
                if before is None:
                    assert (row["gain"], row["cost_per_unit"], row["cost_since"]) == (
                        None,
                        None,
                        row["cost_so_far"],
                    )
                else:
                    gain, since = sign * (value - before[0]), so_far - before[1]
                    assert (row["gain"], int(row["cost_since"].scaleb(9))) == (gain, since)
                    assert row["cost_per_unit"] == pytest.approx(since / 1e9 / gain)
                before = (value, so_far)
    check_report(tables, logged)


def check_report(tables: FilledTables, logged: dict[int, Logged]) -> None:
    report = read_metric_cost(
        tables.session, "acc", goal="min", group="sweep", project=None, unit=Decimal("0.01")
    )
    assert {row["name"] for row in report.rows} == {"r2", "r3"}
    for row in report.rows:
        best = improvements(logged[int(row["name"][1:])], -1)
        gain = Fraction(best[0][2]) - Fraction(best[-1][2])
        assert (row["gain"], row["improvements"]) == (float(gain), len(best) - 1)
        parts = Decimal(row["cost_to_best"]) + Decimal(row["cost_after_best"])
        assert abs(parts - Decimal(row["cost"])) <= Decimal("0.01")
        if gain:
            exact = Fraction(row["cost_to_best"]) / gain / 100
            assert (
                abs(Fraction(row["cost_per_unit"]) - exact)
                <= Fraction(1, 200) + Fraction(1, 200) / gain / 100
            )
        else:
            assert row["cost_per_unit"] is None
    total = report.total
    assert total is not None and total["runs"] == 2
    first = min(best[0] for best in (improvements(logged[run], -1) for run in (2, 3)))[2]
    assert total["gain"] == first - min(row["best"] for row in report.rows)


def test_no_gain_has_no_cost_of_a_unit_and_no_price_no_cost(tables: FilledTables) -> None:
    flat = [
        (BEGIN_US + HOUR_US, 0, 0.5),
        (BEGIN_US + HOUR_US + S, 1, 0.5),
        (BEGIN_US + HOUR_US + 2 * S, 2, 0.25),
    ]
    fill(tables, {1: flat}, {1: "max"})
    report = read_metric_cost(tables.session, "acc", goal=None, group=None, project=None, unit=Decimal(1))
    (row,) = report.rows
    assert (row["gain"], row["improvements"], row["cost_per_unit"]) == (0.0, 0, None)
    assert (
        Decimal(row["cost_after_best"]) > 0
        and report.total is not None
        and report.total["cost_per_unit"] is None
    )
    tables.store.command(f"TRUNCATE TABLE {tables.schema.generation}.node_hour_money")
    (row,) = read_metric_cost(
        tables.session, "acc", goal=None, group=None, project=None, unit=Decimal(1)
    ).rows
    assert (row["cost"], row["cost_to_best"], row["currency"]) == (None, None, None)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"goal": None}, "no goal is set"),
        ({"goal": "best"}, "not min or max"),
        ({"unit": Decimal(0)}, "not above 0"),
        ({"unit": Decimal("nan")}, "not above 0"),
    ],
    ids=["no-goal", "wrong-goal", "unit-0", "unit-nan"],
)
def test_what_cannot_be_answered_is_refused(tables: FilledTables, options: dict[str, Any], told: str) -> None:
    tables.started(1, 10, BEGIN_US)
    tables.logged(1, 10, (BEGIN_US + S, 0, 1.0), key="acc")
    tables.take_in()
    known: dict[str, Any] = {"goal": "max", "group": None, "project": None, "unit": Decimal(1)}
    with pytest.raises(UsageError, match=told):
        read_metric_cost(tables.session, "acc", **(known | options))
