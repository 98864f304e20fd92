"""Folders of live writers stay open between passes, and never longer than they are what they were."""

import os
import shutil
from pathlib import Path

import pytest

from support.journals import IDENTITY, JournalFile, live_process, open_spool, read_points
from trainledger.node.collector import Collector, CollectorSettings
from trainledger.node.journal_folder import RefusedError, find_journals
from trainledger.node.open_journals import DESCRIPTORS_PER_FOLDER, OpenJournals
from trainledger_schemas.clock import ManualClock


def open_descriptors(folder: Path) -> list[str]:
    """What this process has open below a folder."""
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return sorted(link for link in links if link.startswith(str(folder)))


def test_a_kept_folder_is_the_same_one_at_the_next_use_and_others_are_closed(tmp_path: Path) -> None:
    journals = [JournalFile(tmp_path, journal_id=bytes([n]) * 16) for n in (1, 2, 3)]
    folders = OpenJournals(tmp_path, held_max=2)
    found, _ = find_journals(tmp_path)
    assert [place.journal_id for place in found] == [journal.journal_id for journal in journals]
    first = []
    for place in found:
        with folders.use(place) as folder:
            folder.open_segment(0)
            folder.lock_file()
            folders.keep(place, folder)
            first.append(folder)
    assert len(open_descriptors(tmp_path)) == 2 * DESCRIPTORS_PER_FOLDER
    for place, before, is_kept in zip(found, first, (True, True, False), strict=True):
        with folders.use(place) as folder:
            assert (folder is before) == is_kept
    folders.keep_only({found[0]})
    assert len(open_descriptors(tmp_path)) == DESCRIPTORS_PER_FOLDER
    folders.close()
    assert open_descriptors(tmp_path) == []


def test_a_segment_or_lock_that_was_replaced_or_linked_is_opened_anew_or_refused(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    [place], _ = find_journals(tmp_path)
    folders = OpenJournals(tmp_path, held_max=1)
    with folders.use(place) as folder:
        folders.keep(place, folder)
        old, _ = folder.open_segment(0), folder.lock_file()
        raw = journal.path.read_bytes()
        journal.path.unlink()
        journal.path.write_bytes(raw)
        assert folder.open_segment(0) is not old
        assert folder.open_segment(0) is folder.open_segment(0)
        lock = journal.folder / "writer.lock"
        lock.unlink()
        lock.touch()
        status = os.fstat(folder.lock_file())
        assert (status.st_nlink, status.st_ino) == (1, lock.stat().st_ino)
        os.link(journal.path, tmp_path / "second name")
        with pytest.raises(RefusedError):
            folder.open_segment(0)
    folders.close()


def test_a_folder_that_was_replaced_under_its_name_is_read_and_not_the_old_one(tmp_path: Path) -> None:
    node_folder = tmp_path / "journals"
    spool = open_spool(tmp_path / "spool")
    collector = Collector(
        node_folder, spool, clock=ManualClock(), settings=CollectorSettings(), identity=IDENTITY
    )
    journal = JournalFile(node_folder)
    journal.rows(3)
    with live_process(journal.folder / "writer.lock"):
        collector.collect()
        assert open_descriptors(node_folder)
        aside = tmp_path / "aside"
        journal.folder.rename(aside)
        shutil.copytree(aside, journal.folder)
        journal.rows(2, first_step=3)
        report = collector.collect()
        # Nobody holds the lock of the new folder: its writer counts as dead, and it was read to its end.
        assert (report.points, report.journals_gone) == (4, 1)
    collector.collect()
    assert open_descriptors(node_folder) == open_descriptors(aside) == []
    assert sum(read_points(tmp_path / "spool").values()) == 10
    collector.close()


def test_nothing_stays_open_of_writers_that_are_gone_or_after_close(tmp_path: Path) -> None:
    node_folder = tmp_path / "journals"
    collector = Collector(
        node_folder,
        open_spool(tmp_path / "spool"),
        clock=ManualClock(),
        settings=CollectorSettings(held_max=1),
        identity=IDENTITY,
    )
    one, two = (JournalFile(node_folder, journal_id=bytes([n]) * 16) for n in (1, 2))
    one.rows(1)
    two.rows(1)
    with live_process(one.folder / "writer.lock") as process, live_process(two.folder / "writer.lock"):
        for _ in range(3):
            collector.collect()
        assert len(open_descriptors(node_folder)) == DESCRIPTORS_PER_FOLDER
        process.kill()
        process.wait()
        collector.collect()
        assert not one.folder.exists() and open_descriptors(one.folder) == []
        collector.collect()
        assert len(open_descriptors(two.folder)) >= DESCRIPTORS_PER_FOLDER - 1
        collector.close()
        assert open_descriptors(node_folder) == []
