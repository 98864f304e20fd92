"""What a unit of a metric cost: by run the way to its best value, and of all runs together that of the sweep.

`gain` is best less first value, in the direction of the goal; where nothing was gained there is no cost of a unit
(None), not 0 and not infinite. What a run cost after its best value bought nothing of this metric: `cost_after_best`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from trainledger_schemas.errors import UsageError

from ..cost.money import minor_text, nano_of
from ..session import Session

__all__ = ["COLUMNS", "MetricCost", "make_metric_cost", "read_metric_cost"]

COLUMNS = (
    "run_id name team goal first best gain improvements cost cost_to_best cost_after_best cost_per_unit currency"
).split()
NANO = 10**9


@dataclass(frozen=True, slots=True)
class MetricCost:
    """`rows`: a run each, best value first; `total`: all together, None if their currencies or goals differ."""

    rows: tuple[dict[str, Any], ...]
    total: dict[str, Any] | None


def read_metric_cost(
    session: Session, key: str, *, goal: str | None, group: str | None, project: str | None, unit: Decimal
) -> MetricCost:
    """Runs that logged `key`; `goal` None: as define_metric set it. Raises UsageError where a run has no goal."""
    if not unit.is_finite() or unit <= 0:
        raise UsageError(f"--unit {unit} is not above 0")
    if goal not in (None, "min", "max"):
        raise UsageError(f"--goal {goal!r} is not min or max")
    conditions, parameters = ["m.key = {key:String}"], dict[str, object](key=key)
    for name, column, value in (("group", "r.run_group", group), ("project", "r.project", project)):
        if value is not None:
            conditions.append(f"{column} = {{{name}:String}}")
            parameters[name] = value
    rows = session.query(
        "SELECT toString(m.run_id) AS run_id, r.name AS name, r.team AS team, m.goal AS goal, m.is_set AS is_set, "
        f"m.at AS at, m.value AS value, m.cost_so_far AS cost FROM {session.views}.metric_costs AS m "
        f"LEFT ANY JOIN {session.views}.runs AS r ON r.run_id = m.run_id WHERE {' AND '.join(conditions)} "
        "ORDER BY m.run_id, m.at, m.step, m.value",
        parameters,
    ).to_pylist()
    if goal is None and any(not row["is_set"] for row in rows):
        raise UsageError(f"no goal is set for {key}: give --goal min or --goal max")
    rows = [row for row in rows if goal is None or row["goal"] == goal]
    costs = session.query(
        f"SELECT toString(run_id) AS run_id, currency, sum(cost) AS total, countIf(cost IS NULL) AS unpriced "
        f"FROM {session.views}.cost_lines WHERE kind = 'run' AND toString(run_id) IN {{ids:Array(String)}} "
        "GROUP BY run_id, currency",
        {"ids": sorted({row["run_id"] for row in rows})},
    ).to_pylist()
    return make_metric_cost(rows, costs, unit=unit)


def make_metric_cost(
    rows: Iterable[Mapping[str, Any]], costs: Iterable[Mapping[str, Any]], *, unit: Decimal
) -> MetricCost:
    """The report of improvements {run_id, name, team, goal, at, value, cost}, in their order, and of what runs cost."""
    paid: dict[str, list[Mapping[str, Any]]] = {}
    for cost in costs:
        paid.setdefault(cost["run_id"], []).append(cost)
    by_run: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_run.setdefault(row["run_id"], []).append(row)
    runs = [_run(found, paid.get(run_id, ()), unit) for run_id, found in by_run.items()]
    runs.sort(key=lambda run: (run.sign * -run.best, run.row["run_id"]))
    return MetricCost(tuple(run.row for run in runs), _total(runs, unit))


@dataclass(frozen=True, slots=True)
class _Run:
    row: dict[str, Any]
    sign: int
    first_at: datetime
    first: float
    best: float
    nano: int | None


def _run(found: list[Mapping[str, Any]], paid: Iterable[Mapping[str, Any]], unit: Decimal) -> _Run:
    paid = list(paid)
    is_priced = len(paid) == 1 and not paid[0]["unpriced"] and paid[0]["currency"] is not None
    currency = paid[0]["currency"] if is_priced else None
    nano = nano_of(paid[0]["total"]) if is_priced else None
    to_best = nano_of(found[-1]["cost"]) if is_priced and found[-1]["cost"] is not None else None
    first, best = found[0]["value"], found[-1]["value"]
    sign = 1 if found[0]["goal"] == "max" else -1
    gain = sign * (best - first)
    row = {
        **{name: found[0].get(name) for name in COLUMNS},
        "first": first,
        "best": best,
        "gain": gain,
        "improvements": len(found) - 1,
        **_money(nano, to_best, gain, unit=unit, currency=currency),
    }
    return _Run(row, sign, found[0]["at"], first, best, nano)


def _total(runs: list[_Run], unit: Decimal) -> dict[str, Any] | None:
    if not runs or len({(run.sign, run.row["currency"]) for run in runs}) > 1:
        return None
    sign, currency = runs[0].sign, runs[0].row["currency"]
    first = min(runs, key=lambda run: (run.first_at, run.row["run_id"])).first
    best = max((run.best for run in runs), key=lambda value: sign * value)
    gain = sign * (best - first)
    nano = None if currency is None else sum(run.nano or 0 for run in runs)
    money = _money(nano, nano, gain, unit=unit, currency=currency)
    return {"runs": len(runs), "first": first, "best": best, "gain": gain, **money}


def _money(
    nano: int | None, to_best: int | None, gain: float, *, unit: Decimal, currency: str | None
) -> dict[str, Any]:
    if nano is None or currency is None:
        return dict.fromkeys(("cost", "cost_to_best", "cost_after_best", "cost_per_unit", "currency"))
    per_unit = None
    if to_best is not None and gain > 0:
        per_unit = minor_text(round(Fraction(to_best) * Fraction(unit) / Fraction(gain)), currency)
    return {
        "cost": minor_text(nano, currency),
        "cost_to_best": None if to_best is None else minor_text(to_best, currency),
        "cost_after_best": None if to_best is None else minor_text(nano - to_best, currency),
        "cost_per_unit": per_unit,
        "currency": currency,
    }
