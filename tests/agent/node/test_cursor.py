"""The file that says how far each journal is read."""

from pathlib import Path

import pytest

from trainledger.node.cursor import CURSOR_FILE, JournalCursor, JournalCursors

ONE = b"\x01" * 16


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    cursors = JournalCursors(tmp_path)
    assert not cursors.is_whole and not cursors.entries
    cursors.entries[ONE] = JournalCursor("/node", 77, True, True, False)
    cursors.save()
    again = JournalCursors(tmp_path)
    assert again.is_whole and again.entries == {ONE: JournalCursor("/node", 77, True, True, False)}


def test_nothing_is_written_when_nothing_changed(tmp_path: Path) -> None:
    cursors = JournalCursors(tmp_path)
    cursors.entries[ONE] = JournalCursor("/node")
    cursors.save()
    inode = (tmp_path / CURSOR_FILE).stat().st_ino
    cursors.save()
    assert (tmp_path / CURSOR_FILE).stat().st_ino == inode
    cursors.entries[ONE].position = 5
    cursors.save()
    assert (tmp_path / CURSOR_FILE).stat().st_ino != inode


@pytest.mark.parametrize("text", ["", "[]", "{ half", '{"no id": {}}', '{"%s": {}}' % ("0" * 32)])
def test_a_damaged_file_is_set_aside_and_known_to_be_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / CURSOR_FILE).write_text(text)
    cursors = JournalCursors(tmp_path)
    assert not cursors.is_whole and not cursors.entries
    assert (tmp_path / f"{CURSOR_FILE}.damaged").read_text() == text


def test_positions_alone_wait_and_all_else_is_saved_at_once(tmp_path: Path) -> None:
    cursors = JournalCursors(tmp_path)
    cursors.entries[ONE] = JournalCursor("/node")
    cursors.save_due(0)
    cursors.entries[ONE].position = 5
    cursors.save_due(round(4.9e9))
    assert JournalCursors(tmp_path).entries[ONE].position == 0
    cursors.save_due(round(5e9))
    assert JournalCursors(tmp_path).entries[ONE].position == 5
    for name in ("seen", "exit_seen", "finished"):
        setattr(cursors.entries[ONE], name, True)
        cursors.save_due(round(5.1e9))
        assert getattr(JournalCursors(tmp_path).entries[ONE], name)
    cursors.entries[ONE].position = 6
    cursors.save()
    assert JournalCursors(tmp_path).entries[ONE].position == 6
