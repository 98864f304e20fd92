"""The ledger tells what a restart needs, and a topic's partitions are fixed for life."""

import pytest

from support.ingest_events import START_US, fixed_id
from support.ingest_store import fresh_store
from trainledger_ingest.admit import Progress
from trainledger_ingest.ledger import Ledger, LedgerRow
from trainledger_ingest.storage.migrate import migrate
from trainledger_schemas.errors import FatalSourceError
from trainledger_schemas.partitioning import partition_of
from trainledger_schemas.positions import TopicPartition

PARTITION = TopicPartition("trainledger.metrics", 2)


@pytest.fixture
def ledger() -> Ledger:
    store = fresh_store()
    return Ledger(store, migrate(store).tables)


def row(start: int, end: int, *, seqs: dict[bytes, int], ends: dict[bytes, int]) -> LedgerRow:
    return LedgerRow(PARTITION, "log-id", start, end, START_US, Progress(seqs, ends, 0), {"points": 5})


def test_a_partition_that_was_never_read_has_no_end(ledger: Ledger) -> None:
    assert ledger.read(PARTITION).end is None
    assert ledger.end(PARTITION) is None


def test_the_highest_numbers_and_ends_are_read_back_and_repeats_change_nothing(ledger: Ledger) -> None:
    first = row(0, 10, seqs={fixed_id(1): 9, fixed_id(2): 4}, ends={fixed_id(7): 400})
    second = row(10, 25, seqs={fixed_id(1): 20}, ends={fixed_id(7): 900, fixed_id(8): 100})
    for one in (first, second, second, first):
        ledger.append(one, token=None)
    state = ledger.read(PARTITION)
    assert (state.end, state.topic_id, ledger.end(PARTITION)) == (25, "log-id", 25)
    assert state.admission._seqs == {fixed_id(1): 20, fixed_id(2): 4}
    assert state.admission._ends == {fixed_id(7): 900, fixed_id(8): 100}
    assert ledger.read(TopicPartition("trainledger.metrics", 1)).end is None


def test_a_key_keeps_its_partition_for_the_life_of_a_topic(ledger: Ledger) -> None:
    ledger.fix_partitions("trainledger.metrics", 12, at_us=START_US)
    ledger.fix_partitions("trainledger.metrics", 12, at_us=START_US)
    keys = [fixed_id(number) for number in range(200)]
    before = {key: partition_of(key, 12) for key in keys}
    assert {key: partition_of(key, 12) for key in keys} == before
    assert len(set(before.values())) == 12, "all partitions are used"
    moved = [key for key in keys if partition_of(key, 13) != before[key]]
    assert moved, "with another number keys move, which is why it is refused"
    with pytest.raises(FatalSourceError, match=r"has 13 partitions and had 12 .* topic with a new name"):
        ledger.fix_partitions("trainledger.metrics", 13, at_us=START_US)
    ledger.fix_partitions("trainledger.metrics.2", 24, at_us=START_US)
