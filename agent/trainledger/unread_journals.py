"""Whether an agent has read what a process and those beside it wrote: it removes what it has."""

from pathlib import Path

from trainledger_schemas.errors import CorruptDataError
from trainledger_schemas.journal import HEADER_BYTES, SEGMENT_SUFFIX, SegmentHeader

__all__ = ["is_unread"]


def is_unread(folder: Path, journal_id: bytes) -> bool:
    """Whether the journal in `folder`, or one beside it that names it as its parent, has a segment left.

    Those are of processes that it started: the capture of code, the hashing of datasets, workers that log."""
    if any(folder.glob(f"*{SEGMENT_SUFFIX}")):
        return True
    return any(_parent_of(segment) == journal_id for segment in folder.parent.glob(f"*/*{SEGMENT_SUFFIX}"))


def _parent_of(segment: Path) -> bytes | None:
    try:
        with segment.open("rb") as file:
            return SegmentHeader.parse(file.read(HEADER_BYTES)).parent_journal
    except (OSError, CorruptDataError):  # read meanwhile
        return None
