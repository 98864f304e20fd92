"""Differences to the cent: what was posted stays as it was posted, and the differences lead to the newest bill.

A statement is rounded once, the newest bill is rounded once; the differences between them are rounded so that they sum
to the difference of both, which may be a minor unit more or less than their own sum rounded. What a month has booked
is rounded by itself, on top of what was booked before, so that nothing that is learned later moves it.
"""

from collections.abc import Sequence

from .money import round_half_up

__all__ = ["posted_bookings", "posted_differences"]

_NANO_DIGITS = 9


def posted_differences(before_nano: int, deltas_nano: Sequence[int], *, digits: int) -> list[int]:
    """`deltas_nano` in minor units of `digits` decimals, summing to (rounded newest) - (rounded `before_nano`).

    Each gets its floor, and the units left go to the largest fractions, ties by position; where the two roundings
    ask for a unit more than there are fractions, or take one, the rounds go on from the largest amount."""
    unit = 10 ** (_NANO_DIGITS - digits)
    wanted = round_half_up(before_nano + sum(deltas_nano), unit) - round_half_up(before_nano, unit)
    parts = [delta // unit for delta in deltas_nano]
    left = wanted - sum(parts)
    by_fraction = sorted(range(len(parts)), key=lambda index: (-(deltas_nano[index] % unit), index))
    by_amount = sorted(range(len(parts)), key=lambda index: (-abs(deltas_nano[index]), index))
    order = by_fraction if left >= 0 else by_amount
    while left and order:
        step = 1 if left > 0 else -1
        for index in order[: abs(left)]:
            parts[index] += step
        left -= step * min(abs(left), len(order))
        order = by_amount
    return parts


def posted_bookings(before_nano: int, bookings: Sequence[Sequence[int]], *, digits: int) -> list[list[int]]:
    """Each of `bookings` (differences that were booked together, in the order of booking) as `posted_differences`."""
    posted = []
    for deltas in bookings:
        posted.append(posted_differences(before_nano, deltas, digits=digits))
        before_nano += sum(deltas)
    return posted
