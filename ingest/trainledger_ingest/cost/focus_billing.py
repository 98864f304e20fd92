"""A FOCUS file in one billing currency, whatever the prices are in: by which rate each row is charged.

A row is charged at the rate of the day of its hour. A difference to a closed month is charged at the rates by which
that month was closed, as its statement is, so that a rate that is set later makes no difference; where there was none
then, by those of the month that books it. A file that would need a rate that there is not is not written: an
invoice has one currency.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Any

from trainledger_schemas.errors import UsageError

from .conversion import Conversion, Exchange, missing_text

__all__ = ["Billing", "billing_of", "check_rates"]


@dataclass(frozen=True, slots=True)
class Billing:
    """By `conversion`; and by the rates of older closed months what is booked of them."""

    conversion: Conversion
    older: Mapping[str, Conversion]

    @property
    def currency(self) -> str:
        """The currency of the file."""
        return self.conversion.target

    def factor(self, currency: str, day: date, *, is_correction: bool) -> Fraction | None:
        """What an amount of a row is multiplied by."""
        older = self.older.get(f"{day:%Y-%m}") if is_correction else None
        return (older.factor(currency, day) if older else None) or self.conversion.factor(currency, day)

    def charge(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """A line with the currency it is billed in and the factor to it; of a correction `booked_in` is set."""
        factor = self.factor(
            line["currency"], line["usage_hour"].date(), is_correction=line.get("booked_in") is not None
        )
        return dict(line) | {"billed_in": self.currency, "factor": factor}


def billing_of(exchange: Exchange | None, closed: str | None) -> Billing | None:
    """The billing of a month that is closed (its name) or open; None where each row keeps its own currency."""
    if exchange is None:
        return None
    own = exchange.now() if closed is None else exchange.as_closed(closed)
    return Billing(own, {period: exchange.as_closed(period) for period in exchange.closings})


def check_rates(billing: Billing, days: Iterable[tuple[str, date, bool]]) -> None:
    """Raise UsageError unless there is a rate for each (currency, day, is_correction)."""
    missing: dict[str, set[date]] = {}
    for currency, day, is_correction in days:
        if billing.factor(currency, day, is_correction=is_correction) is None:
            missing.setdefault(currency, set()).add(day)
    if missing:
        raise UsageError(f"nothing was written, {missing_text(billing.conversion, missing)}")
