"""One currency for nodes that are priced in several: each hour at the rate of its day, and closed months by theirs."""

import csv
import io
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from support.filled_tables import FilledTables, id_of
from support.ingest_store import fresh_store
from support.slow_currency import Said, slow_cents, slow_rate, slow_total
from trainledger_ingest.cost.conversion import Conversion, Exchange, read_exchange
from trainledger_ingest.cost.currency_rates import Rate, RateBook, rate_fields
from trainledger_ingest.cost.focus_billing import billing_of
from trainledger_ingest.cost.focus_export import write_focus
from trainledger_ingest.cost.month import read_closed_month, read_statement
from trainledger_ingest.cost.report import converted_report, read_report
from trainledger_ingest.cost.repricing import book_of, read_repricing
from trainledger_ingest.cost.statements import CloseRequest, write_statement
from trainledger_schemas.errors import UsageError
from trainledger_schemas.ids import id_bytes

S = 1_000_000
H = 3600 * S
OCTOBER, NOVEMBER, DECEMBER = (datetime(2026, month, 1, tzinfo=UTC) for month in (10, 11, 12))
CLOSED = datetime(2026, 11, 3, tzinfo=UTC)
BEGIN = int((NOVEMBER - timedelta(hours=3)).timestamp()) * S
HOURS = 6
CENT = Decimal("0.01")
EARLY: list[Said] = [
    ("EUR", "USD", "1.0834", date(2026, 10, 31)),
    ("USD", "EUR", "0.913", date(2026, 11, 1)),
]
LATE: list[Said] = [
    ("EUR", "USD", "1.2", date(2026, 10, 31)),
    ("EUR", "JPY", "163.7", date(2026, 11, 1)),
]


def say(tables: FilledTables, at_us: int, *rates: Said) -> None:
    fields = [rate_fields(a, b, rate, from_day=day, extra={}) for a, b, rate, day in rates]
    tables.event("currency_rates_set", at_us, at_us=at_us, set_by="fin", rates=fields)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledTables]:
    """Three hours on either side of November: nodes in EUR, USD and JPY; October closed, then other rates and prices."""
    tables = FilledTables(fresh_store(), tmp_path_factory.mktemp("currency"))
    for number, (node, team) in enumerate((("eu", "red"), ("us", "red"), ("jp", "blue")), 1):
        tables.started(number, number + 10, BEGIN, node=node, team=team)
        tables.alive(BEGIN, BEGIN + HOURS * H, node=node, step_s=60)
        for hour in range(HOURS):
            begin = BEGIN + hour * H
            tables.usage(begin, begin + H, (number, number + 10), node=node, cores=1.1 + hour / 3)
    for number, (node, nano, money) in enumerate(
        (("eu", 10_123_456_789, "EUR"), ("us", 12 * 10**9 + 7, "USD"), ("jp", 1717 * 10**9, "JPY")), 1
    ):
        tables.price(number, BEGIN, pattern=node, nano=nano, currency=money)
    say(tables, BEGIN, *EARLY)
    tables.take_in()
    request = CloseRequest("2026-10")
    fields = write_statement(tables.store, tables.schema, request, now=CLOSED, statement_id=id_of(99))
    closed_us = int(CLOSED.timestamp()) * S
    event = fields | {"statement_id": id_bytes(fields["statement_id"])}
    tables.event("period_closed", closed_us, at_us=closed_us, set_by="fin", **event)
    say(tables, closed_us, *LATE)
    tables.price(9, closed_us, pattern="us", nano=13 * 10**9)
    tables.take_in()
    yield tables


@pytest.fixture(scope="module")
def exchange(tables: FilledTables) -> Exchange:
    return read_exchange(tables.session, "EUR")


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def lines(tables: FilledTables, view: str, rest: str = "") -> list[dict[str, Any]]:
    columns = "team, kind, node_id AS node, usage_hour, cost, currency"
    return tables.rows(view, columns=columns, rest=rest)


def test_the_example_of_the_docs() -> None:
    """docs/cost.md, One currency for all."""
    first, second = date(2026, 11, 1), date(2026, 11, 2)
    rates = (Rate("EUR", "USD", 1_200_000_000, first), Rate("EUR", "USD", 1_250_000_000, second))
    bills = [
        {"node": node, "money": money, "total": Decimal(total), "day": day}
        for node, money, total in (("eu-1", "EUR", "10"), ("us-1", "USD", "12"))
        for day in (first, second)
    ]
    lines = [bill | {"holder": bill["node"], "line_kind": "idle", "unpriced": 0.0} for bill in bills]
    report = converted_report("node", lines, bills, Conversion("EUR", RateBook(rates)))
    assert [(row["node"], row["cost"]) for row in report.rows] == [("eu-1", "20.00"), ("us-1", "19.60")]
    assert report.totals == report.bills == {"EUR": "39.60"}


