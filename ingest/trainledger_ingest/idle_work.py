"""What the owner of a home does when nothing is pending: index manifests, compress what the tables have of the log.

Each step is short; what is cut off goes on with the next one.
"""

from collections.abc import Callable
from contextlib import suppress

from trainledger_schemas.blobs import BlobSource
from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import RetryableError
from trainledger_schemas.events import TOPICS
from trainledger_schemas.positions import TopicPartition

from .dirty import Dirty
from .ledger import Ledger
from .manifest_index import ManifestIndex
from .session import Say
from .storage.migrate import Schema
from .storage.store import Store

__all__ = ["Compress", "IdleWork"]

# How often `up` looks at its log, and after how long a one-shot begins nothing more at its end: a full segment takes a
# second to compress, for which nobody should wait twice.
INTERVAL_S = 10.0
ONE_SHOT_S = 0.5

Compress = Callable[[str, int], int]
"""Compresses one segment of a topic that ends at or before an offset; how many there were."""


class IdleWork:
    """Not for two threads at once. `compress` None: the log is another process's."""

    def __init__(
        self,
        store: Store,
        schema: Schema,
        *,
        compress: Compress | None,
        blobs: Callable[[], BlobSource],
        clock: Clock,
    ) -> None:
        self._compress = compress
        self._ledger = Ledger(store, schema.tables)
        self._index = ManifestIndex(store, schema.generation, blobs=blobs, clock=clock)
        self._clock = clock
        self._paused_until_ns = self._next_ns = clock.monotonic_ns()

    def note(self, dirty: Dirty) -> None:
        """See `ManifestIndex.note`."""
        self._index.note(dirty)

    def index_all(self, older: str) -> None:
        """Index every manifest that can be read here, and take the others from an older generation; blocks."""
        with suppress(
            OSError, RetryableError
        ):  # blobs that cannot be reached now: the older generation has them
            self._index.fill()
        self._index.take_over(older)

    def step(self, *, at_once: bool = False) -> bool:
        """Do a little; whether there may be more. Raises OSError or RetryableError; it then waits INTERVAL_S.

        The log is looked at again INTERVAL_S after there was nothing to do, unless `at_once`."""
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._paused_until_ns and not at_once:
            return False
        self._paused_until_ns = now_ns + round(INTERVAL_S * 1e9)
        has_more = self._index.step() or self._compress_one(now_ns, at_once=at_once)
        self._paused_until_ns = now_ns
        return has_more

    def finish(self, say: Say) -> None:
        """Do what ONE_SHOT_S allows at the end of a command; trouble is told and left to the next command."""
        give_up_ns = self._clock.monotonic_ns() + round(ONE_SHOT_S * 1e9)
        try:
            while self._clock.monotonic_ns() < give_up_ns and self.step(at_once=True):
                pass
        except (OSError, RetryableError) as error:
            say(f"the log could not be compressed, or manifests not be indexed: {error}")

    def _compress_one(self, now_ns: int, *, at_once: bool) -> bool:
        if self._compress is None or (now_ns < self._next_ns and not at_once):
            return False
        for topic in TOPICS:
            if self._compress(topic, self._ledger.end(TopicPartition(topic, 0)) or 0):
                return True
        self._next_ns = now_ns + round(INTERVAL_S * 1e9)
        return False
