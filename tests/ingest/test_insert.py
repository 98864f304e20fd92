"""Tokens name a cut of a log, and counting a range costs a look into the projection, not a scan."""

from dataclasses import replace

import pyarrow as pa
import pytest

from support.ingest_events import Producer, point_block
from support.ingest_store import fresh_store
from trainledger_ingest.admit import Admission
from trainledger_ingest.batch import Batch, BatchBuilder, BatchLimits
from trainledger_ingest.decode import decode_record
from trainledger_ingest.insert import count_sql, insert_token
from trainledger_ingest.sources.source import SourceRecord
from trainledger_ingest.storage.migrate import APPEND_TABLES, migrate
from trainledger_schemas.events import TOPIC_METRICS
from trainledger_schemas.positions import TopicPartition


def batch_of(records: int) -> Batch:
    partition = TopicPartition(TOPIC_METRICS, 0)
    builder = BatchBuilder(partition, 0, admission=Admission(), limits=BatchLimits(10**9, 10**9, 10**18))
    producer = Producer()
    for offset in range(records):
        record = SourceRecord(TOPIC_METRICS, 0, offset, b"", producer.metrics([point_block(["a"], 3)]))
        builder.add(record, decode_record(record), now_ns=0)
    return builder.close(now_us=0)


def test_a_token_differs_for_another_log_cut_table_or_attempt_and_for_nothing_else() -> None:
    batch = batch_of(2)
    token = insert_token(batch, "id", table="points")
    assert token == insert_token(replace(batch, tables={}), "id", table="points")
    others = {
        insert_token(batch, "other", table="points"),
        insert_token(batch, "id", table="text_points"),
        insert_token(batch, "id", table="points", attempt=1),
        insert_token(replace(batch, end=3), "id", table="points"),
        insert_token(replace(batch, start=1), "id", table="points"),
        insert_token(replace(batch, partition=TopicPartition(TOPIC_METRICS, 1)), "id", table="points"),
    }
    assert len(others) == 6 and token not in others
    assert insert_token(batch, "id", table="points", attempt=1) == f"{token}/r1"


@pytest.mark.parametrize("table", APPEND_TABLES)
def test_counting_reads_the_projection_by_record(table: str) -> None:
    store = fresh_store()
    schema = migrate(store)
    if table == "points":
        for _ in range(3):
            store.insert(schema.tables.name(table), batch_of(50).tables[table])
    else:
        store.command(
            f"INSERT INTO {schema.tables.name(table)} (month, topic, partition, offset, idx) "
            f"SELECT 202311, '{TOPIC_METRICS}', 0, number, 0 FROM numbers(50)"
        )
    parameters = {"topic": TOPIC_METRICS, "number": 0, "start": 20}
    sql = count_sql(schema.tables, table)
    assert store.rows(sql, parameters)[0]["n"] == (3 * 30 * 3 if table == "points" else 30)
    explained = store.query(f"EXPLAIN indexes = 1 {sql}", parameters)
    assert isinstance(explained, pa.Table)
    assert "by_record" in str(explained.to_pydict())
