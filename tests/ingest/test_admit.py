"""Each point, line and claim is admitted exactly once, however its journal was cut and sent again."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.ingest_events import Producer, fixed_id, point_block, run_fields
from trainledger_ingest.admit import Admission, Admitted, stream_id
from trainledger_ingest.dead_letters import DeadLetter
from trainledger_ingest.decode import decode_record
from trainledger_ingest.sources.source import SourceRecord
from trainledger_schemas.events import TOPIC_LOGS, TOPIC_METRICS, TOPIC_RUNS, Event
from trainledger_schemas.point_codec import DecodedMetrics

JOURNAL = fixed_id(7)
ROW_BYTES = 40


def record(topic: str, payload: bytes, offset: int = 0) -> SourceRecord:
    return SourceRecord(topic, 0, offset, b"", payload)


def admit(admission: Admission, topic: str, payload: bytes) -> Admitted | None:
    one = record(topic, payload)
    return admission.admit(one, decode_record(one))


def metrics_of(producer: Producer, start: int, end: int) -> bytes:
    """A metrics event with one row for each journal record in [start, end) (counted in rows)."""
    source = (JOURNAL, start * ROW_BYTES, end * ROW_BYTES)
    block = point_block(["loss", "acc"], end - start, first_step=start, first_offset=start * ROW_BYTES)
    return producer.metrics([block], source=source)


def log_of(producer: Producer, stream: str, lines: list[int], *, start: int, end: int) -> bytes:
    fields = {
        "run_id": fixed_id(1),
        "writer_id": fixed_id(1),
        "stream": stream,
        "first_line": lines[0],
        "at_us": [1000 + line for line in lines],
        "offset": [line * ROW_BYTES for line in lines],
        "text": [f"{stream} {line}" for line in lines],
    }
    return producer.event("log_chunk", fields, source=(JOURNAL, start * ROW_BYTES, end * ROW_BYTES))


def steps_of(admitted: Admitted | None) -> list[int]:
    if admitted is None:
        return []
    assert isinstance(admitted.decoded, DecodedMetrics)
    return [int(step) for block in admitted.decoded.blocks for step in block.step]


def lines_of(admitted: Admitted | None) -> list[tuple[int, str]]:
    if admitted is None:
        return []
    assert isinstance(admitted.decoded, Event)
    chunk: dict[str, Any] = admitted.decoded.record
    assert len(chunk["text"]) == len(chunk["offset"]) == len(chunk["at_us"])
    return [(chunk["first_line"] + index, text) for index, text in enumerate(chunk["text"])]


def test_the_same_sequence_number_is_admitted_once() -> None:
    admission = Admission()
    payload = Producer().event("writer_gap", run_fields())
    assert admit(admission, TOPIC_RUNS, payload) is not None
    assert admit(admission, TOPIC_RUNS, payload) is None


def test_another_producer_may_use_the_same_sequence_numbers() -> None:
    admission = Admission()
    assert admit(admission, TOPIC_RUNS, Producer(1).event("writer_gap", run_fields())) is not None
    assert admit(admission, TOPIC_RUNS, Producer(2).event("writer_gap", run_fields())) is not None


def test_an_overlapping_range_under_a_new_number_brings_only_its_new_rows() -> None:
    admission, producer = Admission(), Producer()
    assert steps_of(admit(admission, TOPIC_METRICS, metrics_of(producer, 0, 10))) == list(range(10))
    assert steps_of(admit(admission, TOPIC_METRICS, metrics_of(producer, 5, 15))) == list(range(10, 15))
    assert admit(admission, TOPIC_METRICS, metrics_of(producer, 3, 12)) is None


def test_texts_of_an_overlapping_range_are_trimmed_too() -> None:
    admission, producer = Admission(), Producer()
    admit(admission, TOPIC_METRICS, metrics_of(producer, 0, 10))
    texts = [
        {"key": "note", "step": n, "wall": 1, "offset": n * ROW_BYTES, "text": str(n)} for n in (8, 9, 10)
    ]
    payload = producer.metrics([], texts=texts, source=(JOURNAL, 8 * ROW_BYTES, 11 * ROW_BYTES))
    admitted = admit(admission, TOPIC_METRICS, payload)
    assert admitted is not None and isinstance(admitted.decoded, DecodedMetrics)
    assert [text["text"] for text in admitted.decoded.texts] == ["10"]


def test_both_streams_of_one_journal_range_are_admitted() -> None:
    admission, producer = Admission(), Producer()
    out = admit(admission, TOPIC_LOGS, log_of(producer, "stdout", [1, 2], start=0, end=4))
    err = admit(admission, TOPIC_LOGS, log_of(producer, "stderr", [1, 3], start=0, end=4))
    assert lines_of(out) == [(1, "stdout 1"), (2, "stdout 2")]
    assert [text for _, text in lines_of(err)] == ["stderr 1", "stderr 3"]
    again = admit(admission, TOPIC_LOGS, log_of(producer, "stdout", [2, 3, 4], start=2, end=5))
    assert [text for _, text in lines_of(again)] == ["stdout 4"]
    assert lines_of(again)[0][0] == 4, "line numbers go on from the first new line"
    assert stream_id(JOURNAL, "stdout") != stream_id(JOURNAL, "stderr")


def test_a_claim_of_a_range_that_is_known_is_a_duplicate_and_one_that_reaches_beyond_is_not() -> None:
    admission, producer = Admission(), Producer()
    assert admit(admission, TOPIC_RUNS, producer.event("writer_gap", run_fields(), source=(JOURNAL, 0, 100)))
    assert not admit(
        admission, TOPIC_RUNS, producer.event("writer_gap", run_fields(), source=(JOURNAL, 50, 100))
    )
    assert admit(admission, TOPIC_RUNS, producer.event("writer_gap", run_fields(), source=(JOURNAL, 50, 150)))


def test_a_range_whose_forerunner_never_came_is_counted_as_lost() -> None:
    admission, producer = Admission(), Producer()
    admit(admission, TOPIC_METRICS, metrics_of(producer, 0, 10))
    metrics_of(producer, 10, 20)  # never sent
    assert steps_of(admit(admission, TOPIC_METRICS, metrics_of(producer, 20, 30))) == list(range(20, 30))
    progress = admission.take_progress()
    assert progress.lost_ranges == 1
    assert progress.ends == {JOURNAL: 30 * ROW_BYTES}
    assert progress.seqs == {fixed_id(1): 3}
    assert admission.take_progress().lost_ranges == 0


def test_a_dead_letter_is_always_admitted_and_changes_nothing_that_is_known() -> None:
    admission = Admission()
    one = record(TOPIC_METRICS, b"nonsense")
    assert admission.admit(one, DeadLetter("not_avro", "", 0)) is not None
    assert admission.take_progress().seqs == {}


def test_a_state_that_was_read_from_the_ledger_decides_as_the_one_that_wrote_it() -> None:
    producer, first = Producer(), Admission()
    admit(first, TOPIC_METRICS, metrics_of(producer, 0, 10))
    progress = first.take_progress()
    second = Admission.known(progress.seqs, progress.ends)
    assert steps_of(admit(second, TOPIC_METRICS, metrics_of(producer, 5, 12))) == [10, 11]
    assert second.take_progress().lost_ranges == 0


CUTS = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 12)), min_size=1, max_size=12)
SENDS = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(0, 4), st.integers(0, 2**12)), max_size=8
)


def deliver(cuts: list[tuple[int, int]], sends: list[tuple[int, int, int, int]]) -> tuple[list[bytes], int]:
    """What a partition holds after an agent read a journal, with crashes and resends; and the journal's rows.

    `cuts`: the agent reads so many rows, after a crash again from some rows before (new numbers, cut anew).
    `sends`: its publisher sends so many records, then, not knowing what arrived, sends again from some records
    before, while the old sender still delivers the first few: two streams, each in order, interleaved.
    """
    producer, rows = Producer(), 0
    made: list[bytes] = []
    for overlap, length in cuts:
        start = max(0, rows - overlap)
        made.append(metrics_of(producer, start, start + length))
        rows = max(rows, start + length)
    sent: list[bytes] = []
    acknowledged = 0
    for ahead, back, late, turns in sends:
        old = made[acknowledged : acknowledged + min(ahead, late)]
        new = made[max(0, acknowledged - back) : acknowledged + ahead]
        while old or new:
            takes_old = bool(old) and (not new or bool(turns & 1))
            sent.append(old.pop(0) if takes_old else new.pop(0))
            turns >>= 1
        acknowledged += ahead
    return sent + made[acknowledged:], rows


@settings(max_examples=150, deadline=None)
@given(CUTS, SENDS, st.integers(1, 7))
def test_every_row_is_admitted_exactly_once_over_recuts_resends_and_restarts(
    cuts: list[tuple[int, int]], sends: list[tuple[int, int, int, int]], restart_every: int
) -> None:
    sent, rows = deliver(cuts, sends)
    seqs: dict[bytes, int] = {}
    ends: dict[bytes, int] = {}
    lost = 0
    admission = Admission()
    seen: list[int] = []
    for index, payload in enumerate(sent):
        if index % restart_every == 0:
            progress = admission.take_progress()
            seqs |= progress.seqs
            ends |= progress.ends
            lost += progress.lost_ranges
            admission = Admission.known(seqs, ends)
        seen += steps_of(admit(admission, TOPIC_METRICS, payload))
    assert sorted(seen) == list(range(rows))
    assert lost + admission.take_progress().lost_ranges == 0


def test_trimming_keeps_values_with_their_rows() -> None:
    admission, producer = Admission(), Producer()
    admit(admission, TOPIC_METRICS, metrics_of(producer, 0, 4))
    admitted = admit(admission, TOPIC_METRICS, metrics_of(producer, 2, 6))
    assert admitted is not None and isinstance(admitted.decoded, DecodedMetrics)
    (block,) = admitted.decoded.blocks
    assert np.array_equal(block.values, np.array([[4, 4.001], [5, 5.001]]))


@pytest.mark.parametrize("topic", [TOPIC_METRICS, TOPIC_RUNS])
def test_events_without_a_journal_range_go_by_their_number_alone(topic: str) -> None:
    admission, producer = Admission(), Producer()
    for _ in range(3):
        payload = (
            producer.metrics([point_block(["a"], 2)])
            if topic == TOPIC_METRICS
            else producer.event("writer_gap", run_fields())
        )
        assert admit(admission, topic, payload) is not None
        assert admit(admission, topic, payload) is None
