"""The bills of nodes against an invoice: what is charged beside them, node by node, and never spread over holders.

An invoice is one amount, or a CSV file: columns `node`, `amount` and, if not US dollars, `currency`; or those of FOCUS
(`ResourceId`, `BilledCost`, `BillingCurrency`). Several rows of one node are added up. Both columns are rounded once,
and the difference is that of the rounded amounts; a currency that only one side has stands for itself.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any

from trainledger_schemas.errors import UsageError

from ..session import Session
from .csv_rows import refuse_cells_beyond
from .money import cents, currency_code, format_minor, minor_digits, nano_of
from .month import ClosedMonth
from .periods import period_condition

__all__ = [
    "COLUMNS",
    "Invoice",
    "Reconciliation",
    "adjustments",
    "read_invoice",
    "reconcile",
    "reconcile_period",
]

COLUMNS = ("node", "status", "bill", "invoice", "difference", "currency")
NANO = 10**9
AMOUNT_MAX, DECIMALS_MAX = Decimal(10**15), 30
_FORMS = (("node", "amount", "currency"), ("ResourceId", "BilledCost", "BillingCurrency"))


@dataclass(frozen=True, slots=True)
class Invoice:
    """Exact 10^-9 of the currency by (node, currency); node None: of all nodes, where the invoice names none.

    Invoices have more than nine decimals where their amounts are quotients, as those of FOCUS files."""

    amounts: Mapping[tuple[str | None, str], int | Fraction]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """`rows` of COLUMNS, and `totals` {bill, invoice, difference, currency}; unpriced node-hours that no bill has."""

    rows: tuple[dict[str, Any], ...]
    totals: tuple[dict[str, str], ...]
    unpriced_hours: float


def read_invoice(text: str, *, currency: str) -> Invoice:
    """An amount in `currency`, or the path of a CSV file. Raises UsageError that names file, row and column."""
    try:
        return Invoice({(None, currency_code(currency)): _nano(text)})
    except InvalidOperation:
        pass
    path = Path(text)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read_rows(path, csv.DictReader(file), currency)
    except (UnicodeDecodeError, csv.Error):
        raise UsageError(
            f"--reconcile {text}: this is no CSV file of text in UTF-8 (a table, or another encoding); save it "
            "as CSV in UTF-8, with columns node and amount"
        ) from None
    except OSError as error:
        raise UsageError(
            f"--reconcile {text}: neither an amount nor a file that can be read: {error}"
        ) from error


def _read_rows(path: Path, rows: "csv.DictReader[str]", currency: str) -> Invoice:
    names = set(rows.fieldnames or ())
    form = next((form for form in _FORMS if {*form[:2]} <= names), None)
    if form is None:
        raise UsageError(
            f"{path} has no columns node and amount, and none of FOCUS (ResourceId, BilledCost); it has "
            f"{', '.join(sorted(names)) or 'no header'}"
        )
    node_column, amount_column, currency_column = form
    amounts: dict[tuple[str | None, str], int | Fraction] = {}
    for number, row in enumerate(rows, 2):
        where = f"{path}, line {number}"
        refuse_cells_beyond(where, row)
        amount = (row[amount_column] or "").strip()
        try:
            nano = _nano(amount)
        except InvalidOperation:
            raise UsageError(f"{where}: {amount_column} {amount!r} is not an amount") from None
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
        key = (
            (row[node_column] or "").strip() or None,
            currency_code((row.get(currency_column) or currency).strip()),
        )
        amounts[key] = amounts.get(key, 0) + nano
    if not amounts:
        raise UsageError(f"{path} has a header and no row")
    return Invoice(amounts)


def _nano(text: str) -> Fraction:
    number = Decimal(text)
    if not number.is_finite():
        raise InvalidOperation
    # Checked before it is exact: 1e99999999 as a whole number takes minutes.
    if number.copy_abs() > AMOUNT_MAX or -int(number.as_tuple().exponent) > DECIMALS_MAX:
        raise UsageError(f"amount {text} is not up to {AMOUNT_MAX} with at most {DECIMALS_MAX} decimals")
    return Fraction(number) * NANO


def reconcile_period(
    session: Session,
    invoice: Invoice,
    *,
    start: str | None,
    end: str | None,
    closed: ClosedMonth | None,
) -> Reconciliation:
    """Against the bills of [start, end) (UTC hours as text), or those of the statement of a closed month."""
    if closed is None:
        where, parameters = period_condition(start, end)
        source = f"{session.views}.node_hour_bills WHERE {where}"
    else:
        parameters, source = (
            {"p": closed.period},
            f"{session.views}.statement_bills WHERE period = {{p:String}}",
        )
    rows = session.query(
        "SELECT node_id, currency AS money, sum(bill) AS total, sum(present_s) / 3600 AS hours "
        f"FROM {source} AND present_s > 0 GROUP BY node_id, money",
        parameters,
    ).to_pylist()
    bills = {
        (row["node_id"], row["money"]): nano_of(row["total"]) for row in rows if row["money"] is not None
    }
    unpriced = sum(row["hours"] for row in rows if row["money"] is None)
    return reconcile(bills, invoice, unpriced_hours=unpriced)


def reconcile(
    bills: Mapping[tuple[str, str], int], invoice: Invoice, *, unpriced_hours: float = 0.0
) -> Reconciliation:
    """Bills (10^-9 by node and currency) against an invoice, by node where it names nodes."""
    rows: list[dict[str, Any]] = []
    totals: list[dict[str, str]] = []
    for currency in sorted({money for _, money in [*bills, *invoice.amounts]}):
        exact = {node: nano for (node, money), nano in invoice.amounts.items() if money == currency}
        scale = lcm(1, *(nano.denominator for nano in exact.values()))
        charged = {node: int(nano * scale) for node, nano in exact.items()}
        billed_by: dict[str | None, int] = {
            node: nano for (node, money), nano in bills.items() if money == currency
        }
        if set(charged) == {None}:
            billed_by = {None: sum(billed_by.values())}
        nodes = sorted({*billed_by, *charged}, key=lambda node: (node is None, node or ""))
        digits = minor_digits(currency)
        ours = cents([billed_by.get(node, 0) for node in nodes], digits=digits)
        theirs = cents([charged.get(node, 0) for node in nodes], digits=digits, scale=scale)
        for node, bill, amount in zip(nodes, ours, theirs, strict=True):
            status = _status(node in billed_by, node in charged, bill == amount)
            rows.append({"node": node, "status": status, **_texts(bill, amount, currency, digits)})
        totals.append(_texts(sum(ours), sum(theirs), currency, digits))
    return Reconciliation(tuple(rows), tuple(totals), unpriced_hours)


def _status(is_billed: bool, is_charged: bool, is_equal: bool) -> str:
    if not is_charged:
        return "not in the invoice"
    if not is_billed:
        return "not in the bills"
    return "equal" if is_equal else "differs"


def _texts(bill: int, amount: int, currency: str, digits: int) -> dict[str, str]:
    return {
        "bill": format_minor(bill, digits),
        "invoice": format_minor(amount, digits),
        "difference": format_minor(amount - bill, digits),
        "currency": currency,
    }


def adjustments(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows whose difference is not 0: what would have to be booked apart."""
    return [row for row in rows if Decimal(row["difference"])]
