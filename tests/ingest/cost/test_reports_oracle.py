"""Every report is that of a slow calculation from the events alone: each group, closed months, two books, budgets."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_events import HOUR_US
from support.ingest_store import fresh_store
from support.random_cluster import HOURS, RandomCluster
from support.slow_cost import slow_node_hour
from trainledger_ingest.cost.budgets import read_budget_states
from trainledger_ingest.cost.month import explain_month, read_closed_month, read_statement
from trainledger_ingest.cost.node_facts import WriterPlaces, read_node_events
from trainledger_ingest.cost.policy import CostPolicy
from trainledger_ingest.cost.report import GROUPS, CostReport, read_report
from trainledger_ingest.cost.repricing import book_of, read_repricing
from trainledger_ingest.cost.statements import CloseRequest, write_statement
from trainledger_schemas.ids import id_bytes

NANO = 10**9
CENT_NANO = 10**7


SlowHours = tuple[str, int, dict[Any, int]]
Case = tuple[RandomCluster, list[SlowHours]]
Prices = dict[str, tuple[int, str]]


@pytest.fixture(scope="module", params=[5, 6])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    tables = FilledTables(fresh_store(), tmp_path_factory.mktemp("oracle"))
    cluster = RandomCluster(tables, request.param)
    yield cluster, slow_hours(cluster)


def facts(case: Case, prices: Prices) -> list[dict[str, Any]]:
    """Each line of each node-hour with all that a report may group by; `nano` None without a price."""
    cluster, hours = case
    runs = {id_of(run.number): run for run in cluster.runs}
    found: list[dict[str, Any]] = []
    for node, hour_us, shares in hours:
        presence_us = sum(shares.values()) // 10**6
        rate, currency = prices.get(node, (None, None))
        keys = [key for key in shares if shares[key]]
        bill = None if rate is None else math.floor(Fraction(rate * presence_us, HOUR_US) + Fraction(1, 2))
        costs = [None] * len(keys) if bill is None else remainder(bill, [shares[key] for key in keys])
        for key, cost in zip(keys, costs, strict=True):
            kind, run_id, attempt, owner = key[1:5]
            run = runs.get(run_id or "")
            outcome = None
            if run is not None:
                outcome = "retried" if (attempt or 1) < len(run.writers) else run.status or "running"
            found.append(
                {
                    "team": run.team if run else None,
                    "project": run.project if run else None,
                    "experiment": None,
                    "run": run_id,
                    "user": owner or (run.user if run else None),
                    "account": key[5],
                    "node": node,
                    "kind": kind,
                    "day": datetime.fromtimestamp(hour_us // 10**6, UTC).date().isoformat(),
                    "outcome": outcome,
                    "line_kind": kind,
                    "currency": currency,
                    "nano": cost,
                    "hours": Fraction(shares[key], HOUR_US * 10**6),
                    "hour_us": hour_us,
                }
            )
    return found


def slow_hours(cluster: RandomCluster) -> list[SlowHours]:
    """Node, hour and whole shares by line, in the order of lines: it decides who gets the last digit."""
    generation = cluster.tables.schema.generation
    attempts = {
        str(row["id"]): int(str(row["attempt"]))
        for row in cluster.tables.store.rows(
            f"SELECT toString(writer_id) AS id, attempt FROM {generation}.writer_states FINAL"
        )
    }
    found: list[SlowHours] = []
    for node in ("node-1", "node-2"):
        rows = cluster.tables.store.query(
            "SELECT type, toUnixTimestamp64Micro(at) AS at_us, toString(boot_id) AS boot_id, "
            "toString(producer_id) AS producer_id, seq, body, offset "
            f"FROM {generation}.node_events WHERE node_id = '{node}'"
        ).to_pylist()
        events = list(read_node_events(rows, writers=WriterPlaces(attempts)).events)
        for hour in range(HOURS):
            hour_us = cluster.begin_us + hour * HOUR_US
            slow = slow_node_hour(events, hour_us, CostPolicy())
            keys = sorted(
                slow.shares, key=lambda key: tuple("" if part is None else str(part) for part in key)
            )
            found.append((node, hour_us, {key: slow.shares[key] for key in keys}))
    return found


def remainder(total: int, weights: list[int]) -> list[int]:
    """By largest remainder, ties to the first."""
    exact = [Fraction(total * weight, sum(weights)) for weight in weights]
    given = [math.floor(part) for part in exact]
    order = sorted(range(len(exact)), key=lambda place: (given[place] - exact[place], place))
    for place in order[: total - sum(given)]:
        given[place] += 1
    return given


def expected_rows(lines: list[dict[str, Any]], by: str) -> dict[tuple[Any, ...], tuple[str, float]]:
    """(group, its kind without one, currency) -> (money as text, hours without a price)."""
    nano: dict[str, dict[tuple[Any, str], int]] = {}
    unpriced: dict[tuple[Any, str], Fraction] = {}
    for line in lines:
        key = (line[by], "" if line[by] is not None else line["line_kind"])
        if line["nano"] is None:
            unpriced[key] = unpriced.get(key, Fraction(0)) + line["hours"]
        else:
            column = nano.setdefault(line["currency"], {})
            column[key] = column.get(key, 0) + line["nano"]
    rows: dict[tuple[Any, ...], tuple[str, float]] = {}
    for currency in sorted(nano):
        keys = sorted(nano[currency], key=lambda key: (key[0] is None, key[0] or "", key[1]))
        amounts = [nano[currency][key] for key in keys]
        total = math.floor(Fraction(sum(amounts), CENT_NANO) + Fraction(1, 2))
        floors = [amount // CENT_NANO for amount in amounts]
        order = sorted(range(len(keys)), key=lambda place: (-(amounts[place] % CENT_NANO), place))
        for place in order[: total - sum(floors)]:
            floors[place] += 1
        for key, cents in zip(keys, floors, strict=True):
            rows[(*key, currency)] = (f"{Decimal(cents).scaleb(-2):.2f}", float(unpriced.pop(key, 0)))
    rows |= {(*key, None): ("", float(hours)) for key, hours in unpriced.items()}
    return rows


def shown_rows(report: CostReport, by: str) -> dict[tuple[Any, ...], tuple[str, float]]:
    found = {}
    for row in report.rows:
        holder = "running" if row[by] == "lost" else row[by]
        key = (holder, "" if holder is not None else row["kind"], row["currency"])
        found[key] = (row["cost"] or "", row["unpriced_hours"])
    return found


def prices_of(cluster: RandomCluster) -> Prices:
    rows = cluster.tables.rows("prices", columns="node, per_hour, currency")
    return {str(row["node"]): (int(row["per_hour"].scaleb(9)), str(row["currency"])) for row in rows}


@pytest.mark.parametrize("by", GROUPS)
def test_a_report_by_any_group_is_that_of_the_slow_calculation(case: Case, by: str) -> None:
    cluster, _ = case
    expected = expected_rows(facts(case, prices_of(cluster)), by)
    shown = shown_rows(read_report(cluster.tables.session, by=by, start=None, end=None), by)
    assert shown.keys() == expected.keys()
    for key, (cost, hours) in expected.items():
        assert shown[key][0] == cost, key
        assert shown[key][1] == pytest.approx(hours, abs=1e-6)


@pytest.mark.parametrize("by", sorted(set(GROUPS) - {"outcome"}))
def test_two_books_are_two_reports_of_the_slow_calculation(case: Case, by: str) -> None:
    cluster, _ = case
    rates = {"old": 7_777_777_777, "new": 12_000_000_001}
    books = tuple(
        book_of(
            f'[[price]]\nnode = "*"\nfrom = "2020-01-01"\nusd_per_hour = "{Decimal(rate).scaleb(-9):f}"\n'
        )
        for rate in rates.values()
    )
    found = read_repricing(cluster.tables.session, (books[0], books[1]), by=by, start=None, end=None)
    for side, rate in rates.items():
        expected = expected_rows(facts(case, dict.fromkeys(("node-1", "node-2"), (rate, "USD"))), by)
        shown = {(r[by], "" if r[by] is not None else r["kind"], "USD"): (r[side], 0.0) for r in found.rows}
        assert shown == expected


@pytest.mark.parametrize("later_h", [5, 7 * 24 + 1], ids=["the same day", "a week and the first hour later"])
def test_budgets_have_spent_what_their_holders_cost_and_the_forecast_goes_on_with_it(
    case: Case, later_h: int
) -> None:
    cluster, _ = case
    begin = datetime.fromtimestamp(cluster.begin_us // 10**6, UTC)
    for scope, name, currency in (("team", "red", "USD"), ("project", "p", "USD"), ("project", "p", "EUR")):
        cluster.tables.event(
            "budget_set", cluster.begin_us, at_us=cluster.begin_us, scope=scope, name=name, nano_a_month="1000000000000",
            currency=currency, hard=False, from_month=f"{begin:%Y-%m}", set_by="test", note=None,
        )  # fmt: skip
    cluster.tables.take_in()
    session = cluster.tables.session
    first = datetime(begin.year, begin.month, 1, tzinfo=UTC)
    behind = datetime(begin.year, begin.month + 1, 1, tzinfo=UTC)
    now = min(begin + timedelta(hours=later_h), behind - timedelta(seconds=1))
    states = read_budget_states(session.query, session.views, first=first, behind=behind, now=now)
    lines = facts(case, prices_of(cluster))
    window_s = min(int((now - first).total_seconds()), 7 * 86_400)
    for state in states:
        mine = [line for line in lines if line[state.budget.scope] == state.budget.name]
        paid = [line for line in mine if line["nano"] and line["currency"] == state.budget.currency]
        spent = sum(line["nano"] for line in paid)
        since_us = (int(now.timestamp()) - window_s) * 10**6
        burnt = sum(line["nano"] for line in paid if line["hour_us"] + HOUR_US > since_us)
        assert state.spent == Decimal(spent).scaleb(-9)
        forecast = spent + Fraction(burnt * int((behind - now).total_seconds()), window_s)
        assert state.forecast is not None and abs(Fraction(state.forecast) * NANO - forecast) <= Fraction(
            1, 2
        )
        without = float(sum(line["hours"] for line in mine if line["nano"] is None))
        assert state.unpriced_hours == pytest.approx(without, rel=1e-9)
    assert len(states) == 3


def test_a_closed_month_is_the_slow_calculation_then_and_explained_it_is_that_of_now(
    case: Case,
) -> None:
    cluster, _ = case
    tables = cluster.tables
    begin = datetime.fromtimestamp(cluster.begin_us // 10**6, UTC)
    period = f"{begin:%Y-%m}"
    closing = datetime(begin.year + 1, 1, 5, tzinfo=UTC)
    before = facts(case, prices_of(cluster))
    request = CloseRequest(period, accepts_unpriced=True, accepts_silent=True)
    fields = write_statement(tables.store, tables.schema, request, now=closing, statement_id=id_of(90))
    at_us = int(closing.timestamp()) * 10**6
    event = fields | {"statement_id": id_bytes(fields["statement_id"])}
    tables.event("period_closed", at_us, at_us=at_us, set_by="fin", **event)
    tables.price(50, at_us + 1, nano=23_456_789_012, pattern="node-1")
    tables.take_in()
    month = read_closed_month(tables.session, period)
    assert month is not None
    for by in sorted(set(GROUPS) - {"outcome"}):
        shown = shown_rows(read_statement(tables.session, month, by=by), by)
        expected = expected_rows(before, by)
        assert {key: row[0] for key, row in shown.items()} == {key: row[0] for key, row in expected.items()}
    now = facts(case, prices_of(cluster) | {"node-1": (23_456_789_012, "USD")})
    sums = {row["currency"]: row for row in explain_month(tables.session, month).sums}
    for currency, row in sums.items():
        for name, lines in (("statement", before), ("newest", now)):
            nano = sum(line["nano"] for line in lines if line["currency"] == currency and line["nano"])
            assert Decimal(row[name]) == Decimal(nano).scaleb(-9).quantize(Decimal("0.01"), ROUND_HALF_UP)
    assert "USD" in sums
