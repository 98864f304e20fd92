"""Energy and CO2e: sums of counters with the factors of their hour; what was not measured is unknown."""

from collections import defaultdict
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest

from support.filled_tables import FilledTables
from support.ingest_events import HOUR_US
from support.ingest_store import fresh_store
from support.random_cluster import BEGIN_US, RandomCluster
from support.slow_energy import MJ_PER_KWH, Factor, SlowEnergy, slow_energy
from trainledger_ingest.reports.energy import factor_fields, make_energy, read_energy
from trainledger_schemas.errors import UsageError
from trainledger_schemas.ids import id_text


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[FilledTables]:
    yield FilledTables(fresh_store(), tmp_path)


def set_factors(tables: FilledTables, seed: int) -> list[Factor]:
    """Factors of chance, each told as an event."""
    chance, factors = Random(seed), list[Factor]()
    for place in range(5):
        pue = chance.choice((None, 1_000_000, 1_300_000, 1_234_567))
        grid = chance.choice((None, 380_950_000, 56_040_000, 0))
        pattern = chance.choice(("*", "node-*", "node-?", "node-1", "n*-1", "node.1"))
        from_us = BEGIN_US + chance.choice((-1, 0, 1)) * HOUR_US
        factors.append(
            Factor(pattern, from_us, None if pue is None else Fraction(pue, 10**6),
                   None if grid is None else Fraction(grid, 10**6), place)
        )  # fmt: skip
        tables.event(
            "energy_factor_set", BEGIN_US + place, at_us=BEGIN_US + place, pattern=pattern, from_hour_us=from_us,
            pue_micro=pue, grid_micro=grid, year=2022, source="test", set_by="test", note=None,
        )  # fmt: skip
    tables.take_in()
    return factors


def rounded(value: Fraction) -> Decimal:
    with localcontext() as context:
        context.prec = 80
        return (Decimal(value.numerator) / Decimal(value.denominator)).quantize(
            Decimal("0.000001"), ROUND_HALF_UP
        )