@pytest.mark.parametrize("target", ["EUR", "USD", "JPY", "GBP"])
def test_a_report_in_one_currency_is_that_of_slow_decimals(tables: FilledTables, target: str) -> None:
    said = EARLY + LATE
    conversion = read_exchange(tables.session, target).now()
    report = read_report(tables.session, by="node", start=None, end=None, conversion=conversion)
    exact = slow_total(lines(tables, "cost_lines"), said, target, "node")
    shown = {(row["node"], row["currency"]): Decimal(row["cost"]) for row in report.rows}
    expected: dict[Any, Decimal] = {}
    for currency in {money for _, money in exact}:
        expected |= slow_cents({key: exact[key] for key in sorted(exact) if key[1] == currency})
    places = 0 if target == "JPY" else 2
    assert shown.keys() == exact.keys()
    for currency in {money for _, money in exact} - {"JPY"}:
        assert {k: v for k, v in shown.items() if k[1] == currency} == {
            k: v for k, v in expected.items() if k[1] == currency
        }
    if places == 0:
        total = sum((v for k, v in exact.items() if k[1] == "JPY"), Decimal(0))
        assert report.totals["JPY"] == str(total.quantize(Decimal(1), ROUND_HALF_UP))
    assert report.totals == report.bills
    assert report.converted is not None
    without = {
        (money, day)
        for money in ("EUR", "USD", "JPY")
        for day in (date(2026, 10, 31), date(2026, 11, 1))
        if slow_rate(said, money, target, day) is None
    }
    assert {(m, day) for m, days in report.converted.missing.items() for day in days} == without


def test_nothing_without_a_rate_is_ever_taken_for_one(tables: FilledTables, exchange: Exchange) -> None:
    """Yen have a rate from November on: October's stay yen, November's are euros."""
    report = read_report(tables.session, by="node", start=None, end=None, conversion=exchange.now())
    of_jp = {row["currency"]: Decimal(row["cost"]) for row in report.rows if row["node"] == "jp"}
    assert of_jp.pop("JPY") == 1717 * 3
    assert abs(of_jp.pop("EUR") - 1717 * 3 / Decimal("163.7")) < CENT and not of_jp
    assert report.totals["JPY"] == "5151" == report.bills["JPY"]


def test_a_closed_month_is_in_the_rates_of_its_closing_for_ever(
    tables: FilledTables, exchange: Exchange
) -> None:
    month = read_closed_month(tables.session, "2026-10")
    assert month is not None
    frozen = exchange.as_closed("2026-10")
    report = read_statement(tables.session, month, by="team", conversion=frozen)
    exact = slow_total(lines(tables, "statement_lines"), EARLY, "EUR", "team")
    in_euros = {key: exact[key] for key in sorted(exact, key=str) if key[1] == "EUR"}
    total = sum(in_euros.values(), Decimal(0)).quantize(CENT, ROUND_HALF_UP)
    assert report.totals["EUR"] == report.bills["EUR"] == str(total)
    now = read_report(
        tables.session, by="team", start=None, end=f"{NOVEMBER:%Y-%m-%d %H:%M:%S}", conversion=exchange.now()
    )
    assert now.totals["EUR"] != report.totals["EUR"]  # 1.2 instead of 1.0834, and a price of 13
    booked = read_statement(tables.session, month, by="team")
    assert booked.totals == {"EUR": "30.37", "JPY": "5151", "USD": "36.00"}


