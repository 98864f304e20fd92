"""From journals on disk to the spool: liveness, exactly once over crashes, removal, hostile folders."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.journals import (
    BOOT_ID,
    IDENTITY,
    JournalFile,
    live_process,
    open_spool,
    read_frames,
    read_points,
    read_records,
)
from trainledger.node.collector import Collector, CollectorSettings
from trainledger.node.cursor import CURSOR_FILE
from trainledger.node.spool import Spool
from trainledger.process_facts import read_process_facts, read_start_ticks
from trainledger_schemas.clock import Clock, ManualClock, SystemClock, read_boot_id
from trainledger_schemas.errors import SettingsError
from trainledger_schemas.events import TOPIC_LOGS, TOPIC_METRICS, TOPIC_RUNS
from trainledger_schemas.spool_reader import list_segments

TOPICS = (TOPIC_RUNS, TOPIC_METRICS, TOPIC_LOGS)


class Node:
    """A node folder and a spool, which can crash and come back."""

    def __init__(self, folder: Path, clock: Clock | None = None, **settings: Any) -> None:
        self.journals = folder / "journals"
        self.journals.mkdir(parents=True, exist_ok=True)
        self.spool_folder = folder / "spool"
        self.clock = clock or ManualClock()
        self.settings = CollectorSettings(**settings)
        self.identity = IDENTITY
        self.start()

    def start(self, spool: Spool | None = None) -> None:
        self.spool = spool or open_spool(self.spool_folder, clock=self.clock)
        self.collector = Collector(
            self.journals, self.spool, clock=self.clock, settings=self.settings, identity=self.identity
        )

    def crash(self) -> None:
        """As a killed process: nothing is synced, noted or closed in order."""
        for log in self.spool._topics.values():
            os.close(log._fd)
        os.close(self.spool._lock_fd)

    def types(self) -> list[str]:
        return [name for name, _ in read_records(self.spool_folder, TOPIC_RUNS)]

    def of_type(self, type_name: str) -> list[dict[str, Any]]:
        return [record for name, record in read_records(self.spool_folder, TOPIC_RUNS) if name == type_name]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_dead_journal_is_read_to_its_end_and_its_folder_goes(node: Node) -> None:
    journal = JournalFile(node.journals, run_id=b"r" * 16)
    journal.rows(100)
    journal.log(1, "hello")
    journal.exit()
    report = node.collector.collect()
    assert (report.points, report.journals_gone, report.complete) == (200, 1, True)
    assert not journal.folder.exists() and journal.folder.parent.exists()
    assert node.types() == ["writer_seen", "run_exited", "writer_gone"]
    [gone] = node.of_type("writer_gone")
    assert (gone["evidence"], gone["exit_seen"]) == ("lock_free", True)
    assert all(frame.key == b"r" * 16 for topic in TOPICS for frame in read_frames(node.spool_folder, topic))
    assert node.collector.live_writers() == []
    before = [len(read_frames(node.spool_folder, topic)) for topic in TOPICS]
    node.collector.collect(drain=True)
    assert before == [len(read_frames(node.spool_folder, topic)) for topic in TOPICS]


def test_a_live_writer_is_seen_by_its_lock_with_the_pid_of_the_process_that_holds_it(node: Node) -> None:
    journal = JournalFile(node.journals, pid=7, pid_namespace=99, parent_journal=b"p" * 16)
    journal.rows(10)
    with live_process(journal.folder / "writer.lock") as process:
        report = node.collector.collect()
        [writer] = node.collector.live_writers()
        assert (report.journals_live, writer.pid, writer.uid) == (1, process.pid, os.geteuid())
        assert writer.writer_id == journal.journal_id and writer.parent_writer == b"p" * 16
        [seen] = node.of_type("writer_seen")
        assert (seen["pid"], seen["alive"], seen["parent_writer"]) == (process.pid, True, b"p" * 16)
        assert seen["owner"] and journal.path.exists()
        process.kill()
        process.wait()
        journal.rows(5, first_step=10)
        node.collector.collect()
    [gone] = node.of_type("writer_gone")
    assert (gone["evidence"], gone["exit_seen"]) == ("lock_free", False)
    assert sum(read_points(node.spool_folder).values()) == 30
    assert not journal.folder.exists()


def test_asking_for_the_lock_never_takes_it(node: Node) -> None:
    journal = JournalFile(node.journals)
    journal.rows(1)
    with live_process(journal.folder / "writer.lock"):
        for _ in range(3):
            node.collector.collect()
        assert len(node.collector.live_writers()) == 1


def test_a_journal_that_this_process_writes_is_alive_and_keeps_its_lock(node: Node) -> None:
    facts = read_process_facts()
    journal = JournalFile(
        node.journals, pid=facts.pid, start_ticks=facts.start_ticks, pid_namespace=facts.pid_namespace
    )
    journal.rows(3)
    with (journal.folder / "writer.lock").open("r+b") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        node.collector.collect()
        assert [writer.pid for writer in node.collector.live_writers()] == [os.getpid()]
        assert journal.path.exists()
        assert is_held_for_others(journal.folder / "writer.lock")


def is_held_for_others(path: Path) -> bool:
    code = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    return subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True).returncode != 0


def test_a_journal_of_an_earlier_boot_is_dead_whatever_its_lock_says(node: Node) -> None:
    journal = JournalFile(node.journals, boot_id=b"x" * 16)
    journal.rows(2)
    with live_process(journal.folder / "writer.lock"):
        node.collector.collect()
    [gone] = node.of_type("writer_gone")
    assert gone["evidence"] == "other_boot" and BOOT_ID != b"x" * 16


def test_without_a_lock_file_the_process_itself_is_looked_for(node: Node) -> None:
    facts = read_process_facts()
    parent = os.getppid()
    alive = JournalFile(
        node.journals,
        journal_id=b"a" * 16,
        pid=parent,
        start_ticks=read_start_ticks(parent),
        pid_namespace=facts.pid_namespace,
    )
    dead = JournalFile(node.journals, journal_id=b"d" * 16, start_ticks=1, pid_namespace=facts.pid_namespace)
    for journal in (alive, dead):
        journal.rows(1)
        (journal.folder / "writer.lock").unlink()
    node.collector.collect()
    assert [writer.pid for writer in node.collector.live_writers()] == [parent]
    [gone] = node.of_type("writer_gone")
    assert (gone["writer_id"], gone["evidence"]) == (b"d" * 16, "process_gone")


def test_segments_go_when_they_are_read_and_the_newest_of_a_live_writer_stays(node: Node) -> None:
    journal = JournalFile(node.journals, segment_bytes=1 << 16)
    with live_process(journal.folder / "writer.lock"):
        for n in range(4):
            journal.rows(100, first_step=100 * n)
            journal.roll()
        journal.rows(10, first_step=400)
        node.collector.collect(drain=True)
        assert [path.name for path in journal.folder.glob("*.tlj")] == ["000004.tlj"]
        journal.rows(10, first_step=410)
        node.collector.collect(drain=True)
    assert sum(read_points(node.spool_folder).values()) == 840


def test_nothing_is_removed_before_cursor_and_spool_are_on_disk(node: Node) -> None:
    journal = JournalFile(node.journals)
    journal.rows(10)
    cursor = node.spool_folder / CURSOR_FILE

    class Watching(Collector):
        def _remove_read(self, found: Any) -> None:
            assert journal.path.exists()
            assert '"finished": true' in cursor.read_text()
            assert self._spool.synced_end(TOPIC_METRICS) == self._spool.next_offset(TOPIC_METRICS) == 1
            super()._remove_read(found)

    watching = Watching(
        node.journals, node.spool, clock=node.clock, settings=node.settings, identity=IDENTITY
    )
    watching.collect()
    assert not journal.folder.exists()


class CrashError(Exception):
    pass


class CrashingSpool(Spool):
    """Dies before or after a chosen append."""

    appends_left = 1 << 30
    after = False

    def _append(self, *args: Any, **kwargs: Any) -> int:
        if self.appends_left == 0 and not self.after:
            raise CrashError
        offset = super()._append(*args, **kwargs)
        self.appends_left -= 1
        if self.appends_left < 0:
            raise CrashError
        return offset


def crashing_spool(node: Node, appends: int, after: bool) -> CrashingSpool:
    made = open_spool(node.spool_folder, clock=node.clock)
    made.__class__ = CrashingSpool
    assert isinstance(made, CrashingSpool)
    made.appends_left, made.after = appends, after
    return made


def check_exactly_once(node: Node, expected: Counter[Any], claims: int, lines: int) -> None:
    assert read_points(node.spool_folder) == expected
    settings_seen = list(node.of_type("summary_set"))
    values = [change["value"] for record in settings_seen for change in record["changes"]]
    assert values == [str(n) for n in range(claims)]
    logs = [record for _, record in read_records(node.spool_folder, TOPIC_LOGS)]
    assert [line for record in logs for line in record["text"]] == [f"line {n}" for n in range(lines)]
    for topic in TOPICS:
        end = 0
        for frame in read_frames(node.spool_folder, topic):
            if frame.source is not None:
                assert frame.source.prev_end == end <= frame.source.start < frame.source.end
                end = frame.source.end


class Script:
    """Writes rows, claims and lines, and knows what must be in the spool."""

    def __init__(self, journal: JournalFile) -> None:
        self.journal = journal
        self.expected: Counter[Any] = Counter()
        self.claims = self.lines = self.step = 0

    def write(self, rows: int) -> None:
        for _ in range(rows):
            self.step += 1
            keys = ("loss", "acc") if self.step % 7 else ("eval",)
            values = dict.fromkeys(keys, self.step / 4)
            record = self.journal.row_record(values, self.step)
            position = self.journal.append(record)
            self.expected.update((position, key, self.step, value) for key, value in values.items())
        self.journal.claim("summary_set", changes=[{"key": "n", "value": str(self.claims)}])
        self.claims += 1
        self.journal.log(self.lines + 1, f"line {self.lines}")
        self.lines += 1


@pytest.mark.parametrize("after", [False, True], ids=["before the append", "after the append"])
@pytest.mark.parametrize("appends", range(9))
def test_resend_after_a_crash_that_cuts_events_elsewhere_gives_each_row_once(
    tmp_path: Path, appends: int, after: bool
) -> None:
    node = Node(tmp_path)
    script = Script(JournalFile(node.journals, segment_bytes=1 << 14))
    with live_process(script.journal.folder / "writer.lock"):
        script.write(20)
        node.collector.collect()
        node.crash()
        node.start(crashing_spool(node, appends, after))
        for _ in range(4):
            script.write(15)
            script.journal.roll()
            try:
                node.collector.collect()
            except CrashError:
                break
        node.crash()
        script.write(10)  # the next reading cuts its ranges elsewhere
        node.start()
        node.collector.collect()
        script.write(5)
    node.collector.collect(drain=True)
    check_exactly_once(node, script.expected, script.claims, script.lines)
    assert node.types().count("writer_gone") == 1
    assert not script.journal.folder.exists()


def test_a_saved_cursor_that_is_lost_or_damaged_repeats_nothing(node: Node) -> None:
    script = Script(JournalFile(node.journals))
    with live_process(script.journal.folder / "writer.lock"):
        for text in (None, "{ damaged", '{"no-uuid": {}}', "[]"):
            script.write(10)
            node.collector.collect()
            node.crash()
            if text is None:
                (node.spool_folder / CURSOR_FILE).unlink()
            else:
                (node.spool_folder / CURSOR_FILE).write_text(text)
            node.start()
            node.collector.collect()
            check_exactly_once(node, script.expected, script.claims, script.lines)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_crashes_and_power_cuts_at_any_point_give_each_row_once(data: st.DataObject) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        node = Node(folder)
        script = Script(JournalFile(node.journals, segment_bytes=1 << 14))
        with live_process(script.journal.folder / "writer.lock"):
            for _ in range(data.draw(st.integers(1, 6))):
                script.write(data.draw(st.integers(0, 30)))
                if data.draw(st.booleans()):
                    script.journal.roll()
                crashes = data.draw(st.booleans())
                node.spool.__class__ = CrashingSpool
                assert isinstance(node.spool, CrashingSpool)
                node.spool.appends_left = data.draw(st.integers(0, 8)) if crashes else 1 << 30
                node.spool.after = data.draw(st.booleans())
                try:
                    node.collector.collect()
                except CrashError:
                    crash_with_power_loss(node, data.draw(st.floats(0, 1)))
                    node.start()
        node.spool.__class__ = Spool
        node.collector.collect(drain=True)
        check_exactly_once(node, script.expected, script.claims, script.lines)
        node.spool.close()
    finally:
        shutil.rmtree(folder)


def crash_with_power_loss(node: Node, share: float) -> None:
    for topic in (TOPIC_METRICS, TOPIC_LOGS):
        synced = node.spool.synced_end(topic)
        frames = [frame for frame in read_frames(node.spool_folder, topic) if frame.offset >= synced]
        path = list_segments(node.spool_folder / topic)[-1].path
        unsynced = sum(len(frame.payload) + len(frame.key) + 86 for frame in frames)
        os.truncate(path, path.stat().st_size - round(unsynced * share))
    node.crash()


def test_a_failed_append_is_tried_again_from_where_the_spool_is(tmp_path: Path) -> None:
    node = Node(tmp_path)
    script = Script(JournalFile(node.journals))
    script.write(30)
    node.crash()
    spool = crashing_spool(node, 2, after=False)
    node.start(spool)
    with pytest.raises(CrashError):
        node.collector.collect()
    spool.appends_left = 1 << 30
    node.collector.collect()
    check_exactly_once(node, script.expected, script.claims, script.lines)


def test_a_crash_between_the_end_and_the_removal_of_a_journal_says_gone_once(node: Node) -> None:
    journal = JournalFile(node.journals)
    journal.rows(3)
    kept = node.journals.parent / "kept"
    shutil.copytree(journal.folder, kept)
    node.collector.collect()
    node.crash()
    # As if the removal had been cut off after the cursor was saved.
    raw = (node.spool_folder / CURSOR_FILE).read_text()
    assert journal.folder.name not in raw
    entry = '{"folder": "%s", "position": 500, "seen": true, "exit_seen": false, "finished": true}'
    text = f'{{"{journal.folder.name}": {entry % node.journals.resolve()}}}'
    (node.spool_folder / CURSOR_FILE).write_text(text)
    shutil.copytree(kept, journal.folder)
    node.start()
    node.collector.collect()
    assert node.types().count("writer_gone") == 1
    assert not journal.folder.exists()
    assert journal.folder.name not in (node.spool_folder / CURSOR_FILE).read_text()


def test_a_busy_journal_does_not_keep_others_waiting(tmp_path: Path) -> None:
    node = Node(tmp_path, journal_bytes_max=256 << 10, pass_bytes_max=1 << 20)
    journals = [
        JournalFile(node.journals, journal_id=bytes([n]) * 16, segment_bytes=2 << 20) for n in range(1, 5)
    ]
    for journal in journals:
        journal.rows(30_000)
    reports = [node.collector.collect() for _ in range(2)]
    assert not any(report.complete for report in reports)
    read = {
        frame.source.journal_id for frame in read_frames(node.spool_folder, TOPIC_METRICS) if frame.source
    }
    assert len(read) == 4
    assert node.collector.collect(drain=True).complete
    assert sum(read_points(node.spool_folder).values()) == 4 * 60_000


def test_a_live_writer_stays_listed_when_its_turn_does_not_come(tmp_path: Path) -> None:
    node = Node(tmp_path, journal_bytes_max=256 << 10, pass_bytes_max=1 << 20)
    quiet = JournalFile(node.journals, journal_id=b"\x01" * 16)
    busy = [
        JournalFile(node.journals, journal_id=bytes([n]) * 16, segment_bytes=4 << 20) for n in range(2, 8)
    ]
    with live_process(quiet.folder / "writer.lock"):
        node.collector.collect()
        for journal in busy:
            if journal.folder.exists():
                journal.rows(50_000)
        for _ in range(4):
            node.collector.collect()
            assert quiet.journal_id in {writer.writer_id for writer in node.collector.live_writers()}


def test_a_journal_whose_first_segment_is_still_being_made_is_left_alone_until_it_is_old(
    tmp_path: Path,
) -> None:
    node = Node(tmp_path, clock=SystemClock())
    folder = node.journals / str(os.geteuid()) / "00000000-0000-4000-8000-000000000001"
    folder.mkdir(parents=True)
    (folder / "000000.tlj.new").write_bytes(b"half")
    node.collector.collect()
    assert folder.exists()
    os.utime(folder, (1, 1))
    node.collector.collect()
    assert not folder.exists() and node.types() == []
    node.spool.close()


class TestHostileFolders:
    """What other users may put into a folder that all can write to."""

    def uid_folder(self, node: Node) -> Path:
        folder = node.journals / str(os.geteuid())
        folder.mkdir(exist_ok=True)
        return folder

    def test_strangers_are_counted_and_left_alone(self, node: Node) -> None:
        good = JournalFile(node.journals)
        good.rows(2)
        victim = node.journals.parent / "victim"
        victim.mkdir()
        (victim / "precious").write_text("keep")
        folder = self.uid_folder(node)
        name = "00000000-0000-4000-8000-00000000000{}"
        (folder / name.format(1)).symlink_to(victim)
        os.mkfifo(folder / name.format(2))
        (folder / name.format(3)).write_text("a file")
        (folder / "not-a-journal").mkdir()
        (folder / name.format(4).upper().replace("8", "A")).mkdir()
        (node.journals / "123456").symlink_to(victim)
        (node.journals / "0007").mkdir()
        (node.journals / "reader.lock").write_text("")
        report = node.collector.collect()
        assert (report.points, report.refused) == (4, 4)
        assert (victim / "precious").read_text() == "keep"
        assert (folder / name.format(3)).exists()

    def test_a_folder_that_lies_about_its_user_is_refused(self, node: Node) -> None:
        (node.journals / "54321" / "00000000-0000-4000-8000-000000000001").mkdir(parents=True)
        assert node.collector.collect().refused == 1
        assert node.types() == []

    def test_segments_that_are_links_or_pipes_are_neither_read_nor_block(self, node: Node) -> None:
        secret = node.journals.parent / "secret"
        good = JournalFile(node.journals, journal_id=b"g" * 16)
        good.rows(1)
        secret.write_bytes(good.path.read_bytes())
        trap = JournalFile(node.journals, journal_id=b"t" * 16)
        trap.path.unlink()
        trap.path.symlink_to(secret)
        pipe = JournalFile(node.journals, journal_id=b"p" * 16)
        pipe.path.unlink()
        os.mkfifo(pipe.path)
        report = node.collector.collect()
        assert report.refused == 2 and report.points == 2
        assert secret.exists() and trap.folder.exists()

    def test_a_lock_that_is_a_pipe_does_not_block_and_counts_as_no_lock(self, node: Node) -> None:
        journal = JournalFile(node.journals)
        journal.rows(1)
        (journal.folder / "writer.lock").unlink()
        os.mkfifo(journal.folder / "writer.lock")
        node.collector.collect()
        assert [gone["evidence"] for gone in node.of_type("writer_gone")] == ["process_gone"]

    def test_a_finished_journal_with_things_that_cannot_be_removed_is_let_be(self, node: Node) -> None:
        journal = JournalFile(node.journals)
        journal.rows(1)
        (journal.folder / "mine").mkdir()
        for _ in range(4):
            node.collector.collect()
        assert node.types() == ["writer_seen", "writer_gone"]
        assert [path.name for path in journal.folder.iterdir()] == ["mine"]
        node.crash()
        node.start()
        node.collector.collect()
        assert node.types() == ["writer_seen", "writer_gone"]

    def test_a_hard_link_in_a_finished_journal_costs_only_its_name(self, node: Node) -> None:
        journal = JournalFile(node.journals)
        journal.rows(1)
        precious = node.journals.parent / "precious"
        precious.write_text("keep")
        (journal.folder / "000009.tlj").hardlink_to(precious)
        (journal.folder / "link").symlink_to(precious)
        node.collector.collect(drain=True)
        assert precious.read_text() == "keep"
        assert node.types()[-1] == "writer_gone"

    def test_a_hundred_thousand_names_cost_bounded_time(self, node: Node) -> None:
        journal = JournalFile(node.journals)
        journal.rows(1)
        fd = os.open(journal.folder, os.O_RDONLY)
        for n in range(100_000):
            os.close(os.open(f"junk-{n}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)
        report = node.collector.collect()
        assert (report.points, report.journals_gone) == (2, 1)
        # Removal goes on, some names a pass; the journal is never read again.
        assert len(list(journal.folder.iterdir())) < 100_000
        passes = 0
        while journal.folder.exists() and passes < 20:
            node.collector.collect()
            passes += 1
        assert not journal.folder.exists()
        assert node.types() == ["writer_seen", "writer_gone"]


SDK_WRITER = """
import sys
from pathlib import Path
from trainledger.journal import JournalWriter
from trainledger.placement import Placement
from trainledger.settings import Settings
from trainledger_schemas.clock import SystemClock
from trainledger_schemas.ids import random_id
from trainledger_schemas.journal import LOG, pack_control
import json
folder = Path(sys.argv[1])
folder.mkdir()
place = Placement(folder, (), sys.argv[2] == "write", None)
writer = JournalWriter.create(place, run_id=b"sdk-run-16-bytes",
    settings=Settings.from_env({}), ids=random_id, clock=SystemClock())
