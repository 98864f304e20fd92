"""What a batch of events touched: the keys whose derived rows are to be computed anew."""

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["SAMPLE_US", "Dirty", "Steps"]

SAMPLE_US = 10_000_000

Steps = tuple[int, int]
"""A step, and when it was logged (microseconds)."""


@dataclass(slots=True)
class Dirty:
    """Run ids (UUID text), (node id, start of the hour in microseconds), whether a price was set, a month closed.

    `steps`: how far each process was, by (run id, writer id, number of the stretch of SAMPLE_US since 1970)."""

    run_ids: set[str] = field(default_factory=set)
    node_hours: set[tuple[str, int]] = field(default_factory=set)
    prices: bool = False
    periods: bool = False
    steps: dict[tuple[str, str, int], Steps] = field(default_factory=dict)

    def merge(self, others: Iterable["Dirty"]) -> None:
        """Add what others touched."""
        for other in others:
            self.run_ids |= other.run_ids
            self.node_hours |= other.node_hours
            self.prices = self.prices or other.prices
            self.periods = self.periods or other.periods
            for (run_id, writer_id, _), (step, at_us) in other.steps.items():
                self.reach(run_id, writer_id, step, at_us)

    def reach(self, run_id: str, writer_id: str, step: int, at_us: int) -> None:
        """A process of a run has logged this step."""
        place = (run_id, writer_id, at_us // SAMPLE_US)
        known = self.steps.get(place)
        if known is None or (step, at_us) > known:
            self.steps[place] = (step, at_us)

    def __bool__(self) -> bool:
        return bool(self.run_ids or self.node_hours or self.prices or self.periods or self.steps)