def test_focus_in_one_currency_sums_to_the_statement(
    tables: FilledTables, exchange: Exchange, tmp_path: Path
) -> None:
    period, statement = (OCTOBER, NOVEMBER), id_of(99)
    path = tmp_path / "f.csv"
    with pytest.raises(UsageError, match=r"no rate between JPY and EUR for 2026-10-31: 2026-10 is closed"):
        write_focus(
            tables.session, path, period, version="1.4", statement=statement,
            billing=billing_of(exchange, "2026-10"),
        )  # fmt: skip
    assert not path.exists()
    # November has a rate for all, and books what the new price made of October: at October's rate.
    done = write_focus(
        tables.session, path, (NOVEMBER, DECEMBER), version="1.4", statement=None,
        billing=billing_of(exchange, None),
    )  # fmt: skip
    rows = read(path)
    assert {row["BillingCurrency"] for row in rows} == {"EUR"}
    assert {row["PricingCurrency"] for row in rows} == {"EUR", "USD", "JPY"}
    exact = slow_total(
        lines(tables, "cost_lines", "WHERE usage_hour >= toDateTime('2026-11-01', 'UTC')"),
        EARLY + LATE, "EUR", "node",
    )  # fmt: skip
    usage = [row for row in rows if not row["ChargeClass"]]
    corrections = [row for row in rows if row["ChargeClass"]]
    for node in ("eu", "us", "jp"):
        told = sum(Decimal(row["EffectiveCost"]) for row in usage if row["ResourceId"] == node)
        assert abs(told - exact[node, "EUR"]) < Decimal("1E-16")
    for row in usage:
        rate = slow_rate(EARLY + LATE, row["PricingCurrency"], "EUR", date(2026, 11, 1))
        assert rate is not None
        price = Decimal(row["PricingCurrencyListUnitPrice"])
        assert abs(Decimal(row["ListUnitPrice"]) - price * rate) <= Decimal("5E-10")
        cost = Decimal(row["PricingCurrencyEffectiveCost"])
        assert abs(Decimal(row["EffectiveCost"]) - cost * rate) < Decimal("1E-17")
        assert Decimal(row["ListUnitPrice"]) * Decimal(row["PricingQuantity"]) == Decimal(row["ListCost"])
    moved = sum(Decimal(row["PricingCurrencyEffectiveCost"]) for row in corrections)
    assert moved == Decimal("2.999999979")  # three hours at 13 instead of 12.000000007
    charged = sum(Decimal(row["EffectiveCost"]) for row in corrections)
    assert abs(charged - moved / Decimal("1.0834")) < Decimal("1E-16")
    assert done.sums["EUR"] == sum(Decimal(row["EffectiveCost"]) for row in rows)
    command = [sys.executable, "-m", "focus_data_toolkit.cli", "validate", str(path)]
    checked = subprocess.run(
        [*command, "--dataset", "cost-and-usage"], capture_output=True, text=True, timeout=120
    )
    assert checked.returncode == 0, checked.stdout[-3000:] + checked.stderr[-2000:]


def test_a_parquet_file_keeps_all_decimals(tables: FilledTables, exchange: Exchange, tmp_path: Path) -> None:
    for name in ("f.csv", "f.parquet"):
        write_focus(
            tables.session, tmp_path / name, (NOVEMBER, DECEMBER), version="1.2", statement=None,
            billing=billing_of(exchange, None),
        )  # fmt: skip
    kept = pyarrow.parquet.read_table(tmp_path / "f.parquet").to_pylist()
    for name in ("ListCost", "EffectiveCost", "PricingCurrencyEffectiveCost"):
        assert [row[name] for row in kept] == [Decimal(row[name]) for row in read(tmp_path / "f.csv")]


def test_two_books_of_two_currencies_are_compared_in_one_or_not_at_all(
    tables: FilledTables, exchange: Exchange
) -> None:
    old = book_of('[[price]]\nnode = "us"\nfrom = "2026-01-01"\nusd_per_hour = "12"\n')
    new = book_of('[[price]]\nnode = "us"\nfrom = "2026-01-01"\nper_hour = "11"\ncurrency = "EUR"\n')
    with pytest.raises(UsageError, match="in USD and in EUR: give --currency USD"):
        read_repricing(tables.session, (old, new), by="team", start=None, end=None)
    found = read_repricing(
        tables.session, (old, new), by="team", start=None, end=None, conversion=exchange.now()
    )
    before = (36 / Decimal("1.2") + 36 * Decimal("0.913")).quantize(CENT, ROUND_HALF_UP)
    assert found.totals == (
        {"currency": "EUR", "old": str(before), "new": "66.00", "difference": str(66 - before)},
    )
    pounds = read_exchange(tables.session, "GBP").now()
    with pytest.raises(UsageError, match=r"no rate between EUR and GBP for .*; no rate between USD and GBP"):
        read_repricing(tables.session, (old, new), by="team", start=None, end=None, conversion=pounds)