lines = 60_000
for n in range(lines):
    body = json.dumps({"stream": "stdout", "first_line": n + 1, "at_us": [n], "text": [f"line {n} " + "x" * 100]})
    assert writer.append_control(LOG, body.encode())
writer.append_claim({"type": "run_exited", "at_us": 5, "role": "sdk", "status": "finished", "cause": "finish"})
print("written", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("way", ["mmap", "write"])
def test_what_the_sdk_writes_over_several_segments_is_collected_whole(tmp_path: Path, way: str) -> None:
    node = Node(tmp_path, clock=SystemClock())
    node.identity = replace(IDENTITY, boot_id=read_boot_id())
    node.start(node.spool)
    folder = node.journals / str(os.geteuid())
    with subprocess.Popen(
        [sys.executable, "-c", SDK_WRITER, str(folder), way], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        node.collector.collect()
        assert process.stdout.readline() == b"written\n"
        node.collector.collect(drain=True)
        assert [writer.pid for writer in node.collector.live_writers()] == [process.pid]
        process.stdin.close()
    node.collector.collect(drain=True)
    node.spool.close()
    logs = [record for _, record in read_records(node.spool_folder, TOPIC_LOGS)]
    numbers = [int(line.split()[1]) for record in logs for line in record["text"]]
    assert numbers == list(range(60_000))
    assert node.types()[-2:] == ["run_exited", "writer_gone"]
    assert list(folder.iterdir()) == []


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(SettingsError, match="journal_bytes_max"):
        CollectorSettings(journal_bytes_max=1)
