"""Two price books over the same hours, and what became of the runs that were paid."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.filled_tables import FilledTables
from support.ingest_store import fresh_store
from trainledger_ingest.cost.report import read_report
from trainledger_ingest.cost.repricing import book_of, compare_books, read_repricing
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


parts = st.lists(st.integers(0, 1000), min_size=1, max_size=5).filter(any)


@given(st.lists(st.tuples(st.integers(1, 3600 * S), parts), min_size=1, max_size=6), st.integers(1, 10**12))
def test_both_columns_are_price_times_presence_to_the_cent(
    hours: list[tuple[int, list[int]]], nano: int
) -> None:
    rate = Decimal(nano).scaleb(-9)
    book = book_of(f'[[price]]\nnode = "*"\nfrom = "2026-01-01"\nusd_per_hour = "{rate:f}"\n')
    nodes: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    for number, (present_us, weights) in enumerate(hours):
        place = {"node_id": f"n{number}", "usage_hour": TEN}
        nodes.append(place | {"present_s": present_us / 1e6})
        for holder, weight in enumerate(weights):
            lines.append(place | {"holder": f"t{holder}", "line_kind": "run", "part": weight / sum(weights)})
    found = compare_books("team", nodes, lines, (book, book))
    exact = sum(
        (Decimal(nano * us) / Decimal(H)).quantize(Decimal(1), ROUND_HALF_UP) for us, _ in hours
    ).scaleb(-9)  # type: ignore[union-attr] # there is an hour
    (total,) = found.totals
    assert total["old"] == total["new"] == str(exact.quantize(Decimal("0.01"), ROUND_HALF_UP))
    assert sum(Decimal(row["old"]) for row in found.rows) == Decimal(total["old"])
    for row in found.rows:
        holder = int(row["team"][1:])
        due = sum(
            Fraction(nano * us, H) * weights[holder] / sum(weights)
            for us, weights in hours
            if holder < len(weights)
        )
        assert abs(Fraction(row["old"]) * 10**9 - due) < 10**7 + 10
