"""Every spool that read a journal folder is noted, and only by who may."""

import os
from pathlib import Path

import pytest

from trainledger_schemas.journal_readers import READERS_FILE, note_reader, read_readers

ONE, TWO = b"1" * 16, b"2" * 16
TEXT = "31313131-3131-3131-3131-313131313131"


def test_readers_are_added_once_and_stay(tmp_path: Path) -> None:
    assert read_readers(tmp_path) is None
    note_reader(tmp_path, ONE)
    note_reader(tmp_path, ONE)
    note_reader(tmp_path, TWO)
    readers = read_readers(tmp_path)
    assert readers is not None and len(readers) == 2 and TEXT in readers
    assert len((tmp_path / READERS_FILE).read_text().splitlines()) == 2


def test_a_link_is_no_such_file_and_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    (tmp_path / READERS_FILE).symlink_to(tmp_path / "other")
    assert read_readers(tmp_path) is None
    with pytest.raises(OSError):
        note_reader(tmp_path, ONE)
    assert (tmp_path / "other").read_text() == "mine"


def test_a_file_of_another_user_is_not_believed(tmp_path: Path) -> None:
    note_reader(tmp_path, ONE)
    if os.geteuid() == 0:
        os.chown(tmp_path / READERS_FILE, 12345, 12345)
    else:
        os.link(tmp_path / READERS_FILE, tmp_path / "second name")
    assert read_readers(tmp_path) is None
