"""The bill of a node-hour and its division among the lines, exactly."""

from trainledger_schemas.errors import InvariantError

from .adjustments import Owed
from .money import largest_remainder
from .node_events import Kind
from .node_hour import NodeHour
from .prices import Price

__all__ = ["bill_by_holder", "priced_lines"]


def priced_lines(hour: NodeHour, price: Price) -> tuple[int, list[int]]:
    """The bill of a node-hour and its division among the lines, 10^-9 of the currency; they sum exactly."""
    bill = price.bill_nano(hour.presence_us)
    costs = largest_remainder(bill, [line.held_share for line in hour.lines], range(len(hour.lines)))
    return bill, costs


def bill_by_holder(hour: NodeHour, price: Price | None, users: dict[str, str | None]) -> dict[Owed, int]:
    """What each holder owes for a node-hour, 10^-9 of the currency, all resources together; without a price 0
    under currency None. `users`: who started a run, for lines that name no owner."""
    bill, costs = priced_lines(hour, price) if price else (0, [0] * len(hour.lines))
    owed: dict[Owed, int] = {}
    for line, cost in zip(hour.lines, costs, strict=True):
        owner = line.owner
        if owner is None and line.kind is Kind.RUN:
            owner = users.get(line.run_id or "")
        key = Owed(str(line.kind), line.run_id, owner, price.currency if price else None, line.account)
        owed[key] = owed.get(key, 0) + cost
    if sum(owed.values()) != bill:
        raise InvariantError(f"holders of node {hour.node_id} owe {sum(owed.values())} of a bill of {bill}")
    return owed
