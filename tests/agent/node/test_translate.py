"""From journal chunks to events: ids, ranges, order, splitting, trimming."""

import itertools
import os
from pathlib import Path
from typing import Any

from support.journals import JournalFile
from trainledger.node.journal_folder import JournalFolder
from trainledger.node.journal_reader import Chunk, JournalReader
from trainledger.node.translate import EVENT_BYTES_MAX, NewEvent, Translation, translate
from trainledger_schemas.events import TOPIC_LOGS, TOPIC_METRICS, TOPIC_RUNS
from trainledger_schemas.positions import journal_position

SHAPE_BYTES_MAX = 3 << 20


def chunk_of(journal: JournalFile) -> Chunk:
    reader = JournalReader(journal.journal_id)
    with JournalFolder(journal.folder.parents[1], os.geteuid(), journal.journal_id) as folder:
        chunk = reader.read(folder, is_dead=True, bytes_max=8 << 20)
    assert chunk is not None
    return chunk


def of_topic(result: Translation, topic: str) -> list[NewEvent]:
    return [event for event in result.events if event.topic == topic]


def rows_of(events: list[NewEvent]) -> list[int]:
    return sorted(int(o) for event in events for block in event.fields["blocks"] for o in block.offset)


def test_ids_come_from_the_header_and_never_from_the_claim(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path, run_id=b"r" * 16)
    other = "00000000-0000-0000-0000-000000000001"
    journal.claim("run_exited", role="sdk", status="failed", cause="exit", run_id=other, writer_id=other)
    [event] = translate(chunk_of(journal), {}).events
    assert (event.fields["run_id"], event.fields["writer_id"]) == (b"r" * 16, journal.journal_id)


def test_run_events_keep_the_order_of_the_journal_with_ranges_that_do_not_overlap(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.claim("summary_set", changes=[{"key": "a", "value": "1", "number": 1.0}])
    journal.rows(3)
    journal.gap(3, 6, "disk full")
    journal.claim("no_such_type")
    journal.claim("writer_gone", evidence="lock_free", exit_seen=True)
    journal.exit("killed")
    result = translate(chunk_of(journal), {})
    events = of_topic(result, TOPIC_RUNS)
    assert [event.type_name for event in events] == ["summary_set", "writer_gap", "run_exited"]
    assert events[1].fields["rows"] == 3 and events[1].fields["points"] == 6
    assert events[1].fields["reason"] == "disk full"
    assert (result.claims_dropped, result.exit_seen) == (2, True)
    for one, following in itertools.pairwise(events):
        assert one.start < one.end <= following.start


def test_rows_and_texts_of_a_range_are_one_event(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.rows(50)
    journal.text("note", "hello", step=3)
    chunk = chunk_of(journal)
    [event] = translate(chunk, {}).events
    assert (event.topic, event.points) == (TOPIC_METRICS, 101)
    assert (event.start, event.end) == (chunk.start, chunk.end)
    assert event.fields["texts"][0]["text"] == "hello"


def test_what_a_topic_has_already_is_trimmed_row_by_row(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.rows(10)
    known = journal.text("note", "second")
    journal.rows(5, first_step=10)
    journal.exit()
    chunk = chunk_of(journal)
    everything = translate(chunk, {})
    [event] = of_topic(translate(chunk, {TOPIC_METRICS: known}), TOPIC_METRICS)
    assert event.start == known and len(event.fields["texts"]) == 1
    assert rows_of([event]) == [o for o in rows_of(of_topic(everything, TOPIC_METRICS)) if o >= known]
    assert not of_topic(translate(chunk, {TOPIC_METRICS: chunk.end}), TOPIC_METRICS)
    trimmed = translate(chunk, {TOPIC_RUNS: chunk.end})
    assert not of_topic(trimmed, TOPIC_RUNS) and trimmed.exit_seen


def test_successive_lines_of_a_stream_are_joined_and_streams_are_not_mixed(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    first = journal.log(1, "a", "b")
    second = journal.log(3, "c")
    journal.log(1, "oops", stream="stderr")
    journal.log(4, "d")
    journal.log(9, "after a hole")
    events = of_topic(translate(chunk_of(journal), {}), TOPIC_LOGS)
    seen = [(event.fields["stream"], event.fields["first_line"], event.fields["text"]) for event in events]
    assert seen == [
        ("stdout", 1, ["a", "b", "c"]),
        ("stderr", 1, ["oops"]),
        ("stdout", 4, ["d"]),
        ("stdout", 9, ["after a hole"]),
    ]
    assert events[0].fields["offset"] == [first, first, second]
    for one, following in itertools.pairwise(events):
        assert one.end <= following.start
    [later] = of_topic(translate(chunk_of(journal), {TOPIC_LOGS: events[2].end}), TOPIC_LOGS)
    assert later.fields["text"] == ["after a hole"]


def test_log_records_that_make_no_sense_are_counted_as_lost(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    bad: list[Any] = [
        b"no JSON",
        {"stream": "network", "first_line": 1, "at_us": [1], "text": ["a"]},
        {"stream": "stdout", "first_line": 1, "at_us": [1, 2], "text": ["a"]},
        {"stream": "stdout", "first_line": 1, "at_us": [1], "text": [5]},
    ]
    for body in bad:
        journal.control(4, body)
    result = translate(chunk_of(journal), {})
    assert result.lost == len(bad)
    assert [event.type_name for event in result.events] == ["writer_gap"] * len(bad)


def test_a_range_too_large_for_one_event_is_split_between_rows(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path, segment_bytes=8 << 20)
    keys = [f"layer/{n:04d}/" + "x" * 200 for n in range(1000)]
    journal.rows(200, keys)
    journal.text("note", "y" * 1000)
    chunk = chunk_of(journal)
    events = translate(chunk, {}).events
    assert len(events) >= 3
    assert rows_of(events) == sorted(int(o) for block in chunk.blocks for o in block.offset)
    assert sum(len(event.fields["texts"]) for event in events) == 1
    assert (events[0].start, events[-1].end) == (chunk.start, chunk.end)
    for one, following in itertools.pairwise(events):
        assert one.end == following.start
    for event in events:
        assert sum(block.values.nbytes for block in event.fields["blocks"]) <= EVENT_BYTES_MAX


def test_a_row_that_no_event_can_hold_is_said_to_be_lost(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path, segment_bytes=64 << 20)
    keys = [f"{n:05d}" + "k" * 1000 for n in range(4000)]
    for start in range(0, 4000, 100):
        body = {"shape": 1, "start": start, "total": 4000, "keys": keys[start : start + 100]}
        journal.control(1, body)
    journal.shapes[tuple(keys)] = 1
    journal.row(dict.fromkeys(keys, 1.0))
    journal.row({"fine": 1.0})
    result = translate(chunk_of(journal), {})
    [gap] = of_topic(result, TOPIC_RUNS)
    assert (gap.fields["rows"], gap.fields["points"]) == (1, 4000)
    assert str(SHAPE_BYTES_MAX) in gap.fields["reason"]
    assert sum(event.points for event in of_topic(result, TOPIC_METRICS)) == 1


def test_what_is_lost_is_said_at_its_place(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.control(1, b"not a definition")
    result = translate(chunk_of(journal), {})
    [gap] = result.events
    assert gap.type_name == "writer_gap" and gap.start == journal_position(0, 128)
    assert not translate(chunk_of(journal), {TOPIC_RUNS: gap.end}).events
