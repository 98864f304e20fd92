"""Journals whose folder was removed by somebody else, while or after it was written.

Nothing more can be found under the folder's name, so the writer is followed by its process: a run must not count as
running for ever. What a folder that was still held open gives, the collector reads to its end; this is about the rest.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from trainledger_schemas.ids import id_text

from ..process_facts import read_start_ticks
from .cursor import JournalCursor, JournalProcess
from .writer_state import LiveWriter, owner_name, read_cgroup

__all__ = [
    "EVIDENCE_REMOVED",
    "is_alive",
    "live_writer_of",
    "process_of",
    "removed_folder",
    "removed_journals",
]

# Why a writer counts as dead whose journal cannot be asked any more: its process is not there.
EVIDENCE_REMOVED = "journal_removed"


def process_of(writer: LiveWriter) -> JournalProcess:
    """What to know a writer's process by later; `start_ticks` as this process sees them, 0 if it was not found."""
    ticks = read_start_ticks(writer.pid) if writer.pid else 0
    return JournalProcess(writer.run_id, writer.pid, writer.uid, ticks)


def removed_journals(
    entries: Mapping[bytes, JournalCursor], node_folder: Path, found: Collection[bytes]
) -> list[tuple[bytes, JournalProcess]]:
    """The journals that were seen and are neither among `found` nor in the folder, with their processes.

    A folder that may not be looked into says nothing, and is not taken for removed."""
    return [
        (journal_id, cursor.process)
        for journal_id, cursor in entries.items()
        if journal_id not in found
        and cursor.seen
        and not cursor.finished
        and cursor.process is not None
        and cursor.folder == str(node_folder)
        and _is_missing(removed_folder(node_folder, cursor.process.uid, journal_id))
    ]


def removed_folder(node_folder: Path, uid: int, journal_id: bytes) -> Path:
    """Where the journal lay."""
    return node_folder / str(uid) / id_text(journal_id)


def is_alive(process: JournalProcess) -> bool:
    """Whether the process itself is still there; its pid may be another's by now."""
    return bool(process.start_ticks) and read_start_ticks(process.pid) == process.start_ticks


def live_writer_of(journal_id: bytes, process: JournalProcess) -> LiveWriter:
    """A writer as far as its process tells; its parent is not known any more."""
    return LiveWriter(
        run_id=process.run_id,
        writer_id=journal_id,
        parent_writer=None,
        pid=process.pid,
        uid=process.uid,
        owner=owner_name(process.uid),
        start_ticks=process.start_ticks,
        cgroup=read_cgroup(process.pid),
    )


def _is_missing(path: Path) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
