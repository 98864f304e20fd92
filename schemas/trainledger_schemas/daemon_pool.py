"""A few threads that do pieces of work and hand back what came of each, in no order.

Unlike those of `concurrent.futures` they never keep a process from ending: a request to a store that hangs must not.
Whoever uses it holds the number of pieces that wait: `submit` takes any, `take` blocks for the next that is done.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["DaemonPool"]

T = TypeVar("T")


class DaemonPool(Generic[T]):
    """`threads` threads, started one by one as there is work; a context manager, for one thread to use."""

    def __init__(self, threads: int, name: str) -> None:
        """`name`: of the threads, for whoever looks at the process."""
        self.threads = threads
        self.under_way = 0
        self._name = name
        self._started = 0
        self._tasks: SimpleQueue[Callable[[], T] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def __enter__(self) -> "DaemonPool[T]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_busy(self) -> bool:
        """Whether as many pieces are under way as there are threads."""
        return self.under_way >= self.threads

    def submit(self, work: Callable[[], T]) -> None:
        """Have a piece of work done; returns at once."""
        self.under_way += 1
        if self._started < min(self.threads, self.under_way):
            self._started += 1
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        self._tasks.put(work)

    def take(self) -> T:
        """What came of a piece that is done, waiting for one; raises what it raised."""
        result, error = self._done.get()
        self.under_way -= 1
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # without an error there is a result

    def close(self) -> None:
        """Let the threads end; what is under way goes on to its end, unheard."""
        for _ in range(self._started):
            self._tasks.put(None)
        self._started = 0

    def _run(self) -> None:
        while (work := self._tasks.get()) is not None:
            try:
                self._done.put((work(), None))
            except BaseException as error:  # raised where it is taken
                self._done.put((None, error))
