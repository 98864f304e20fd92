"""Does the operations of `recovery` on a real store: inserts, counts, intents, ledger rows."""

import hashlib

from trainledger_schemas.clock import Clock
from trainledger_schemas.positions import TopicPartition

from .batch import Batch
from .intents import Intent, IntentLog
from .ledger import Ledger, LedgerRow
from .recovery import (
    TABLES_OF_TOPIC,
    CountRows,
    InsertRows,
    Operation,
    ReadLedgerEnd,
    WriteIntent,
    find_cut,
    run_steps,
    write_steps,
)
from .storage.migrate import Tables
from .storage.store import Store

__all__ = ["BatchWriter", "count_sql", "insert_token"]


def insert_token(batch: Batch, topic_id: str, *, table: str, attempt: int = 0) -> str:
    """The same for the same cut of the same log, so that a server drops the repeat of an insert."""
    place = f"{batch.partition.topic}\0{topic_id}\0{batch.partition.partition}"
    text = f"{place}\0{batch.start}\0{batch.end}\0{table}"
    token = hashlib.sha256(text.encode()).hexdigest()
    return f"{token}/r{attempt}" if attempt else token


def count_sql(tables: Tables, table: str) -> str:
    """Counts a partition's rows from an offset on; answered by the projection `by_record`, not by the rows."""
    return (
        f"SELECT count() AS n FROM {tables.name(table)} WHERE topic = {{topic:String}} "
        "AND partition = {number:UInt16} AND offset >= {start:UInt64}"
    )


class BatchWriter:
    """Writes batches of one generation of tables."""

    def __init__(
        self, store: Store, tables: Tables, *, intents: IntentLog, ledger: Ledger, clock: Clock
    ) -> None:
        self._store = store
        self._tables = tables
        self._intents = intents
        self._ledger = ledger
        self._clock = clock

    def write(self, batch: Batch, topic_id: str, *, is_fresh: bool) -> None:
        """Bring a batch in, exactly once. `is_fresh` False: some of it may be there already.

        Raises FencedError (drop the batch), RetryableError (again, with `is_fresh` False) or RecoveryError."""
        intent = Intent(batch.start, batch.end, self._tables.generation, batch.month, batch.plan)

        def do(operation: Operation) -> int:
            if isinstance(operation, CountRows):
                return self._count(batch.partition, operation)
            if isinstance(operation, ReadLedgerEnd):
                return self._ledger.end(batch.partition) or 0
            if isinstance(operation, WriteIntent):
                self._intents.write(batch.partition, intent)
            elif isinstance(operation, InsertRows):
                self._insert(batch, topic_id, operation)
            else:
                self._write_ledger(batch, topic_id)
            return 0

        has_tokens = self._store.capabilities.insert_tokens
        run_steps(write_steps(intent, is_fresh=is_fresh, has_tokens=has_tokens), do)

    def find_cut(self, partition: TopicPartition, position: int) -> Intent | None:
        """The cut that must be finished before reading goes on; see `recovery.find_cut`."""

        def do(operation: Operation) -> int:
            return self._count(partition, operation) if isinstance(operation, CountRows) else 0

        steps = find_cut(
            position,
            self._intents.read(partition),
            generation=self._tables.generation,
            tables=TABLES_OF_TOPIC[partition.topic],
            has_tokens=self._store.capabilities.insert_tokens,
        )
        return run_steps(steps, do)

    def _count(self, partition: TopicPartition, operation: CountRows) -> int:
        rows = self._store.rows(
            count_sql(self._tables, operation.table),
            {"topic": partition.topic, "number": partition.partition, "start": operation.start},
        )
        return int(str(rows[0]["n"]))

    def _insert(self, batch: Batch, topic_id: str, operation: InsertRows) -> None:
        self._store.insert(
            self._tables.name(operation.table),
            batch.tables[operation.table],
            token=self._token(batch, topic_id, operation.table, operation.attempt),
        )

    def _write_ledger(self, batch: Batch, topic_id: str) -> None:
        row = LedgerRow(
            batch.partition,
            topic_id,
            batch.start,
            batch.end,
            self._clock.wall_ns() // 1000,
            batch.progress,
            batch.plan,
        )
        self._ledger.append(row, token=self._token(batch, topic_id, "ingest_ledger", 0))

    def _token(self, batch: Batch, topic_id: str, table: str, attempt: int) -> str | None:
        if not self._store.capabilities.insert_tokens:
            return None
        return insert_token(batch, topic_id, table=table, attempt=attempt)
