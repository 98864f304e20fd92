"""The derived tables, kept in step with the append tables: runs and their facts, node-hours and their prices.

Each is a pure function of the append tables, written under a version that grows, so any refresh may be
repeated, and a crash between a batch and its refresh is found by `catch_up`.
"""

from .cost.tables import CostTables
from .dirty import Dirty
from .progress_samples import ProgressSamples
from .run_tables import RunTables
from .storage.store import Store

__all__ = ["Derivation"]


class Derivation:
    """Refreshes what a batch touched. One worker refreshes a run or a node: the owner of its partition."""

    def __init__(self, store: Store, generation: str) -> None:
        self.runs = RunTables(store, generation)
        self.costs = CostTables(store, generation)
        self._progress = ProgressSamples(store, generation)

    def refresh(self, dirty: Dirty) -> None:
        """Compute anew what these events can change."""
        moved = self.runs.refresh(dirty.run_ids)
        hours = dirty.node_hours | self.costs.unbooked() if dirty.periods else dirty.node_hours
        self.costs.refresh(hours | self.costs.hours_of(moved.since_us), prices_changed=dirty.prices)
        if moved.is_decided:
            self.costs.note_moves()
        self._progress.add(dirty.steps)

    def catch_up(self) -> None:
        """Compute anew everything that is older than its events."""
        moved = self.runs.refresh(self.runs.stale())
        undealt = self.costs.undealt_moves()
        hours = self.costs.stale() | self.costs.hours_of(moved.since_us | undealt)
        self.costs.refresh(hours, prices_changed=self.costs.prices_are_stale())
        if undealt:
            self.costs.note_moves()
