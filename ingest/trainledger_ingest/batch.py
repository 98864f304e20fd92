"""Cutting a partition's records into batches. Pure decisions; time is an argument.

A batch is a range of records `[start, end)` without a gap to the one before, cut by rows, bytes or age. A batch
that is cut again after a crash has a fixed end, and no other limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from trainledger_schemas.point_codec import DecodedMetrics
from trainledger_schemas.positions import TopicPartition

from .admit import Admission, Admitted, Progress
from .dead_letters import DeadLetter
from .decode import Decoded
from .dirty import Dirty
from .project import dirty_of, month_of, project
from .sources.source import SourceRecord

__all__ = ["Batch", "BatchBuilder", "BatchLimits", "FixedCut"]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch closes: rows, encoded bytes, nanoseconds since its first record."""

    rows: int
    bytes: int
    age_ns: int


@dataclass(frozen=True, slots=True)
class FixedCut:
    """A cut that was made before a crash: the end of its range and its month partition."""

    end: int
    month: int


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """A closed batch: its range, its rows by table, and what it adds to what is known."""

    partition: TopicPartition
    start: int
    end: int
    month: int
    tables: Mapping[str, pa.Table]
    progress: Progress
    dirty: Dirty

    @property
    def plan(self) -> dict[str, int]:
        """Rows by table."""
        return {name: table.num_rows for name, table in sorted(self.tables.items())}


class BatchBuilder:
    """Collects the records of one partition from `start` on."""

    def __init__(
        self,
        partition: TopicPartition,
        start: int,
        *,
        admission: Admission,
        limits: BatchLimits,
        cut: FixedCut | None = None,
    ) -> None:
        self.partition = partition
        self.start = start
        self.cut = cut
        self._admission = admission
        self._limits = limits
        self._admitted: list[Admitted] = []
        self._end = start
        self._rows = 0
        self._bytes = 0
        self._first_ns: int | None = None

    @property
    def has_records(self) -> bool:
        """Whether there is anything to close."""
        return self._first_ns is not None

    def add(self, record: SourceRecord, decoded: Decoded | DeadLetter, *, now_ns: int) -> None:
        """Take the next record; admission says which of its rows are new."""
        if self._first_ns is None:
            self._first_ns = now_ns
        self._end = record.offset + 1
        admitted = self._admission.admit(record, decoded)
        if admitted is not None:
            self._admitted.append(admitted)
            self._rows += _rows_of(admitted)
            self._bytes += len(record.value) + len(record.key)

    def is_full(self) -> bool:
        """Whether the batch must close before it takes another record."""
        if self.cut is not None:
            return self._end >= self.cut.end
        return self._rows >= self._limits.rows or self._bytes >= self._limits.bytes

    def ends_before(self, offset: int) -> bool:
        """Whether a record at `offset` is behind a fixed cut."""
        return self.cut is not None and offset >= self.cut.end

    def is_due(self, now_ns: int) -> bool:
        """Whether the batch is old enough to close; one with a fixed cut never is."""
        if self.cut is not None or self._first_ns is None:
            return False
        return now_ns - self._first_ns >= self._limits.age_ns

    def close(self, *, now_us: int) -> Batch:
        """The batch; the builder must not be used again. `now_us` dates a batch of dead letters alone."""
        cut = self.cut
        month = month_of(self._admitted, default_us=now_us) if cut is None else cut.month
        return Batch(
            self.partition,
            self.start,
            self._end if cut is None else cut.end,
            month,
            project(self._admitted, month=month),
            self._admission.take_progress(),
            dirty_of(self._admitted),
        )


def _rows_of(admitted: Admitted) -> int:
    decoded = admitted.decoded
    if isinstance(decoded, DeadLetter):
        return 1
    if isinstance(decoded, DecodedMetrics):
        return sum(block.points for block in decoded.blocks) + len(decoded.texts)
    return len(decoded.record["text"]) if decoded.type == "log_chunk" else 1
