"""Energy and CO2e of GPUs by run, team, project and more.

Energy is what the devices' counters say, in whole millijoules; of a device that several shared it is divided by an
estimate, and told. What was not measured is unknown, never 0: the time of it stands beside. Energy of processors,
memory, disks and network is not measured, and is in no number here. CO2e = energy x PUE x grid, location-based, with
factors that were set with their year and source; where one is not set, it is not known.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext
from typing import Any

from trainledger_schemas.errors import UsageError

from ..cost.periods import period_condition
from ..session import Session

__all__ = ["ENERGY_GROUPS", "EnergyReport", "factor_fields", "make_energy", "read_energy"]

ENERGY_GROUPS: Mapping[str, str] = {
    "team": "team",
    "project": "project",
    "run": "toString(run_id)",
    "user": "user",
    "node": "node_id",
    "gpu": "device_id",
    "day": "toString(toDate(usage_hour, 'UTC'))",
}
MJ_PER_KWH = 3_600_000_000
_DIGITS = Decimal("0.000001")
_YEAR_MIN, _YEAR_MAX = 1990, 2105
_PUE_MAX, _GRID_MAX = Decimal(10), Decimal(5000)


@dataclass(frozen=True, slots=True)
class EnergyReport:
    """`rows` by group, and `total` of all; `factors`: what was used {pue, grid_g_per_kwh, year, source}."""

    rows: tuple[dict[str, Any], ...]
    total: dict[str, Any]
    factors: tuple[dict[str, Any], ...]


def read_energy(session: Session, *, by: str, start: str | None, end: str | None) -> EnergyReport:
    """Sum view `energy` over [start, end) (UTC hours as text, None: open) by one group."""
    if by not in ENERGY_GROUPS:
        raise UsageError(f"cannot report by {by!r}; the groups are {', '.join(ENERGY_GROUPS)}")
    where, parameters = period_condition(start, end)
    rows = session.query(
        f"SELECT {ENERGY_GROUPS[by]} AS holder, e.run_id IS NOT NULL AS is_run, e.pue AS factor_pue, "
        "e.grid_g_per_kwh AS factor_grid, e.factor_year AS factor_of, e.factor_source AS factor_from, "
        "sumOrNull(e.energy_mj) AS mj, sum(e.estimated_mj) AS estimated, sum(e.observed_s) AS observed, "
        f"sum(e.unknown_s) AS unknown FROM {session.views}.energy AS e WHERE {where} "
        "GROUP BY holder, is_run, factor_pue, factor_grid, factor_of, factor_from",
        parameters,
    ).to_pylist()
    return make_energy(by, rows)


def make_energy(by: str, sums: Iterable[Mapping[str, Any]]) -> EnergyReport:
    """The report of sums {holder, is_run, factor_pue, factor_grid, factor_of, factor_from, mj, estimated, observed,
    unknown}: energy in millijoules, times in seconds.

    Each number is rounded once, from the exact sum."""
    sums = list(sums)
    groups: dict[str | None, list[Mapping[str, Any]]] = {}
    for row in sums:
        groups.setdefault(row["holder"], []).append(row)
    rows = [
        {by: holder, **_numbers(groups[holder])}
        for holder in sorted(groups, key=lambda name: (name is None, name or ""))
    ]
    used = {
        (row["factor_pue"], row["factor_grid"], row["factor_of"], row["factor_from"])
        for row in sums
        if row["mj"]
    }
    factors = [
        dict(zip(("pue", "grid_g_per_kwh", "year", "source"), factor, strict=True))
        for factor in sorted(used, key=str)
        if factor[:2] != (None, None)
    ]
    return EnergyReport(tuple(rows), _numbers(sums), tuple(factors))


def _numbers(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    rows = list(rows)
    measured = [row for row in rows if row["mj"] is not None]
    of_runs = sum(int(row["mj"]) for row in measured if row["is_run"])
    estimated = sum(int(row["estimated"]) for row in rows)
    whole = sum(int(row["mj"]) for row in measured)
    unknown_s = sum(float(row["unknown"]) for row in rows)
    with localcontext() as context:
        context.prec = 60
        built = [int(row["mj"]) * row["factor_pue"] for row in measured if row["factor_pue"] is not None]
        placed = [
            int(row["mj"]) * row["factor_pue"] * row["factor_grid"]
            for row in measured
            if row["factor_pue"] is not None and row["factor_grid"] is not None
        ]
        no_factor = sum(
            int(row["mj"]) for row in measured if row["factor_pue"] is None or row["factor_grid"] is None
        )
        return {
            "device_kwh": _kwh(Decimal(whole)) if measured else None,
            "run_kwh": _kwh(Decimal(of_runs)) if any(row["is_run"] for row in measured) else None,
            "estimated_kwh": _kwh(Decimal(estimated)) if measured else None,
            "observed_hours": sum(float(row["observed"]) for row in rows) / 3600,
            "unknown_hours": unknown_s / 3600,
            "building_kwh": _kwh(sum(built, Decimal(0))) if built else None,
            "kgco2e": _kwh(sum(placed, Decimal(0)) / 1000) if placed else None,
            "kwh_without_factor": _kwh(Decimal(no_factor)) if measured else None,
            "quality": _quality(bool(measured), unknown_s, estimated),
        }


def _kwh(millijoules: Decimal) -> Decimal:
    return (millijoules / MJ_PER_KWH).quantize(_DIGITS, ROUND_HALF_UP)


def _quality(is_measured: bool, unknown_s: float, estimated_mj: int) -> str:
    """How a sum is known: unknown, partial (not all of the time was measured), estimated (some is shared), measured."""
    if not is_measured:
        return "unknown"
    return "partial" if unknown_s > 0 else "estimated" if estimated_mj else "measured"


def factor_fields(
    *,
    pattern: str,
    from_hour_us: int,
    pue: str | None,
    grid: str | None,
    year: int | None,
    source: str | None,
) -> dict[str, Any]:
    """The fields of an `energy_factor_set` event; `grid`: grams of CO2e a kWh. UsageError for what makes no sense."""
    if pue is None and grid is None:
        raise UsageError("give --pue, --grid-g-per-kwh or both")
    if grid is not None and (year is None or not source):
        raise UsageError(
            "a number of the grid is of a year and from somewhere: give --year and --source with --grid-g-per-kwh"
        )
    if year is not None and not _YEAR_MIN <= year <= _YEAR_MAX:
        raise UsageError(f"--year {year} is not between {_YEAR_MIN} and {_YEAR_MAX}")
    return {
        "pattern": pattern,
        "from_hour_us": from_hour_us,
        "pue_micro": None if pue is None else _micro(pue, "--pue", Decimal(1), _PUE_MAX),
        "grid_micro": None if grid is None else _micro(grid, "--grid-g-per-kwh", Decimal(0), _GRID_MAX),
        "year": year,
        "source": source or None,
        "note": None,
    }


def _micro(text: str, name: str, least: Decimal, most: Decimal) -> int:
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise UsageError(f"{name} {text!r} is not a number such as 1.3") from None
    if not number.is_finite() or not least <= number <= most or number != round(number, 6):
        raise UsageError(f"{name} {text} is not from {least} to {most} with at most 6 decimals")
    return int(number.scaleb(6))
