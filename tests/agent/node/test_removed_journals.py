"""Journal folders that somebody removes: under a live writer, of a dead one, between two lives of the agent."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from support.journals import IDENTITY, JournalFile, live_process, open_spool, read_points, read_records
from trainledger.node.collector import Collector, CollectorSettings
from trainledger.node.cursor import JournalCursor, JournalCursors, JournalProcess
from trainledger.node.daemon import NodeAgent
from trainledger.node.node_settings import AgentSettings
from trainledger.node.removed_journals import is_alive, removed_journals
from trainledger.process_facts import read_start_ticks
from trainledger_schemas.clock import ManualClock, read_boot_id
from trainledger_schemas.events import TOPIC_RUNS
from trainledger_schemas.ids import id_text


class Node:
    """A node folder and a spool, read by a collector that may be made anew."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.journals = folder / "journals"
        self.journals.mkdir()
        self.spool_folder = folder / "spool"
        self.settings = CollectorSettings(**settings)
        self.start()

    def start(self) -> None:
        self.spool = open_spool(self.spool_folder)
        self.collector = Collector(
            self.journals, self.spool, clock=ManualClock(), settings=self.settings, identity=IDENTITY
        )

    def stop(self) -> None:
        self.collector.close()
        self.spool.close()

    def gone(self) -> list[tuple[str, bool]]:
        records = read_records(self.spool_folder, TOPIC_RUNS)
        return [
            (record["evidence"], record["exit_seen"]) for name, record in records if name == "writer_gone"
        ]

    @property
    def cursors(self) -> set[bytes]:
        return set(JournalCursors(self.spool_folder).entries)


class OpenJournal(JournalFile):
    """A journal whose writer keeps its segment open, as the SDK does."""

    file: BinaryIO | None = None

    def append(self, record: bytes) -> int:
        if self.file is None:
            self.file = self.path.open("r+b", buffering=0)
        start = self.next_byte
        os.pwrite(self.file.fileno(), record, start)
        self.next_byte += len(record)
        return start


@contextmanager
def written(node_folder: Path) -> Iterator[tuple[OpenJournal, Any]]:
    """A journal with some rows, and the live process that holds its lock."""
    journal = OpenJournal(node_folder)
    journal.rows(10)
    assert journal.file is not None
    with journal.file, live_process(journal.folder / "writer.lock") as process:
        yield journal, process


@pytest.mark.parametrize("removed", ["journal", "user", "all"])
def test_what_is_written_into_a_removed_folder_is_read_until_its_writer_ends(
    tmp_path: Path, removed: str
) -> None:
    node = Node(tmp_path)
    with written(node.journals) as (journal, process):
        node.collector.collect()
        places = {"journal": journal.folder, "user": journal.folder.parent, "all": node.journals}
        shutil.rmtree(places[removed])
        journal.rows(5, first_step=10)
        report = node.collector.collect()
        assert (report.points, report.removed) == (10, [journal.folder])
        assert [writer.pid for writer in node.collector.live_writers()] == [process.pid]
        assert node.collector.collect().removed == [], "it is told once"
        journal.rows(3, first_step=15)
        process.kill()
        process.wait()
        assert node.collector.collect().points == 6
    assert node.gone() == [("journal_removed", False)]
    assert node.collector.live_writers() == [] and node.cursors == set()
    assert sum(read_points(node.spool_folder).values()) == 36
    node.collector.collect()
    assert len(node.gone()) == 1
    node.stop()


def test_a_process_that_says_its_end_into_a_removed_folder_is_heard(tmp_path: Path) -> None:
    node = Node(tmp_path)
    with written(node.journals) as (journal, process):
        node.collector.collect()
        shutil.rmtree(journal.folder)
        journal.exit()
        process.kill()
        process.wait()
        node.collector.collect()
    assert node.gone() == [("journal_removed", True)]
    node.stop()


