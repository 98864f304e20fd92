"""A cost report in one currency, from rows of hours alone and in decimal arithmetic: written apart from the product."""

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from typing import Any

__all__ = ["Said", "slow_cents", "slow_rate", "slow_total"]

# What is lost in the two hundredth digit is not seen in the fiftieth.
_WIDE = Context(prec=200)
_SEEN = Decimal("1E-50")
Said = tuple[str, str, str | None, date]
"""One unit of the first is so much of the second, from a day on; None: no rate."""


def slow_rate(said: Iterable[Said], currency: str, target: str, day: date) -> Decimal | None:
    """What to multiply by on a day."""
    if currency == target:
        return Decimal(1)
    found: tuple[date, Decimal | None] | None = None
    for base, quoted_in, rate, since in said:
        if {base, quoted_in} != {currency, target} or since > day or (found and since < found[0]):
            continue
        number = None if rate is None else Decimal(rate)
        if number is not None and base != currency:
            number = _WIDE.divide(Decimal(1), number)
        found = (since, number)
    return found[1] if found else None


def slow_total(
    rows: Iterable[Mapping[str, Any]], said: Iterable[Said], target: str, by: str
) -> dict[tuple[Any, str], Decimal]:
    """(holder, currency) -> exact amount; `rows` {holder, usage_hour, cost, currency}."""
    said = list(said)
    sums: dict[tuple[Any, str], Decimal] = {}
    for row in rows:
        rate = slow_rate(said, row["currency"], target, row["usage_hour"].date())
        key = (row[by], row["currency"] if rate is None else target)
        amount = row["cost"] if rate is None else _WIDE.multiply(row["cost"], rate)
        sums[key] = _WIDE.add(sums.get(key, Decimal(0)), amount)
    return sums


def slow_cents(amounts: Mapping[Any, Decimal]) -> dict[Any, Decimal]:
    """Each to the cent: the total half up, what is then left over to the largest fractions, ties to the first."""
    cent = Decimal("0.01")
    seen = {key: amount.quantize(_SEEN, ROUND_HALF_UP, _WIDE) for key, amount in amounts.items()}
    whole = sum(seen.values(), Decimal(0)).quantize(cent, ROUND_HALF_UP, _WIDE)
    floors = {key: amount.quantize(cent, ROUND_FLOOR, _WIDE) for key, amount in seen.items()}
    keys = sorted(seen, key=lambda key: floors[key] - seen[key])
    for key in keys[: int((whole - sum(floors.values(), Decimal(0))) / cent)]:
        floors[key] += cent
    return floors
