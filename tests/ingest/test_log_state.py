"""Whether the tables have all that the log has: of a spool, and of real brokers."""

from pathlib import Path

import pytest

from support.broker import Broker
from support.filled_tables import FilledTables
from support.ingest_events import START_US, fixed_id
from support.ingest_store import fresh_store
from trainledger.node.kafka_client import create_topics
from trainledger_ingest.ledger import Ledger
from trainledger_ingest.log_state import LogState, await_log, kafka_ends
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.errors import RetryableError
from trainledger_schemas.events import TOPIC_ADMIN, TOPIC_RUNS
from trainledger_schemas.ids import id_text
from trainledger_schemas.positions import TopicPartition


def test_tables_that_are_behind_say_so_and_those_that_are_not_name_their_spools(tmp_path: Path) -> None:
    tables = FilledTables(fresh_store(), tmp_path)
    tables.started(1, 10, START_US, name="run")
    tables.take_in()
    partition = TopicPartition(TOPIC_RUNS, 0)
    end = Ledger(tables.store, tables.schema.tables).end(partition) or 0
    assert end > 0
    clock = SystemClock()
    state = await_log({partition: end}, tables.store, tables.schema.tables, clock=clock, wait_s=0)
    assert (state.unread, state.why) == (0, "") and len(state.producers) == 1
    assert state.producers[0] == id_text(fixed_id(tables.producer.number))
    behind = await_log({partition: end + 3}, tables.store, tables.schema.tables, clock=clock, wait_s=0)
    assert behind.unread == 3 and "3 records behind the log" in behind.why
    other = TopicPartition(TOPIC_ADMIN, 0)
    assert await_log({other: 1}, tables.store, tables.schema.tables, clock=clock, wait_s=0).unread == 1
    assert LogState.from_row(behind.as_row()) == behind


@pytest.mark.kafka
def test_the_ends_of_real_topics_are_found(tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        create_topics(broker.bootstrap)
        ends = kafka_ends(broker.bootstrap)
        assert {partition.topic for partition in ends} == {TOPIC_RUNS, TOPIC_ADMIN}
        assert set(ends.values()) == {0} and len(ends) == 5
    with pytest.raises(RetryableError):
        kafka_ends(broker.bootstrap)
