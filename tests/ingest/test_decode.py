"""What passes decoding can be relied on; everything else is a dead letter and nothing but that."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.ingest_events import Producer, fixed_id, point_block, run_fields
from trainledger_ingest.decode import decode_record, envelope_of
from trainledger_ingest.sources.source import SourceRecord
from trainledger_schemas.errors import DeadLetterError
from trainledger_schemas.events import TOPIC_LOGS, TOPIC_METRICS, TOPIC_RUNS


def record(topic: str, payload: bytes) -> SourceRecord:
    return SourceRecord(topic, 0, 0, b"", payload)


def test_the_envelope_is_found_in_events_of_both_forms() -> None:
    producer = Producer()
    first = decode_record(record(TOPIC_RUNS, producer.event("writer_gap", run_fields())))
    second = decode_record(record(TOPIC_METRICS, producer.metrics([point_block(["a"], 1)])))
    assert [envelope_of(decoded)["seq"] for decoded in (first, second)] == [1, 2]


def test_an_event_on_the_wrong_topic_is_a_dead_letter() -> None:
    with pytest.raises(DeadLetterError, match="belongs on") as caught:
        decode_record(record(TOPIC_METRICS, Producer().event("writer_gap", run_fields())))
    assert caught.value.reason == "wrong_topic"


@pytest.mark.parametrize(("start", "end"), [(10, 5), (-5, 10)], ids=["backwards", "negative"])
def test_a_journal_range_that_makes_no_sense_is_a_dead_letter(start: int, end: int) -> None:
    payload = Producer().event("writer_gap", run_fields(), source=(fixed_id(7), start, end))
    with pytest.raises(DeadLetterError) as caught:
        decode_record(record(TOPIC_RUNS, payload))
    assert caught.value.reason == "bad_envelope"


def test_a_negative_sequence_number_is_a_dead_letter() -> None:
    with pytest.raises(DeadLetterError, match="negative"):
        decode_record(record(TOPIC_RUNS, Producer(seq=-9).event("writer_gap", run_fields())))


def test_a_log_chunk_whose_arrays_do_not_fit_together_is_a_dead_letter() -> None:
    fields = {"run_id": fixed_id(1), "writer_id": fixed_id(1), "stream": "stdout", "first_line": 1}
    payload = Producer().event("log_chunk", fields | {"at_us": [1], "offset": [1, 2], "text": ["a"]})
    with pytest.raises(DeadLetterError) as caught:
        decode_record(record(TOPIC_LOGS, payload))
    assert caught.value.reason == "bad_shape"


@given(st.binary(max_size=60), st.integers(0, 80), st.sampled_from([TOPIC_RUNS, TOPIC_METRICS]))
def test_hostile_bytes_raise_dead_letters_alone(noise: bytes, cut: int, topic: str) -> None:
    producer = Producer()
    whole = (
        producer.event("writer_gap", run_fields())
        if topic == TOPIC_RUNS
        else producer.metrics([point_block(["a"], 3)])
    )
    for payload in (noise, whole[:cut] + noise, whole + noise):
        try:
            decode_record(record(topic, payload))
        except DeadLetterError as error:
            assert error.reason
