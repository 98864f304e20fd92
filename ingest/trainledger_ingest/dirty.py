"""What a batch of events touched: the keys whose derived rows are to be computed anew."""

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Dirty"]


@dataclass(slots=True)
class Dirty:
    """Run ids (UUID text), (node id, start of the hour in microseconds), and whether a price was set."""

    run_ids: set[str] = field(default_factory=set)
    node_hours: set[tuple[str, int]] = field(default_factory=set)
    prices: bool = False

    def merge(self, others: Iterable["Dirty"]) -> None:
        """Add what others touched."""
        for other in others:
            self.run_ids |= other.run_ids
            self.node_hours |= other.node_hours
            self.prices = self.prices or other.prices

    def __bool__(self) -> bool:
        return bool(self.run_ids or self.node_hours or self.prices)
