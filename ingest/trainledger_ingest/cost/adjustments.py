"""Why the money of a closed node-hour moved: a chain of bills from what was booked to what is known now.

Each bill of the chain differs from the one before it by one cause, so the differences add up to the whole exactly,
whoever and however many they are: `late` (events that came after the month was closed), `run` (none came, but a process
was counted to another run), `presence` (another rule of when the node is billed), `policy` (another division between
host and devices), `price` (another rate).
Amounts are 10^-9 of a currency. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Adjustment", "Bill", "EventRef", "Owed", "explain_difference"]


class Owed(NamedTuple):
    """Who owes: a run, an owner's untracked processes, or a kind; `account` is that of their job. `currency` None:
    no price."""

    kind: str
    run_id: str | None
    owner: str | None
    currency: str | None
    account: str | None = None


Bill = Mapping[Owed, int]


class EventRef(NamedTuple):
    """The event that made the difference: `type topic/partition/offset`, when it came, who made it."""

    event: str
    at_us: int
    by: str


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A difference of one holder. None: there was no price."""

    owed: Owed
    old_nano: int | None
    new_nano: int | None
    cause: str
    ref: EventRef

    @property
    def delta_nano(self) -> int:
        """New less old; what had no price counts as nothing."""
        return (self.new_nano or 0) - (self.old_nano or 0)


def explain_difference(booked: Bill, chain: Sequence[tuple[str, Bill, EventRef]]) -> list[Adjustment]:
    """The differences along a chain of (cause, bill under it, event), from the booked bill on."""
    found: list[Adjustment] = []
    before = booked
    for cause, after, ref in chain:
        for owed in sorted(_priced(before) | _priced(after), key=_order):
            old, new = _amount(before, owed), _amount(after, owed)
            if (old or 0) != (new or 0):
                found.append(Adjustment(owed, old, new, cause, ref))
        before = after
    return found


def _priced(bill: Iterable[Owed]) -> set[Owed]:
    return {owed for owed in bill if owed.currency is not None}


def _amount(bill: Bill, owed: Owed) -> int | None:
    if owed in bill:
        return bill[owed]
    return None if owed._replace(currency=None) in bill else 0


def _order(owed: Owed) -> tuple[str, ...]:
    return tuple(part or "" for part in owed)
