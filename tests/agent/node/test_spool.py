"""The spool: order, durability, crashes, damage, retention; a state machine against a model."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from support.journals import IDENTITY, open_spool, read_frames, read_records
from trainledger.node.spool import LOCK_FILE, SEQUENCE_FILE, Spool, SpoolSettings
from trainledger_schemas.avro_codec import decode_event
from trainledger_schemas.clock import ManualClock
from trainledger_schemas.errors import InvariantError, SettingsError
from trainledger_schemas.events import TOPIC_LOGS, TOPIC_METRICS, TOPIC_NODES, TOPIC_RUNS
from trainledger_schemas.positions import JournalRange
from trainledger_schemas.spool_reader import list_segments

JOURNAL = b"journal-16-bytes"
RUN = b"run-id-16-bytes."


def append_log(spool: Spool, text: str, source: JournalRange | None = None) -> int:
    fields = {
        "run_id": RUN,
        "writer_id": JOURNAL,
        "stream": "stdout",
        "first_line": 1,
        "at_us": [1],
        "offset": [source.start if source else 0],
        "text": [text],
    }
    return spool.append("log_chunk", fields, key=RUN, source=source)


def append_gap(spool: Spool, reason: str) -> int:
    fields = {"at_us": 1, "start_us": 1, "end_us": 2, "what": "node", "reason": reason, "count": 1}
    return spool.append("gap", fields, key=b"node-1")


def append_range(spool: Spool, start: int, end: int) -> int:
    known = spool.journal_end(TOPIC_LOGS, JOURNAL)
    return append_log(spool, f"{start}-{end}", JournalRange(JOURNAL, known, start, end))


def abandon(spool: Spool) -> None:
    """Forget a spool as a killed process does: nothing is synced or noted."""
    for log in spool._topics.values():
        os.close(log._fd)
    os.close(spool._lock_fd)


def texts(folder: Path) -> list[str]:
    return [record["text"][0] for _, record in read_records(folder, TOPIC_LOGS)]


def test_the_envelope_says_who_when_and_from_where(tmp_path: Path) -> None:
    clock = ManualClock(wall_ns=5_000_000_000, boot_ns=7_000_000)
    with_source = JournalRange(JOURNAL, 0, 128, 256)
    spool = open_spool(tmp_path, clock=clock)
    assert append_log(spool, "a", with_source) == 0
    append_gap(spool, "b")
    spool.close()
    [(_, log)], [(_, gap)] = read_records(tmp_path, TOPIC_LOGS), read_records(tmp_path, TOPIC_NODES)
    assert log["envelope"] == {
        "producer_id": IDENTITY.producer_id,
        "seq": 0,
        "node_id": "node-1",
        "wall_us": 5_000_000,
        "boot_id": IDENTITY.boot_id,
        "boot_us": 7_000,
        "source": {"journal_id": JOURNAL, "prev_end": 0, "start": 128, "end": 256},
    }
    assert gap["envelope"]["seq"] == 1 and gap["envelope"]["source"] is None
    [frame] = read_frames(tmp_path, TOPIC_LOGS)
    assert (frame.seq, frame.key, frame.source, frame.wall_us) == (0, RUN, with_source, 5_000_000)


def test_durable_topics_are_synced_at_once_and_others_at_sync(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    append_gap(spool, "durable")
    append_log(spool, "later")
    assert (spool.synced_end(TOPIC_NODES), spool.synced_end(TOPIC_LOGS)) == (1, 0)
    spool.sync()
    assert spool.synced_end(TOPIC_LOGS) == spool.next_offset(TOPIC_LOGS) == 1
    with spool.batch():
        append_gap(spool, "one")
        append_gap(spool, "two")
        assert spool.synced_end(TOPIC_NODES) == 1
    assert spool.synced_end(TOPIC_NODES) == 3
    spool.close()


def test_a_second_process_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    code = (
        "import sys; from pathlib import Path; from support.journals import open_spool\n"
        "from trainledger_schemas.errors import HomeLockedError\n"
        "try: open_spool(Path(sys.argv[1]))\n"
        "except HomeLockedError as error: print(error.pid, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": "tests"},
        cwd=Path(__file__).parents[3],
        check=True,
    )
    assert done.stdout.startswith(f"{os.getpid()} ") and str(tmp_path) in done.stdout
    spool.close()
    assert (tmp_path / LOCK_FILE).exists()


def test_a_range_that_does_not_follow_is_a_broken_promise(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    append_range(spool, 128, 256)
    for source in (JournalRange(JOURNAL, 0, 256, 300), JournalRange(JOURNAL, 256, 200, 300)):
        with pytest.raises(InvariantError):
            append_log(spool, "x", source)
    append_range(spool, 300, 300)
    assert spool.journal_end(TOPIC_LOGS, JOURNAL) == 300
    spool.close()


def test_an_event_that_does_not_fit_its_schema_or_a_frame_changes_nothing(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    with pytest.raises(ValueError, match="schema"):
        spool.append("gap", {"at_us": "now"}, key=b"node-1")
    with pytest.raises(ValueError, match="limit"):
        append_log(spool, "x" * (5 << 20))
    assert append_log(spool, "fits") == 0
    spool.close()
    assert texts(tmp_path) == ["fits"]


def test_seq_numbers_are_never_given_twice(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    append_log(spool, "a")
    spool.close()
    spool = open_spool(tmp_path)
    append_log(spool, "b")
    abandon(spool)
    spool = open_spool(tmp_path)
    append_log(spool, "c")
    spool.close()
    (tmp_path / SEQUENCE_FILE).write_text("damaged")
    spool = open_spool(tmp_path)
    append_log(spool, "d")
    spool.close()
    seqs = [frame.seq for frame in read_frames(tmp_path, TOPIC_LOGS)]
    assert seqs[:2] == [0, 1]
    assert seqs[2] >= 1 << 20 and seqs[3] >= seqs[2] + (1 << 20)


def test_journal_ends_outlive_rolls_crashes_and_a_lost_ranges_file(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for n in range(40):
        append_range(spool, n * 10, n * 10 + 10)
        append_log(spool, "x" * 5000)
    abandon(spool)
    assert len(list_segments(tmp_path / TOPIC_LOGS)) >= 3
    [ranges] = (tmp_path / TOPIC_LOGS).glob("*.ranges")
    assert all(end <= 400 for end in json.loads(ranges.read_bytes()).values())
    spool = open_spool(tmp_path)
    assert spool.journal_end(TOPIC_LOGS, JOURNAL) == 400
    abandon(spool)
    ranges.write_text("{ damaged")
    spool = open_spool(tmp_path)
    assert spool.journal_end(TOPIC_LOGS, JOURNAL) == 400
    assert spool.journals() == {JOURNAL}
    spool.forget_journal(JOURNAL)
    assert spool.journal_end(TOPIC_LOGS, JOURNAL) == 0
    spool.close()


def test_a_torn_tail_is_removed_and_appending_goes_on(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    append_log(spool, "kept")
    append_log(spool, "torn")
    abandon(spool)
    [segment] = list_segments(tmp_path / TOPIC_LOGS)
    os.truncate(segment.path, segment.path.stat().st_size - 5)
    spool = open_spool(tmp_path)
    assert append_log(spool, "new") == 1
    spool.close()
    assert texts(tmp_path) == ["kept", "new"]


def test_a_corrupt_middle_is_set_aside_and_later_frames_are_kept(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for n in range(3):
        append_log(spool, f"line {n}")
    abandon(spool)
    [segment] = list_segments(tmp_path / TOPIC_LOGS)
    raw = bytearray(segment.path.read_bytes())
    place = raw.index(b"line 1")
    raw[place : place + 6] = b"LINE 1"
    segment.path.write_bytes(raw)
    spool = open_spool(tmp_path)
    assert append_log(spool, "line 3") == 3
    spool.close()
    assert texts(tmp_path) == ["line 0", "line 2", "line 3"]
    [aside] = (tmp_path / TOPIC_LOGS / "set_aside").iterdir()
    assert b"LINE 1" in aside.read_bytes()


def fill(spool: Spool, count: int = 30) -> None:
    for n in range(count):
        append_log(spool, f"{n:03d}" + "x" * 9000)
    spool.sync()


def test_read_segments_are_dropped_whole_and_never_the_newest(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    fill(spool)
    bases = [segment.base for segment in list_segments(tmp_path / TOPIC_LOGS)]
    assert spool.drop_read(TOPIC_LOGS, bases[2] - 1) == 1
    assert spool.drop_read(TOPIC_LOGS, 1 << 60) == len(bases) - 2
    assert [segment.base for segment in list_segments(tmp_path / TOPIC_LOGS)] == bases[-1:]
    assert spool.next_offset(TOPIC_LOGS) == 30
    spool.close()


def test_read_segments_are_compressed_and_stay_readable(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    fill(spool)
    before, used = texts(tmp_path), spool.used_bytes()
    assert spool.compress_read(TOPIC_LOGS, 1 << 60) >= 3
    assert spool.compress_read(TOPIC_LOGS, 1 << 60) == 0
    assert texts(tmp_path) == before and spool.used_bytes() < used / 2
    plain = [segment for segment in list_segments(tmp_path / TOPIC_LOGS) if not segment.compressed]
    assert len(plain) == 1
    abandon(spool)
    spool = open_spool(tmp_path)
    assert spool.next_offset(TOPIC_LOGS) == 30
    spool.close()


def test_a_compression_that_was_cut_off_leaves_one_whole_segment(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    fill(spool)
    first = list_segments(tmp_path / TOPIC_LOGS)[0].path
    raw = first.read_bytes()
    spool.compress_read(TOPIC_LOGS, 1 << 60)
    abandon(spool)
    first.write_bytes(raw)  # killed before the plain one was removed
    (tmp_path / TOPIC_LOGS / "00000000000000000099.seg.gz.new").write_bytes(b"half")
    spool = open_spool(tmp_path)
    spool.close()
    assert not first.with_name(first.name + ".gz").exists()
    assert not list((tmp_path / TOPIC_LOGS).glob("*.new"))
    assert len(texts(tmp_path)) == 30


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SettingsError):
        SpoolSettings(segment_bytes=1)
    with pytest.raises(SettingsError):
        SpoolSettings(budget_bytes=1)


KILLED = """
import sys
from pathlib import Path
from support.journals import open_spool
spool = open_spool(Path(sys.argv[1]))
n = spool.next_offset("trainledger.nodes")
while True:
    text = f"{n} " + "x" * (n * 37 % 3000)
    fields = {"at_us": 1, "start_us": 1, "end_us": 2, "what": "node", "reason": text, "count": n}
    spool.append("gap", fields, key=b"node-1")
    print(n, flush=True)
    n += 1
