"""Two price books over the same hours, and what became of the runs that were paid."""

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.filled_tables import FilledTables
from support.ingest_store import fresh_store
from trainledger_ingest.cost.prices import PriceBook
from trainledger_ingest.cost.report import read_report
from trainledger_ingest.cost.repricing import book_of, read_repricing
from trainledger_schemas.errors import UsageError

S = 1_000_000
H = 3600 * S
TEN = datetime(2026, 11, 3, 10, tzinfo=UTC)
BEGIN = int(TEN.timestamp()) * S


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledTables]:
    """Three hours of a node: a killed attempt of run 1, its second one that finished, and run 2 that failed."""
    tables = FilledTables(fresh_store(), tmp_path_factory.mktemp("repricing"))
    tables.started(1, 11, BEGIN, team="red")
    tables.exited(1, 11, BEGIN + H, "killed", cause="exception", signal=15)
    tables.started(1, 12, BEGIN + H, joined="resume", team="red")
    tables.exited(1, 12, BEGIN + 2 * H)
    tables.started(2, 21, BEGIN + 2 * H, team="blue")
    tables.exited(2, 21, BEGIN + 3 * H, "failed", cause="exception")
    for hour, holder in enumerate(((1, 11), (1, 12), (2, 21))):
        tables.usage(BEGIN + hour * H, BEGIN + (hour + 1) * H, holder, cores=1 + hour)
    tables.alive(BEGIN, BEGIN + 3 * H)
    tables.price(1, BEGIN, nano=4 * 10**9)
    tables.take_in()
    # A usage row may come before the event that says which attempt its process was.
    tables.derivation.costs.refresh([("node-1", BEGIN + hour * H) for hour in range(3)], prices_changed=False)
    yield tables


def test_what_failed_and_what_was_repeated_has_its_cost(tables: FilledTables) -> None:
    rows = {
        row["outcome"]: row["cost"]
        for row in read_report(tables.session, by="outcome", start=None, end=None).rows
    }
    assert rows == {"retried": "1.00", "finished": "2.00", "failed": "3.00", None: "6.00"}


def test_a_new_price_book_is_shown_as_a_difference(tables: FilledTables) -> None:
    old = book_of('[[price]]\nnode = "*"\nfrom = "2026-01-01"\nusd_per_hour = "4"\n')
    dearer = '[[price]]\nnode = "node-1"\nfrom = "2026-11-03T12:00Z"\nusd_per_hour = "5.01"\n'
    new = book_of('[[price]]\nnode = "*"\nfrom = "2026-01-01"\nusd_per_hour = "4"\n' + dearer)
    found = read_repricing(tables.session, (old, new), by="team", start=None, end=None)
    assert list(found.rows) == [
        {"team": "blue", "kind": None, "currency": "USD", "old": "3.00", "new": "3.76", "difference": "0.76"},
        {"team": "red", "kind": None, "currency": "USD", "old": "3.00", "new": "3.00", "difference": "0.00"},
        {"team": None, "kind": "idle", "currency": "USD", "old": "6.00", "new": "6.25", "difference": "0.25"},
    ]
    assert found.totals == ({"currency": "USD", "old": "12.00", "new": "13.01", "difference": "1.01"},)
    nothing = book_of('[[price]]\nnode = "other"\nfrom = "2026-01-01"\nper_hour = "4"\ncurrency = "EUR"\n')
    found = read_repricing(tables.session, (old, nothing), by="kind", start=None, end=None)
    assert found.unpriced_hours == {"old": 0, "new": 3} and found.totals[0]["difference"] == "-12.00"
    with pytest.raises(UsageError, match="cannot compare prices by 'outcome'"):
        read_repricing(tables.session, (old, new), by="outcome", start=None, end=None)


hours = st.lists(
    st.tuples(st.integers(1, 3600 * S), st.lists(st.integers(0, 4), min_size=1, max_size=5)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hours, st.integers(0, 10**15), st.integers(0, 10**15))
def test_both_columns_are_price_times_presence_dealt_to_the_last_digit_and_rounded_once(
    folder: Path, nodes: list[tuple[int, list[int]]], old: int, new: int
) -> None:
    tables = FilledTables(fresh_store(), folder)
    for run in range(5):
        tables.started(run + 1, run + 11, BEGIN, team=f"t{run}")
    for number, (present_us, cores) in enumerate(nodes):
        node = f"n{number}"
        tables.present(*(BEGIN + present_us * part // 60 for part in range(61)), node=node)
        for run, used in enumerate(cores):
            start = BEGIN + present_us * run // 5
            window = (start, BEGIN + present_us * (run + 1) // 5)
            if used and window[1] > start:
                tables.usage(*window, (run + 1, run + 11), node=node, cores=used / 3)
    tables.price(1, BEGIN, nano=old)
    tables.take_in()
    found = read_repricing(
        tables.session, (book(f"n*={old}"), book(f"n*={new}")), by="team", start=None, end=None
    )
    stored = tables.store.rows(
        f"SELECT presence_us, kinds, run_ids, held FROM {tables.schema.tables.name('node_hours')} FINAL "
        "WHERE presence_us > 0"
    )
    expected: dict[str, dict[str, int]] = {"old": {}, "new": {}}
    for row in stored:
        lines: Any = row
        for side, nano in (("old", old), ("new", new)):
            bill = (Decimal(nano * lines["presence_us"]) / Decimal(H)).quantize(Decimal(1), ROUND_HALF_UP)
            for place, cost in enumerate(slow_deal(int(bill), lines["held"])):
                run_id = lines["run_ids"][place]
                holder = f"t{int(str(run_id)[-2:], 16) - 1}" if run_id else f"~{lines['kinds'][place]}"
                expected[side][holder] = expected[side].get(holder, 0) + cost
    for side, amounts in expected.items():
        shown = {row["team"] or f"~{row['kind']}": Decimal(row[side]) for row in found.rows}
        assert shown.keys() == amounts.keys()
        total = Decimal(sum(amounts.values())).scaleb(-9).quantize(Decimal("0.01"), ROUND_HALF_UP)
        assert sum(shown.values()) == Decimal(found.totals[0][side]) == total
        for holder, nano in amounts.items():
            assert abs(shown[holder] - Decimal(nano).scaleb(-9)) < Decimal("0.01")
    # The prices of the tables give the report of the tables.
    report = read_report(tables.session, by="team", start=None, end=None)
    assert [(r["team"], r["kind"], r["old"]) for r in found.rows] == [
        (r["team"], None if r["team"] else r["kind"], r["cost"]) for r in report.rows
    ]


def slow_deal(total: int, weights: list[int]) -> list[int]:
    """By largest remainder, with fractions; ties to the first."""
    exact = [Fraction(total * weight, sum(weights)) for weight in weights]
    given = [math.floor(part) for part in exact]
    order = sorted(range(len(exact)), key=lambda place: (given[place] - exact[place], place))
    for place in order[: total - sum(given)]:
        given[place] += 1
    return given


def book(entry: str) -> PriceBook:
    pattern, nano = entry.split("=")
    rate = Decimal(nano).scaleb(-9)
    return book_of(f'[[price]]\nnode = "{pattern}"\nfrom = "2026-01-01"\nusd_per_hour = "{rate:f}"\n')


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two-books")
