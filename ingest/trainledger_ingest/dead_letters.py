"""Records that cannot be understood: kept as rows, or, where nothing may be missing, a stop.

A topic says what its poison does (`events.TOPICS[...].poison_stops`). A stopped partition goes on when an
administrator skips the record, which is itself an event; the record is then kept as a dead letter too.
"""

from dataclasses import dataclass

from trainledger_schemas.errors import FatalError
from trainledger_schemas.positions import TopicPartition

from .storage.migrate import Tables
from .storage.store import Store

__all__ = ["MESSAGE_CHARS_MAX", "DeadLetter", "PoisonError", "read_skipped"]

MESSAGE_CHARS_MAX = 1000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Why a record was set aside (`reason` is a short constant), and when."""

    reason: str
    message: str
    at_us: int


class PoisonError(FatalError):
    """A partition that must not miss anything has a record that cannot be understood."""

    def __init__(self, partition: TopicPartition, offset: int, cause: str) -> None:
        place = f"{partition.topic} {partition.partition} {offset}"
        super().__init__(
            f"record {offset} of {partition.topic}/{partition.partition} cannot be understood ({cause}); reading"
            f" of this partition stopped there. Upgrade, or run `trainledger admin dead skip {place}`"
        )
        self.partition = partition
        self.offset = offset


def read_skipped(store: Store, tables: Tables, partition: TopicPartition) -> frozenset[int]:
    """The offsets of this partition that an administrator skipped."""
    rows = store.rows(
        f"SELECT DISTINCT JSONExtractUInt(body, 'offset') AS skipped FROM {tables.name('admin_events')} "
        "WHERE type = 'dead_skipped' AND JSONExtractString(body, 'topic') = {topic:String} "
        "AND JSONExtractInt(body, 'partition') = {number:UInt16}",
        {"topic": partition.topic, "number": partition.partition},
    )
    return frozenset(int(str(row["skipped"])) for row in rows)
