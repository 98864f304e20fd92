"""Exact money: integers of 1e-9 of a currency ("nano"), dealt out without losing or making a unit.

Guarantees: no float takes part; what is dealt out sums to what was to be dealt out, also for negative
totals; the same input gives the same output in any process (ties go by key, never by dict order).
Rounding is named at each place: `round_half_up` rounds halves away from zero, so that a correction and its
reversal are mirror images.
"""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from trainledger_schemas.errors import InvariantError, UsageError

__all__ = [
    "NANO_PER_UNIT",
    "cents",
    "currency_code",
    "exact_text",
    "format_minor",
    "largest_remainder",
    "minor_digits",
    "minor_text",
    "nano_of",
    "nano_to_text",
    "round_half_up",
    "rounded_minor",
    "whole_nano",
]

NANO_PER_UNIT = 10**9
_NANO_DIGITS = 9

# ISO 4217 minor units that differ from 2.
_MINOR_DIGITS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0),
    **dict.fromkeys(("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}


def currency_code(text: str) -> str:
    """The checked ISO 4217 code; raises UsageError for anything but three capital letters."""
    if len(text) != 3 or not text.isascii() or not text.isalpha() or not text.isupper():
        raise UsageError(f"currency {text!r} is not a code; write three capital letters such as USD or EUR")
    return text


def minor_digits(currency: str) -> int:
    """How many decimals amounts of `currency` have when shown: 2, but JPY 0, KWD 3 and so on (ISO 4217)."""
    return _MINOR_DIGITS.get(currency, 2)


def round_half_up(numerator: int, denominator: int) -> int:
    """`numerator / denominator` as the nearest integer, halves away from zero; `denominator` > 0."""
    if denominator <= 0:
        raise InvariantError(f"rounding needs a positive denominator, got {denominator}")
    magnitude = (2 * abs(numerator) + denominator) // (2 * denominator)
    return magnitude if numerator >= 0 else -magnitude


def largest_remainder(total: int, weights: Sequence[int], keys: Sequence[Any]) -> list[int]:
    """Deal `total` in proportion to `weights`, in whole units.

    Each gets the floor of its exact part; the units left go one each to the largest remainders, ties to the
    smaller key. A weight of 0 gets 0. A negative total is dealt as the mirror of the positive one.
    Returns as many integers as weights, summing to `total`. Raises InvariantError for negative weights,
    lengths that differ, or a total with nobody to take it.
    """
    if len(weights) != len(keys):
        raise InvariantError(f"{len(weights)} weights but {len(keys)} keys")
    if total < 0:
        return [-part for part in largest_remainder(-total, weights, keys)]
    weight_sum = sum(weights)
    if any(weight < 0 for weight in weights):
        raise InvariantError("a negative weight cannot take part of a total")
    if weight_sum == 0:
        if total:
            raise InvariantError(f"{total} units to deal and no weight to take them")
        return [0] * len(weights)
    parts: list[int] = []
    remainders: list[int] = []
    for weight in weights:
        part, remainder = divmod(total * weight, weight_sum)
        parts.append(part)
        remainders.append(remainder)
    left = total - sum(parts)
    if left:
        order = sorted(range(len(parts)), key=lambda index: (-remainders[index], keys[index]))
        for index in order[:left]:
            parts[index] += 1
    return parts


def cents(
    lines_nano: Sequence[int], keys: Sequence[Any] | None = None, *, digits: int = 2, scale: int = 1
) -> list[int]:
    """Round a column of amounts (nano / `scale`) to minor units so that it sums to its rounded total.

    The total is rounded half up once; each line gets its floor, and the minor units left go to the largest
    fractions, ties by key (default: the position). Lines may be negative. So no line moves by a full minor
    unit, and whole lines stay as they are.
    """
    if keys is None:
        keys = range(len(lines_nano))
    if len(keys) != len(lines_nano):
        raise InvariantError(f"{len(lines_nano)} lines but {len(keys)} keys")
    unit = 10 ** (_NANO_DIGITS - digits) * scale
    parts: list[int] = []
    fractions: list[int] = []
    for nano in lines_nano:
        part, fraction = divmod(nano, unit)
        parts.append(part)
        fractions.append(fraction)
    left = round_half_up(sum(lines_nano), unit) - sum(parts)
    if not 0 <= left <= sum(1 for fraction in fractions if fraction):
        raise InvariantError(f"{left} minor units left for {len(parts)} lines")
    order = sorted(range(len(parts)), key=lambda index: (-fractions[index], keys[index]))
    for index in order[:left]:
        parts[index] += 1
    return parts


def rounded_minor(nano: int, currency: str, scale: int = 1) -> int:
    """One amount (nano / `scale`) rounded half up to the minor unit of its currency."""
    return round_half_up(nano, 10 ** (_NANO_DIGITS - minor_digits(currency)) * scale)


def format_minor(minor: int, digits: int) -> str:
    """`1047, 2` as `10.47`; always all decimals, a plain minus sign, no separators."""
    sign = "-" if minor < 0 else ""
    if digits == 0:
        return f"{sign}{abs(minor)}"
    whole, fraction = divmod(abs(minor), 10**digits)
    return f"{sign}{whole}.{fraction:0{digits}d}"


def minor_text(nano: int, currency: str, scale: int = 1) -> str:
    """One amount (nano / `scale`) as people read it, rounded half up to the minor unit of its currency."""
    return format_minor(rounded_minor(nano, currency, scale), minor_digits(currency))


def exact_text(nano: int, currency: str) -> str:
    """One amount with all its decimals, and those of the minor unit of its currency: a limit must not look like 0."""
    digits = minor_digits(currency)
    whole, _, decimals = format_minor(nano, _NANO_DIGITS).partition(".")
    shown = f"{decimals.rstrip('0'):0<{digits}}"
    return f"{whole}.{shown}" if shown else whole


def nano_of(amount: Decimal) -> int:
    """An amount of the tables (nine decimals) as exact nano."""
    # Through Fraction: Decimal arithmetic would round to 28 digits.
    return int(Fraction(amount) * NANO_PER_UNIT)


def whole_nano(total: Decimal | int) -> int:
    """A sum as exact nano: an amount of the tables, or a whole number that is it already."""
    return total if isinstance(total, int) else nano_of(total)


def nano_to_text(nano: int) -> str:
    """An exact nano amount as decimal text with nine decimals, as the tables store it."""
    return format_minor(nano, _NANO_DIGITS)
