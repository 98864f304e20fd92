"""The ledger: one row for each batch that was taken in. Positions come from here and from nowhere else.

A row is written after all tables of its batch, so `end` of the newest row is the place to go on, and rows
of a data table at or above it are what a cut-off batch left behind. Rows are never changed or deleted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import pyarrow as pa

from trainledger_schemas.errors import FatalSourceError
from trainledger_schemas.positions import TopicPartition

from .admit import Admission, Progress
from .storage.migrate import Tables
from .storage.store import Store

__all__ = ["Ledger", "LedgerRow", "PartitionState"]

_ID_LIST = pa.list_(pa.binary(16))
_SCHEMA = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.uint16()),
        ("topic_id", pa.string()),
        ("start", pa.uint64()),
        ("end", pa.uint64()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("producer_ids", _ID_LIST),
        ("producer_seqs", pa.list_(pa.uint64())),
        ("journal_ids", _ID_LIST),
        ("journal_ends", pa.list_(pa.int64())),
        ("lost_ranges", pa.uint64()),
        ("tables", pa.list_(pa.string())),
        ("row_counts", pa.list_(pa.uint64())),
    ]
)
_PARTITIONS_SCHEMA = pa.schema(
    [("topic", pa.string()), ("partitions", pa.uint16()), ("at", pa.timestamp("us", tz="UTC"))]
)


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A batch `[start, end)` that is in the tables with `row_counts` rows by table."""

    partition: TopicPartition
    topic_id: str
    start: int
    end: int
    at_us: int
    progress: Progress
    row_counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PartitionState:
    """What the ledger knows of a partition; `end` None: nothing was ever read."""

    end: int | None
    topic_id: str
    admission: Admission


class Ledger:
    """Reads and writes `ingest_ledger` of one generation."""

    def __init__(self, store: Store, tables: Tables) -> None:
        self._store = store
        self._table = tables.name("ingest_ledger")
        self._partitions_table = tables.name("topic_partitions")

    def read(self, partition: TopicPartition) -> PartitionState:
        """All that is known of a partition."""
        rows = self._rows(
            f"SELECT count() AS n, max(end) AS newest, argMax(topic_id, end) AS newest_id FROM {self._table} "
            "WHERE topic = {topic:String} AND partition = {number:UInt16}",
            partition,
        )
        if not int(str(rows[0]["n"])):
            return PartitionState(None, "", Admission())
        admission = Admission.known(
            self._highest(partition, "producer_ids", "producer_seqs"),
            self._highest(partition, "journal_ids", "journal_ends"),
        )
        return PartitionState(int(str(rows[0]["newest"])), str(rows[0]["newest_id"]), admission)

    def end(self, partition: TopicPartition) -> int | None:
        """Where the newest row of a partition ends; None without one."""
        rows = self._rows(
            f"SELECT count() AS n, max(end) AS newest FROM {self._table} "
            "WHERE topic = {topic:String} AND partition = {number:UInt16}",
            partition,
        )
        return int(str(rows[0]["newest"])) if int(str(rows[0]["n"])) else None

    def producers(self) -> set[bytes]:
        """The spools whose events the tables have."""
        rows = self._store.rows(f"SELECT DISTINCT arrayJoin(producer_ids) AS id FROM {self._table}", {})
        return {UUID(str(row["id"])).bytes for row in rows}

    def append(self, row: LedgerRow, *, token: str | None) -> None:
        """Write a row; a repeat is harmless to every reader, because only maxima are read."""
        progress = row.progress
        values = {
            "topic": row.partition.topic,
            "partition": row.partition.partition,
            "topic_id": row.topic_id,
            "start": row.start,
            "end": row.end,
            "at": row.at_us,
            "producer_ids": list(progress.seqs),
            "producer_seqs": list(progress.seqs.values()),
            "journal_ids": list(progress.ends),
            "journal_ends": list(progress.ends.values()),
            "lost_ranges": progress.lost_ranges,
            "tables": list(row.row_counts),
            "row_counts": list(row.row_counts.values()),
        }
        self._store.insert(self._table, pa.Table.from_pylist([values], schema=_SCHEMA), token=token)

    def fix_partitions(self, topic: str, partitions: int, *, at_us: int) -> None:
        """Remember how many partitions a topic has; raises FatalSourceError when it had another number."""
        rows = self._store.rows(
            f"SELECT partitions FROM {self._partitions_table} WHERE topic = {{topic:String}} LIMIT 1",
            {"topic": topic},
        )
        if not rows:
            data = pa.Table.from_pylist(
                [{"topic": topic, "partitions": partitions, "at": at_us}], schema=_PARTITIONS_SCHEMA
            )
            self._store.insert(self._partitions_table, data)
        elif int(str(rows[0]["partitions"])) != partitions:
            raise FatalSourceError(
                f"topic {topic} has {partitions} partitions and had {rows[0]['partitions']} when it was first read;"
                " keys now lead to other partitions, so resends can no longer be told from new events. Let the"
                " producers write to a topic with a new name and the wanted number of partitions"
            )

    def _highest(self, partition: TopicPartition, ids: str, numbers: str) -> dict[bytes, int]:
        rows = self._rows(
            f"SELECT id, max(number) AS highest FROM {self._table} ARRAY JOIN {ids} AS id, {numbers} AS number "
            "WHERE topic = {topic:String} AND partition = {number:UInt16} GROUP BY id",
            partition,
        )
        return {UUID(str(row["id"])).bytes: int(str(row["highest"])) for row in rows}

    def _rows(self, sql: str, partition: TopicPartition) -> list[dict[str, object]]:
        return self._store.rows(sql, {"topic": partition.topic, "number": partition.partition})