def test_a_long_rest_of_a_dead_writer_is_read_over_several_passes(tmp_path: Path) -> None:
    node = Node(tmp_path, journal_bytes_max=256 << 10)
    with written(node.journals) as (journal, process):
        node.collector.collect()
        shutil.rmtree(journal.folder)
        journal.rows(20_000, first_step=10)
        process.kill()
        process.wait()
        for _ in range(6):
            node.collector.collect()
    assert sum(read_points(node.spool_folder).values()) == 2 * 20_010
    assert len(node.gone()) == 1
    node.stop()


def test_a_writer_of_which_nothing_is_held_is_followed_by_its_process(tmp_path: Path) -> None:
    node = Node(tmp_path, held_max=0)
    with written(node.journals) as (journal, process):
        node.collector.collect()
        shutil.rmtree(journal.folder)
        for removed in ([journal.folder], []):
            assert node.collector.collect().removed == removed
            assert [writer.pid for writer in node.collector.live_writers()] == [process.pid]
        process.kill()
        process.wait()
        assert node.collector.collect(drain=True).journals_gone == 1
    assert node.gone() == [("journal_removed", False)]
    assert node.collector.live_writers() == [] and node.cursors == set()
    node.stop()


@pytest.mark.parametrize("lives", [True, False])
def test_a_folder_that_went_while_no_agent_ran_does_not_leave_its_run_running(
    tmp_path: Path, lives: bool
) -> None:
    node = Node(tmp_path)
    with written(node.journals) as (journal, process):
        node.collector.collect()
        node.stop()
        shutil.rmtree(journal.folder)
        if not lives:
            process.kill()
            process.wait()
        node.start()
        assert node.collector.collect().removed == [journal.folder]
        assert [writer.pid for writer in node.collector.live_writers()] == [process.pid] * lives
        process.kill()
        process.wait()
        node.collector.collect()
    assert node.gone() == [("journal_removed", False)]
    node.stop()


def test_a_folder_that_is_there_or_cannot_be_asked_for_is_not_taken_for_removed(tmp_path: Path) -> None:
    journal_id, process = b"j" * 16, JournalProcess(b"r" * 16, 1, os.geteuid(), 1)
    entry = JournalCursor(str(tmp_path), seen=True, process=process)
    folder = tmp_path / str(os.geteuid()) / id_text(journal_id)
    assert removed_journals({journal_id: entry}, tmp_path, ()) == [(journal_id, process)]
    folder.parent.write_text("in the way: neither there nor missing")
    assert removed_journals({journal_id: entry}, tmp_path, ()) == []
    folder.parent.unlink()
    folder.mkdir(parents=True)
    assert removed_journals({journal_id: entry}, tmp_path, ()) == []


def test_another_process_with_the_same_pid_is_not_the_writer() -> None:
    ticks = read_start_ticks(os.getpid())
    assert is_alive(JournalProcess(b"r" * 16, os.getpid(), os.geteuid(), ticks))
    assert not is_alive(JournalProcess(b"r" * 16, os.getpid(), os.geteuid(), ticks - 1))
    assert not is_alive(JournalProcess(b"r" * 16, 0, os.geteuid(), 0))


def test_the_agent_says_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "journals").mkdir()
    journal = JournalFile(tmp_path / "journals", boot_id=read_boot_id())
    journal.rows(1)
    agent = NodeAgent.open(
        tmp_path / "home", tmp_path / "journals", kind="up", settings=AgentSettings(), clock=ManualClock()
    )
    with live_process(journal.folder / "writer.lock"), caplog.at_level(logging.WARNING):
        agent.drain()
        shutil.rmtree(journal.folder)
        agent.drain()
        agent.drain()
        agent.close(leaving=False)
    said = [record for record in caplog.records if "was removed" in record.getMessage()]
    assert [record.__dict__["trainledger_fields"] for record in said] == [{"journal": str(journal.folder)}]
    assert str(journal.folder) in said[0].getMessage()
