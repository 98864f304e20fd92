"""A bar for work that takes long, on stderr and only on a terminal: nothing is drawn into files and pipes.

It appears after half a second, so that short work shows nothing, and goes when the work is done.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainledger_schemas.clock import Clock, SystemClock

__all__ = ["progress_bar"]

SILENT_NS = 500_000_000


@contextmanager
def progress_bar(title: str, *, clock: Clock | None = None) -> Iterator[Callable[[int, int], None]]:
    """A function to tell (done, total); `total` may grow. Not for two threads; it does nothing after the end."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    used = clock or SystemClock()
    began_ns = used.monotonic_ns()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task(title, total=None)
    has_ended = False

    def tell(done: int, total: int) -> None:
        if has_ended:
            return
        if not bar.live.is_started:
            if used.monotonic_ns() - began_ns < SILENT_NS:
                return
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield tell
    finally:
        has_ended = True
        if bar.live.is_started:
            bar.stop()
