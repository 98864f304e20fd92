"""How far each journal is read: `<spool>/journals.cursor`, replaced as a whole and fsynced.

    {"<journal id>": {"folder": node folder, "position": n, "seen": bool, "exit_seen": bool,
                      "finished": bool, "process": [run id, pid, uid, start ticks] or null}}

A position is a lower bound: everything below it is in the spool and on disk. What was spooled beyond it before
a crash is read again and trimmed row by row, with the ends that the spool's topics keep. An entry is on disk
before anything of its journal is spooled: an end in the spool without an entry here is of a journal that is
gone. `seen`, `exit_seen`: its `writer_seen` is spooled, its process said how it ended. `finished`: the writer's
end is spooled and the journal's folder may be removed. `process`: what to follow when somebody else removes the
folder; files of older versions have none. Positions alone are worth no fsync a second: `save_due`
waits with them, and `save` comes before anything is removed. A damaged file is set aside and all journals are read
from their begin, which the trimming makes harmless.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from trainledger_schemas.ids import id_bytes, id_text

from .identity import write_durably

__all__ = ["JournalCursor", "JournalCursors", "JournalProcess"]

CURSOR_FILE = "journals.cursor"
# How much is read again after a crash, at most.
POSITIONS_AGE_S_MAX = 5.0


class JournalProcess(NamedTuple):
    """The process of a journal, as the agent sees it; `pid` and `start_ticks` are 0 if it was not found."""

    run_id: bytes
    pid: int
    uid: int
    start_ticks: int


@dataclass(slots=True)
class JournalCursor:
    """How far one journal is read; see the module."""

    folder: str
    position: int = 0
    seen: bool = False
    exit_seen: bool = False
    finished: bool = False
    process: JournalProcess | None = None


class JournalCursors:
    """All cursors of one spool. `entries` may be changed; `save` makes the change durable.

    `is_whole`: they come from a file that could be read, so that a journal without an entry is not known.
    """

    def __init__(self, spool_folder: Path) -> None:
        self._path = spool_folder / CURSOR_FILE
        self.entries: dict[bytes, JournalCursor] = {}
        self.is_whole = False
        try:
            self.entries = _parse(self._path.read_bytes())
            self.is_whole = True
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError):
            self._path.replace(self._path.with_name(f"{CURSOR_FILE}.damaged"))
        self._saved = self._encode()
        self._saved_marks = self._marks()
        self._saved_ns: int | None = None

    def save_due(self, now_ns: int) -> None:
        """Save if more than positions changed, or a while after the last time; `now_ns`: monotonic."""
        is_old = self._saved_ns is None or now_ns - self._saved_ns >= POSITIONS_AGE_S_MAX * 1e9
        if is_old or self._marks() != self._saved_marks:
            self.save()
            self._saved_ns = now_ns

    def save(self) -> None:
        """Write the file if something changed; raises OSError when the disk refuses."""
        data = self._encode()
        if data != self._saved:
            write_durably(self._path, data)
            self._saved = data
        self._saved_marks = self._marks()

    def _marks(self) -> dict[bytes, tuple[bool, bool, bool]]:
        return {
            journal: (entry.seen, entry.exit_seen, entry.finished) for journal, entry in self.entries.items()
        }

    def _encode(self) -> bytes:
        # By hand: with line breaks, the library's encoder is a slow one, and this is done each second.
        lines = [
            f'"{_journal_name(journal)}": {{"folder": {_quoted(entry.folder)}, "position": {entry.position},'
            f' "seen": {_WORDS[entry.seen]}, "exit_seen": {_WORDS[entry.exit_seen]},'
            f' "finished": {_WORDS[entry.finished]}, "process": {_process_text(entry.process)}}}'
            for journal, entry in sorted(self.entries.items())
        ]
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


_WORDS = {False: "false", True: "true"}


@lru_cache(maxsize=4096)
def _journal_name(journal_id: bytes) -> str:
    return id_text(journal_id)


@lru_cache(maxsize=64)
def _quoted(text: str) -> str:
    return json.dumps(text)


@lru_cache(maxsize=4096)
def _process_text(process: JournalProcess | None) -> str:
    if process is None:
        return "null"
    return json.dumps([id_text(process.run_id), process.pid, process.uid, process.start_ticks])


def _parse_process(value: list[object] | None) -> JournalProcess | None:
    if value is None:
        return None
    run_id, pid, uid, start_ticks = value
    return JournalProcess(id_bytes(str(run_id)), int(str(pid)), int(str(uid)), int(str(start_ticks)))


def _parse(raw: bytes) -> dict[bytes, JournalCursor]:
    return {
        id_bytes(journal): JournalCursor(
            str(entry["folder"]),
            int(entry["position"]),
            bool(entry["seen"]),
            bool(entry["exit_seen"]),
            bool(entry["finished"]),
            _parse_process(entry.get("process")),
        )
        for journal, entry in json.loads(raw).items()
    }
