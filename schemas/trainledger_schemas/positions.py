"""Positions and ranges. An offset always means *next to read*; ranges are half-open `[start, end)`.

A position in a journal is one integer: `segment number << 40 | byte offset in the segment`, so positions of
one journal grow with time, and a range can span segments.
"""

from dataclasses import dataclass

__all__ = [
    "JOURNAL_OFFSET_BITS",
    "JournalRange",
    "LogPosition",
    "OffsetRange",
    "TopicPartition",
    "journal_position",
    "split_position",
]

JOURNAL_OFFSET_BITS = 40


@dataclass(frozen=True, slots=True, order=True)
class TopicPartition:
    """One partition of one topic; the spool has partition 0 alone."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True, order=True)
class LogPosition:
    """The record at `offset` is the next to read."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Records `[start, end)` of one partition."""

    topic: str
    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class JournalRange:
    """Bytes `[start, end)` of one journal, and where its previous range *in the same topic* ended.

    `prev_end` < `start` is normal: the bytes between held nothing for this topic. `prev_end` beyond what a
    reader knows of the journal is loss; `start` below it is an overlap, trimmed row by row.
    """

    journal_id: bytes
    prev_end: int
    start: int
    end: int


def journal_position(segment: int, offset: int) -> int:
    """Join a segment number and a byte offset into one position."""
    return segment << JOURNAL_OFFSET_BITS | offset


def split_position(position: int) -> tuple[int, int]:
    """The segment number and byte offset of a position."""
    return position >> JOURNAL_OFFSET_BITS, position & ((1 << JOURNAL_OFFSET_BITS) - 1)
