"""Says that the node is there: at start, each 30 s, when asked, and a last time when it leaves.

The bill of a node is its price times its presence, and presence is known from these events alone (the other
node events count as signs of life too). Where more than 90 s pass between two, the time is `unknown`. The
event also lists the live writers: that is their heartbeat. On a rented machine it says which one that is, and at
once what the provider will do with it.
"""

from collections.abc import Callable, Sequence

from trainledger.node.host import HostReader
from trainledger.node.identity import NodeIdentity
from trainledger.node.processes import WriterProcess
from trainledger.node.sampler import Fields
from trainledger_schemas.clock import Clock
from trainledger_schemas.events import Instance

__all__ = ["Presence"]


class Presence:
    """Makes `node_present` events and knows when the next is due."""

    def __init__(
        self,
        *,
        identity: NodeIdentity,
        clock: Clock,
        reader: HostReader,
        agent_version: str,
        interval_s: float,
        instance: Callable[[], Instance | None] = lambda: None,
    ) -> None:
        self._identity = identity
        self._clock = clock
        self._reader = reader
        self._version = agent_version
        self._interval_ns = round(interval_s * 1e9)
        self._said_ns: int | None = None
        self._instance = instance
        self._said_instance: Instance | None = None

    def is_due(self, now_ns: int) -> bool:
        """Whether the interval has passed (`now_ns`: monotonic), or the machine became known or has news; true before
        the first event."""
        if self._said_ns is None or self._instance() != self._said_instance:
            return True
        return now_ns - self._said_ns >= self._interval_ns

    def say(
        self, writers: Sequence[WriterProcess], *, leaving: bool = False, at_us: int | None = None
    ) -> Fields:
        """The fields of an event for this moment, or for `at_us` (wall time in microseconds) just before it."""
        self._said_ns = self._clock.monotonic_ns()
        self._said_instance = self._instance()
        return {
            "at_us": self._clock.wall_ns() // 1000 if at_us is None else at_us,
            "host": self._identity.host,
            "cores": self._reader.cores,
            "memory_bytes": self._reader.memory_total_bytes(),
            "agent_version": self._version,
            "leaving": leaving,
            "busy_us": self._reader.cpu_us()[0],
            "writers": [{"run_id": item.run_id, "writer_id": item.writer_id} for item in writers],
            "instance": self._said_instance,
        }
