"""When a batch closes: by rows, bytes or age, or at a cut that was made before a crash."""

from support.ingest_events import Producer, point_block
from trainledger_ingest.admit import Admission
from trainledger_ingest.batch import BatchBuilder, BatchLimits, FixedCut
from trainledger_ingest.dead_letters import DeadLetter
from trainledger_ingest.decode import decode_record
from trainledger_ingest.sources.source import SourceRecord
from trainledger_schemas.events import TOPIC_METRICS
from trainledger_schemas.positions import TopicPartition

PARTITION = TopicPartition(TOPIC_METRICS, 0)


def builder(limits: BatchLimits, *, start: int = 0, cut: FixedCut | None = None) -> BatchBuilder:
    return BatchBuilder(PARTITION, start, admission=Admission(), limits=limits, cut=cut)


def add(to: BatchBuilder, producer: Producer, offset: int, *, rows: int = 1, now_ns: int = 0) -> None:
    record = SourceRecord(TOPIC_METRICS, 0, offset, b"", producer.metrics([point_block(["a", "b"], rows)]))
    to.add(record, decode_record(record), now_ns=now_ns)


def test_rows_close_a_batch() -> None:
    open_batch, producer = builder(BatchLimits(10, 10**9, 10**9)), Producer()
    add(open_batch, producer, 0, rows=4)
    assert not open_batch.is_full()
    add(open_batch, producer, 1)
    assert open_batch.is_full(), "5 rows of 2 values"


def test_bytes_close_a_batch() -> None:
    open_batch, producer = builder(BatchLimits(10**9, 200, 10**9)), Producer()
    add(open_batch, producer, 0)
    assert not open_batch.is_full()
    add(open_batch, producer, 1)
    assert open_batch.is_full()


def test_age_counts_from_the_first_record_and_an_empty_batch_has_none() -> None:
    open_batch, producer = builder(BatchLimits(10**9, 10**9, 100)), Producer()
    assert not open_batch.is_due(10**12) and not open_batch.has_records
    add(open_batch, producer, 0, now_ns=1000)
    add(open_batch, producer, 1, now_ns=1090)
    assert not open_batch.is_due(1099)
    assert open_batch.is_due(1100)


def test_a_fixed_cut_closes_at_its_end_and_by_nothing_else() -> None:
    open_batch = builder(BatchLimits(1, 1, 1), start=3, cut=FixedCut(6, 202001))
    producer = Producer()
    for offset in (3, 4):
        add(open_batch, producer, offset, rows=50)
        assert not open_batch.is_full() and not open_batch.is_due(10**12)
    assert open_batch.ends_before(6) and not open_batch.ends_before(5)
    add(open_batch, producer, 5)
    assert open_batch.is_full()
    batch = open_batch.close(now_us=0)
    assert (batch.start, batch.end, batch.month, batch.plan) == (3, 6, 202001, {"points": 202})


def test_duplicates_and_holes_lie_within_the_range_and_have_no_rows() -> None:
    open_batch, producer = builder(BatchLimits(10, 10**9, 10**9), start=2), Producer()
    payload = producer.metrics([point_block(["a"], 2)])
    for offset in (4, 9):
        record = SourceRecord(TOPIC_METRICS, 0, offset, b"", payload)
        open_batch.add(record, decode_record(record), now_ns=0)
    batch = open_batch.close(now_us=0)
    assert (batch.start, batch.end, batch.plan) == (2, 10, {"points": 2})


def test_dead_letters_count_as_rows() -> None:
    open_batch = builder(BatchLimits(2, 10**9, 10**9))
    for offset in range(2):
        record = SourceRecord(TOPIC_METRICS, 0, offset, b"", b"x")
        open_batch.add(record, DeadLetter("r", "m", 5), now_ns=0)
    assert open_batch.is_full()
    assert open_batch.close(now_us=0).plan == {"dead_letters": 2}
