"""Bills against an invoice: columns that sum, a difference that is nobody's, and files that say what is wrong."""

from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.filled_tables import FilledTables
from support.ingest_store import fresh_store
from support.random_cluster import RandomCluster
from trainledger_ingest.cost.money import minor_digits
from trainledger_ingest.cost.reconcile import Invoice, adjustments, read_invoice, reconcile, reconcile_period
from trainledger_schemas.errors import UsageError

_currency = st.sampled_from(("USD", "JPY", "KWD"))
_node = st.sampled_from(("n1", "n2", "n3"))
_bills = st.dictionaries(st.tuples(_node, _currency), st.integers(0, 10**13), max_size=6)
_charges = st.dictionaries(
    st.tuples(st.one_of(_node, st.none()), _currency), st.integers(-(10**12), 10**13), max_size=6
)


@given(_bills, _charges)
def test_columns_sum_to_their_rounded_totals_and_differences_to_theirs(
    bills: dict[tuple[str, str], int], charges: dict[tuple[str | None, str], int]
) -> None:
    found = reconcile(bills, Invoice(charges))
    assert {total["currency"] for total in found.totals} == {money for _, money in [*bills, *charges]}
    for total in found.totals:
        currency = total["currency"]
        rows = [row for row in found.rows if row["currency"] == currency]
        cent = Decimal(1).scaleb(-minor_digits(currency))
        for name, amounts in (("bill", bills), ("invoice", charges)):
            exact = Decimal(sum(nano for (_, money), nano in amounts.items() if money == currency)).scaleb(-9)
            assert Decimal(total[name]) == exact.quantize(cent, ROUND_HALF_UP)
            assert sum(Decimal(row[name]) for row in rows) == Decimal(total[name])
        assert Decimal(total["difference"]) == sum(Decimal(row["difference"]) for row in rows)
        nodes = [row["node"] for row in rows]
        assert len(set(nodes)) == len(nodes)
        for row in rows:
            assert Decimal(row["difference"]) == Decimal(row["invoice"]) - Decimal(row["bill"])
            billed = (row["node"], currency) in bills or row["node"] is None
            charged = (row["node"], currency) in charges
            assert (row["status"] == "not in the invoice") == (not charged)
            assert row["status"] != "not in the bills" or not billed or row["node"] is None
    assert {id(row) for row in adjustments(found.rows)} == {
        id(row) for row in found.rows if row["bill"] != row["invoice"]
    }


def test_an_amount_is_compared_with_all_nodes_and_the_tables_are_asked(tmp_path: Path) -> None:
    tables = FilledTables(fresh_store(), tmp_path)
    RandomCluster(tables, 4)  # node-2 has no price
    (bill,) = tables.rows("node_hour_bills", columns="sum(bill) AS bill", rest="WHERE currency = 'USD'")
    wanted = bill["bill"].quantize(Decimal("0.01"), ROUND_HALF_UP)
    found = reconcile_period(
        tables.session, read_invoice(str(wanted + 1), currency="USD"), start=None, end=None, closed=None
    )
    (row,) = found.rows
    assert (row["node"], row["status"], row["bill"], row["difference"]) == (
        None,
        "differs",
        str(wanted),
        "1.00",
    )
    assert found.unpriced_hours == pytest.approx(2.0)
    none = reconcile_period(
        tables.session, read_invoice("0", currency="USD"), start=None, end="2020-01-01 00:00:00", closed=None
    )
    assert none.rows[0]["bill"] == "0.00"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("node,price\nn1,2\n", "no columns node and amount"),
        ("", "no header"),
        ("node,amount\n", "no row"),
        ("node,amount\nn1,2\nn2,two\n", "line 3: amount 'two' is not an amount"),
        ("node,amount\nn1,NaN\n", "line 2: amount 'NaN'"),
        ("node,amount,currency\nn1,2,usd\n", "three capital letters"),
        ("node,amount\nn1,2\nn1,1e-31\n", "line 3: amount 1e-31 is not up to"),
        ("node,amount\nn1,1e99999999\n", "line 2: amount 1e99999999 is not up to"),
        ("node,amount\nn1,1,50\n", "line 2: 1 more than the header has columns"),
    ],
    ids=["columns", "empty", "header-alone", "word", "nan", "currency", "decimals", "huge", "comma"],
)
def test_a_file_that_is_no_invoice_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "invoice.csv"
    file.write_text(text)
    with pytest.raises(UsageError, match=told):
        read_invoice(str(file), currency="USD")


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("node,amount\nn1,2\nn1,0.5\n,1\n", {("n1", "USD"): 2_500_000_000, (None, "USD"): 1_000_000_000}),
        (
            "\ufeffResourceId,BilledCost,BillingCurrency,Tags\nn1,1.25,EUR,{}\nn2,-1,USD,{}\n",
            {("n1", "EUR"): 1_250_000_000, ("n2", "USD"): -1_000_000_000},
        ),
    ],
    ids=["own", "focus"],
)
def test_rows_of_a_node_are_added_up_in_both_forms(tmp_path: Path, text: str, amounts: Any) -> None:
    file = tmp_path / "invoice.csv"
    file.write_text(text, encoding="utf-8")
    assert read_invoice(str(file), currency="USD").amounts == amounts


@pytest.mark.parametrize(
    "raw",
    ["node,amount\nn1,2\n".encode("utf-16"), b"PAR1\x15\x04\x15\xff\x00PAR1", b"node,amount\nn1,\x00\n"],
    ids=["utf-16", "parquet", "nul"],
)
def test_a_file_of_another_form_is_told_what_is_wanted(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "invoice.csv"
    file.write_bytes(raw)
    with pytest.raises(UsageError) as caught:
        read_invoice(str(file), currency="USD")
    assert str(file) in str(caught.value) and "codec" not in str(caught.value)


def test_decimals_beyond_the_ninth_count_before_the_one_rounding(tmp_path: Path) -> None:
    """As a FOCUS file of `--currency` has them: two halves of a cent and a bit are a cent, each alone is none."""
    file = tmp_path / "invoice.csv"
    file.write_text("ResourceId,BilledCost,BillingCurrency\nn1,0.002500000000000001,EUR\nn2,0.0025,EUR\n")
    found = reconcile({("n1", "EUR"): 5_000_000}, read_invoice(str(file), currency="USD"))
    assert [row["invoice"] for row in found.rows] == ["0.01", "0.00"]
    assert found.totals[0]["difference"] == "0.00"


def test_an_amount_that_is_no_amount_of_money_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="is not up to"):
        read_invoice("1e99999999", currency="USD")


def test_what_is_neither_an_amount_nor_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither an amount nor a file"):
        read_invoice(str(tmp_path / "none.csv"), currency="USD")
    with pytest.raises(UsageError, match="neither an amount"):
        read_invoice("NaN", currency="USD")