"""


def test_a_killed_process_loses_no_acknowledged_record_and_repeats_no_seq(tmp_path: Path) -> None:
    acknowledged = -1
    for round_number in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": "tests"},
            cwd=Path(__file__).parents[3],
        ) as process:
            assert process.stdout is not None
            for _ in range(20 + 13 * round_number):
                acknowledged = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
            acknowledged = int(rest[-1]) if rest else acknowledged
    frames = read_frames(tmp_path, TOPIC_NODES)
    counts = [decode_event(frame.payload).record["count"] for frame in frames]
    assert counts == [frame.offset for frame in frames] == list(range(len(frames)))
    assert len(frames) > acknowledged
    assert len({frame.seq for frame in frames}) == len(frames)


class SpoolMachine(RuleBasedStateMachine):
    """Appends, syncs, rolls, drops and crashes (losing part of what was not synced), against a list."""

    topics = st.sampled_from([TOPIC_LOGS, TOPIC_NODES])

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.spool = open_spool(self.folder)
        self.model: dict[str, list[tuple[int, str]]] = {TOPIC_LOGS: [], TOPIC_NODES: []}
        self.synced_bytes = dict.fromkeys(self.model, 0)
        self.begin = dict.fromkeys(self.model, 0)
        self.given_seqs: set[int] = set()
        self.count = 0
        self.journal = 0

    def newest(self, topic: str) -> Path:
        return list_segments(self.folder / topic)[-1].path

    def note(self, topic: str, offset: int, text: str) -> None:
        self.model[topic].append((offset, text))
        seq = self.spool._next_seq - 1
        assert seq not in self.given_seqs
        self.given_seqs.add(seq)

    @rule(size=st.integers(0, 30_000))
    def append_durable(self, size: int) -> None:
        text = f"{self.count} " + "d" * size
        self.count += 1
        self.note(TOPIC_NODES, append_gap(self.spool, text), text)
        assert self.spool.synced_end(TOPIC_NODES) == self.spool.next_offset(TOPIC_NODES)

    @rule(size=st.integers(0, 30_000))
    def append_grouped(self, size: int) -> None:
        text = f"{self.count} " + "g" * size
        self.count += 1
        known = self.spool.journal_end(TOPIC_LOGS, JOURNAL)
        source = JournalRange(JOURNAL, known, known, known + 10)
        self.note(TOPIC_LOGS, append_log(self.spool, text, source), text)

    @rule()
    def sync(self) -> None:
        self.spool.sync()

    @rule()
    def close_and_open(self) -> None:
        self.spool.close()
        self.spool = open_spool(self.folder)

    @rule(share=st.floats(0, 1), garbage=st.binary(max_size=40))
    def crash_with_power_loss(self, share: float, garbage: bytes) -> None:
        synced = self.spool.synced_end(TOPIC_LOGS)
        ends = dict(self.spool._topics[TOPIC_LOGS].ends)
        path = self.newest(TOPIC_LOGS)
        frames = [f for f in read_frames(self.folder, TOPIC_LOGS) if f.offset >= synced]
        size = path.stat().st_size
        unsynced = sum(len(f.payload) + 86 + len(f.key) for f in frames)
        abandon(self.spool)
        os.truncate(path, size - round(unsynced * share))
        with path.open("ab") as file:
            file.write(garbage)
        self.spool = open_spool(self.folder)
        kept = self.spool.next_offset(TOPIC_LOGS)
        assert kept >= synced
        self.model[TOPIC_LOGS] = [item for item in self.model[TOPIC_LOGS] if item[0] < kept]
        if ends:
            lost = len(frames) - (kept - synced)
            assert self.spool.journal_end(TOPIC_LOGS, JOURNAL) == ends[JOURNAL] - 10 * lost

    @rule(topic=topics, back=st.integers(0, 10), compressed=st.booleans())
    def retire(self, topic: str, back: int, compressed: bool) -> None:
        below = self.spool.synced_end(topic) - back
        before = list_segments(self.folder / topic)[0].base
        if compressed:
            self.spool.compress_read(topic, below)
        else:
            self.spool.drop_read(topic, below)
        begin = list_segments(self.folder / topic)[0].base
        assert before <= begin <= max(before, below)
        self.model[topic] = [item for item in self.model[topic] if item[0] >= begin]

    @precondition(lambda self: self.count % 3 == 0)
    @invariant()
    def a_reader_sees_the_model_up_to_the_synced_end(self) -> None:
        for topic, expected in self.model.items():
            end = self.spool.synced_end(topic)
            field = "reason" if topic == TOPIC_NODES else "text"
            found: list[tuple[int, Any]] = []
            for frame in read_frames(self.folder, topic, end=end):
                value = decode_event(frame.payload).record[field]
                found.append((frame.offset, value if topic == TOPIC_NODES else value[0]))
            assert found == [item for item in expected if item[0] < end]

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.folder)


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_the_topics_of_the_machine_have_both_rules(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    assert {TOPIC_LOGS, TOPIC_METRICS, TOPIC_NODES, TOPIC_RUNS} <= {p.name for p in tmp_path.iterdir()}
    spool.close()
