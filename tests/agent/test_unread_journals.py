"""What an agent has not read of a process and those beside it, from real segments."""

from pathlib import Path

from support.journals import JournalFile
from trainledger.unread_journals import is_unread
from trainledger_schemas.ids import id_text

OWN, OTHER = bytes([1]) * 16, bytes([2]) * 16


def test_journal_is_unread_until_its_last_segment_is_removed(tmp_path: Path) -> None:
    own = JournalFile(tmp_path, run_id=OWN, journal_id=OWN)
    own.rows(1)
    folder = next(tmp_path.glob(f"*/{id_text(OWN)}"))
    JournalFile(tmp_path, run_id=OTHER, journal_id=OTHER).rows(1)
    assert is_unread(folder, OWN)
    for segment in folder.glob("*.tlj"):
        segment.unlink()
    assert not is_unread(folder, OWN), "the journals of others are not waited for"


def test_journals_of_processes_that_it_started_count(tmp_path: Path) -> None:
    JournalFile(tmp_path, run_id=OWN, journal_id=OTHER, parent_journal=OWN).rows(1)
    beside = next(tmp_path.glob(f"*/{id_text(OTHER)}"))
    folder = beside.parent / id_text(OWN)
    assert is_unread(folder, OWN)
    (segment,) = beside.glob("*.tlj")
    segment.write_bytes(b"cut off")
    assert not is_unread(folder, OWN)
