"""Reading a spool that another process owns: where its durable records end, and whether they stay.

The owner alone knows what it has fsynced. Whoever does not own the spool makes sure himself: he fsyncs the newest
segment (on Linux that works on any descriptor and covers what others wrote), and counts the whole frames that were
there before.
"""

import os
from pathlib import Path

from trainledger_schemas.events import TOPICS
from trainledger_schemas.spool import Frame, scan_frames
from trainledger_schemas.spool_reader import list_segments, load_segment

__all__ = ["durable_ends", "is_given_away", "mark_given_away"]

_GIVEN_AWAY = "given-away"


def durable_ends(spool: Path) -> dict[str, int]:
    """By topic, the offset behind the last record that is on disk now, whoever writes. Raises OSError."""
    return {topic: _durable_end(spool / topic) for topic in TOPICS}


def mark_given_away(spool: Path) -> None:
    """Note, for good, that what Kafka has goes from this spool: it is no whole log any more. Raises OSError."""
    (spool / _GIVEN_AWAY).touch()


def is_given_away(spool: Path) -> bool:
    """Whether that was noted."""
    return (spool / _GIVEN_AWAY).exists()


def _durable_end(folder: Path) -> int:
    segments = list_segments(folder)
    if not segments:
        return 0
    newest = segments[-1]
    if newest.compressed:
        data = load_segment(newest)
    else:
        with open(newest.path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            os.fsync(file.fileno())
            data = file.read(size)
    ends = [frame.offset + 1 for frame in scan_frames(data) if isinstance(frame, Frame)]
    return ends[-1] if ends else newest.base