@pytest.mark.parametrize("seed", [1, 2])
def test_energy_and_co2e_are_those_of_the_slow_calculation(tables: FilledTables, seed: int) -> None:
    cluster = RandomCluster(tables, seed)
    wanted = slow_energy(cluster, set_factors(tables, seed))
    numbers = {id_text(run.run_id): run.number for run in cluster.runs}
    found: dict[Any, SlowEnergy] = {}
    for row in tables.rows("energy"):
        run = None if row["run_id"] is None else numbers[str(row["run_id"])]
        key = (run, row["device_id"], int(row["usage_hour"].timestamp()) // 3600)
        kg = wanted[key].kg
        assert (row["kgco2e"] is None) == (kg is None)
        # Each row is cut at 10^-12.
        assert kg is None or 0 <= kg - Fraction(row["kgco2e"]) < Fraction(1, 10**12)
        found[key] = SlowEnergy(
            row["energy_mj"], row["estimated_mj"], Fraction(round(row["observed_s"])),
            Fraction(round(row["unknown_s"])), kg,
        )  # fmt: skip
    assert found == wanted
    teams = {run.number: run.team for run in cluster.runs}
    groups: dict[str | None, list[tuple[int | None, SlowEnergy]]] = defaultdict(list)
    for (number, _, _), part in wanted.items():
        groups[teams.get(number) if number else None].append((number, part))
    report = read_energy(tables.session, by="team", start=None, end=None)
    assert {row["team"] for row in report.rows} == set(groups)
    for row in report.rows:
        check_row(row, groups[row["team"]])
    check_row(report.total, [item for group in groups.values() for item in group])


def check_row(row: dict[str, Any], parts: list[tuple[int | None, SlowEnergy]]) -> None:
    known = [item for _, item in parts if item.mj is not None]
    whole = Fraction(sum(item.mj or 0 for item in known), MJ_PER_KWH)
    assert row["device_kwh"] == (rounded(whole) if known else None)
    assert row["estimated_kwh"] == (
        rounded(Fraction(sum(item.estimated_mj for item in known), MJ_PER_KWH)) if known else None
    )
    kilograms = [item.kg for item in known if item.kg is not None]
    assert row["kgco2e"] == (rounded(sum(kilograms, Fraction(0))) if kilograms else None)
    without = Fraction(sum(item.mj or 0 for item in known if item.kg is None), MJ_PER_KWH)
    assert row["kwh_without_factor"] == (rounded(without) if known else None)
    unknown = sum((item.unknown_s for _, item in parts), Fraction(0))
    assert row["unknown_hours"] == pytest.approx(float(unknown / 3600))
    quality = (
        "partial" if unknown else "estimated" if any(item.estimated_mj for item in known) else "measured"
    )
    assert row["quality"] == (quality if known else "unknown")


def test_the_days_worked_example() -> None:
    """3.6 MJ are 1 kWh; with a PUE of 1.3 and 380.95 g a kWh that is 0.495235 kg."""
    row = {
        "holder": "red", "is_run": True, "factor_pue": Decimal("1.3"), "factor_grid": Decimal("380.95"),
        "factor_of": 2022, "factor_from": "a table", "mj": MJ_PER_KWH, "estimated": 0, "observed": 3600.0, "unknown": 0.0,
    }  # fmt: skip
    report = make_energy("team", [row])
    (red,) = report.rows
    assert (red["device_kwh"], red["building_kwh"], red["kgco2e"]) == (1, Decimal("1.3"), Decimal("0.495235"))
    assert red["quality"] == "measured"
    assert report.factors == (
        {"pue": Decimal("1.3"), "grid_g_per_kwh": Decimal("380.95"), "year": 2022, "source": "a table"},
    )
    (blind,) = make_energy("team", [{**row, "mj": None, "unknown": 3600.0}]).rows
    assert (blind["device_kwh"], blind["kgco2e"], blind["quality"], blind["unknown_hours"]) == (
        None,
        None,
        "unknown",
        1,
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"pue": None, "grid": None}, "give --pue"),
        ({"grid": "380", "year": None}, "give --year and --source"),
        ({"grid": "380", "source": ""}, "give --year and --source"),
        ({"pue": "0.9"}, "from 1 to 10"),
        ({"pue": "much"}, "not a number"),
        ({"pue": "NaN"}, "from 1 to 10"),
        ({"grid": "-1"}, "from 0 to 5000"),
        ({"year": 22}, "not between"),
    ],
    ids=["nothing", "no-year", "no-source", "pue-below-1", "word", "nan", "negative", "year-22"],
)
def test_factors_that_make_no_sense_are_refused(fields: dict[str, Any], told: str) -> None:
    known: dict[str, Any] = {"pue": "1.3", "grid": None, "year": 2022, "source": "a table"}
    with pytest.raises(UsageError, match=told):
        factor_fields(pattern="*", from_hour_us=0, **(known | fields))


def test_a_group_that_there_is_not_is_refused(tables: FilledTables) -> None:
    with pytest.raises(UsageError, match="the groups are team"):
        read_energy(tables.session, by="colour", start=None, end=None)


def test_energy_is_of_the_team_that_pays_and_not_of_the_one_that_was_declared(tables: FilledTables) -> None:
    cluster = RandomCluster(tables, 1)
    for user in ("ann", "bob"):
        tables.event(
            "owner_set", BEGIN_US, at_us=BEGIN_US, subject="user", name=user, teams=[f"team-of-{user}"],
            from_hour_us=BEGIN_US + HOUR_US, set_by="adm", note=None,
        )  # fmt: skip
    tables.take_in()
    users = {id_text(run.run_id): run for run in cluster.runs}
    seen = set()
    for row in tables.rows("energy", rest="WHERE run_id IS NOT NULL"):
        run, is_later = users[str(row["run_id"])], row["usage_hour"].timestamp() * 10**6 > BEGIN_US
        assert row["team"] == (f"team-of-{run.user}" if is_later else run.team)
        seen.add(is_later)
    assert seen == {False, True}
