"""The currency that a report of `cost` is asked in."""

from ..cost.conversion import Conversion, Exchange, read_exchange
from ..cost.month import ClosedMonth
from ..session import Session
from .opening import read_settings

__all__ = ["asked_exchange", "conversion_of"]


def asked_exchange(opened: Session, currency: str | None) -> Exchange | None:
    """The rates to the currency of the option, else of TRAINLEDGER_CURRENCY; None where neither names one."""
    target = currency or read_settings().currency
    return None if target is None else read_exchange(opened, target)


def conversion_of(exchange: Exchange | None, closed: ClosedMonth | None) -> Conversion | None:
    """By the rates of when a month was closed, or by those of now."""
    if exchange is None:
        return None
    return exchange.now() if closed is None else exchange.as_closed(closed.period)
