"""Draining a worker while somebody watches: how many records are taken, of how many."""

from .session import Progress
from .worker import Worker

__all__ = ["drain_and_tell"]


def drain_and_tell(worker: Worker, progress: Progress | None) -> None:
    """As `worker.drain()`; `progress` is told after each round that took records, and once at the end."""
    total = 0
    while progress is not None and (taken := worker.step(0.0)):
        left = sum(worker.lag().values())
        total = max(total, taken + left)
        progress(total - left, total)
    worker.drain()
