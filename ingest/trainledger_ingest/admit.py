"""Admission: which records and rows of a partition are new. Pure; one state a partition.

Two facts decide. The sequence number of the producer's spool: producers resend in order from the last record
that was acknowledged, so whatever is not above the highest number seen was seen before. And the range of the
journal: an agent that lost its last spool writes reads its journals again and cuts them elsewhere, under new
numbers; of such a record only the rows at or behind the known end of the journal are new. Log lines of
stdout and stderr come in records of their own, so each stream has its own known end.

A range whose `prev_end` lies beyond what is known of the journal in this topic tells of loss: counted.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainledger_schemas.events import TOPIC_LOGS, Event, SourceRange
from trainledger_schemas.point_codec import DecodedMetrics

from .dead_letters import DeadLetter
from .decode import Decoded, envelope_of
from .sources.source import SourceRecord

__all__ = ["Admission", "Admitted", "Progress", "stream_id"]


@dataclass(frozen=True, slots=True)
class Admitted:
    """A record that is new, with only its new rows."""

    record: SourceRecord
    decoded: Decoded | DeadLetter


@dataclass(frozen=True, slots=True)
class Progress:
    """What a batch added to what is known: highest numbers by producer, ends by journal, ranges lost."""

    seqs: Mapping[bytes, int]
    ends: Mapping[bytes, int]
    lost_ranges: int


def stream_id(journal_id: bytes, stream: str) -> bytes:
    """Under which id the end of one log stream of a journal is kept."""
    return hashlib.sha256(journal_id + stream.encode("utf-8", "surrogatepass")).digest()[:16]


class Admission:
    """What is known of one partition."""

    def __init__(self) -> None:
        self._seqs: dict[bytes, int] = {}
        self._ends: dict[bytes, int] = {}
        self._new_seqs: dict[bytes, int] = {}
        self._new_ends: dict[bytes, int] = {}
        self._lost_ranges = 0

    @classmethod
    def known(cls, seqs: Mapping[bytes, int], ends: Mapping[bytes, int]) -> "Admission":
        """The state that a ledger tells."""
        admission = cls()
        admission._seqs.update(seqs)
        admission._ends.update(ends)
        return admission

    def admit(self, record: SourceRecord, decoded: Decoded | DeadLetter) -> Admitted | None:
        """The new part of a record, None when it has none. What it brought is known from now on."""
        if isinstance(decoded, DeadLetter):
            return Admitted(record, decoded)
        envelope = envelope_of(decoded)
        producer, seq = envelope["producer_id"], envelope["seq"]
        if seq <= self._seqs.get(producer, -1):
            return None
        self._seqs[producer] = self._new_seqs[producer] = seq
        source = envelope["source"]
        if source is None:
            return Admitted(record, decoded)
        fresh = self._trim(record.topic, decoded, source)
        return None if fresh is None else Admitted(record, fresh)

    def take_progress(self) -> Progress:
        """What was learned since the last call: the content of a ledger row."""
        progress = Progress(self._new_seqs, self._new_ends, self._lost_ranges)
        self._new_seqs, self._new_ends, self._lost_ranges = {}, {}, 0
        return progress

    def _trim(self, topic: str, decoded: Decoded, source: SourceRange) -> Decoded | None:
        journal = source["journal_id"]
        if source["prev_end"] > self._ends.get(journal, 0):
            self._lost_ranges += 1
        place = journal
        if topic == TOPIC_LOGS and isinstance(decoded, Event):
            place = stream_id(journal, decoded.record["stream"])
        known_end = self._ends.get(place, 0)
        self._advance(journal, source["end"])
        self._advance(place, source["end"])
        if source["start"] >= known_end:
            return decoded
        if isinstance(decoded, DecodedMetrics):
            return _trim_metrics(decoded, known_end)
        if topic == TOPIC_LOGS:
            return _trim_lines(decoded, known_end)
        # A claim is whole or known: it has one place in the journal, at the end of its range.
        return decoded if source["end"] > known_end else None

    def _advance(self, place: bytes, end: int) -> None:
        if end > self._ends.get(place, 0):
            self._ends[place] = self._new_ends[place] = end


def _trim_metrics(metrics: DecodedMetrics, known_end: int) -> DecodedMetrics | None:
    blocks = [block.rows(block.offset >= known_end) for block in metrics.blocks]
    blocks = [block for block in blocks if len(block.step)]
    texts = [text for text in metrics.texts if text["offset"] >= known_end]
    if not blocks and not texts:
        return None
    return DecodedMetrics(metrics.envelope, metrics.run_id, metrics.writer_id, blocks, texts)


def _trim_lines(event: Event, known_end: int) -> Event | None:
    chunk: dict[str, Any] = event.record
    kept = [index for index, offset in enumerate(chunk["offset"]) if offset >= known_end]
    if not kept:
        return None
    first = kept[0]
    # Offsets grow within a stream, so what is new is a tail, and line numbers go on from its first line.
    return Event(
        event.type,
        {
            **chunk,
            "first_line": chunk["first_line"] + first,
            "at_us": chunk["at_us"][first:],
            "offset": chunk["offset"][first:],
            "text": chunk["text"][first:],
        },
    )
