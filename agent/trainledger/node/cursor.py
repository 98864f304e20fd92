"""How far each journal is read: `<spool>/journals.cursor`, replaced as a whole and fsynced.

    {"<journal id>": {"folder": node folder, "position": n, "seen": bool, "exit_seen": bool,
                      "finished": bool}}

A position is a lower bound: everything below it is in the spool and on disk. What was spooled beyond it before
a crash is read again and trimmed row by row, with the ends that the spool's topics keep. An entry is on disk
before anything of its journal is spooled: an end in the spool without an entry here is of a journal that is
gone. `seen`, `exit_seen`: its `writer_seen` is spooled, its process said how it ended. `finished`: the writer's
end is spooled and the journal's folder may be removed. A damaged file is set aside and all journals are read
from their begin, which the trimming makes harmless.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from trainledger_schemas.ids import id_bytes, id_text

from .identity import write_durably

__all__ = ["JournalCursor", "JournalCursors"]

CURSOR_FILE = "journals.cursor"


@dataclass(slots=True)
class JournalCursor:
    """How far one journal is read; see the module."""

    folder: str
    position: int = 0
    seen: bool = False
    exit_seen: bool = False
    finished: bool = False


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

    def save(self) -> None:
        """Write the file if something changed; raises OSError when the disk refuses."""
        data = self._encode()
        if data != self._saved:
            write_durably(self._path, data)
            self._saved = data

    def _encode(self) -> bytes:
        record = {
            id_text(journal): {
                "folder": entry.folder,
                "position": entry.position,
                "seen": entry.seen,
                "exit_seen": entry.exit_seen,
                "finished": entry.finished,
            }
            for journal, entry in sorted(self.entries.items())
        }
        return json.dumps(record, indent=0).encode()


def _parse(raw: bytes) -> dict[bytes, JournalCursor]:
    return {
        id_bytes(journal): JournalCursor(
            str(entry["folder"]),
            int(entry["position"]),
            bool(entry["seen"]),
            bool(entry["exit_seen"]),
            bool(entry["finished"]),
        )
        for journal, entry in json.loads(raw).items()
    }
