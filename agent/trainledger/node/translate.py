"""From a chunk of a journal to events, without their envelopes; pure.

Run id and writer id come from the segment's header, never from what the process says in a record. Each event
carries the range of the journal it stands for; ranges of one topic follow each other without overlap, and
`ends` (how far each topic has the journal already) trims what was spooled before a crash: rows, texts, claims
and log records below are left out, so that a range that is cut elsewhere the second time gives every row once.

    metrics    one event for the range, split between rows where it would grow beyond EVENT_BYTES_MAX
    runs       claims, gaps and losses, one event each, in the order of the journal
    logs       one event for successive records of one stream with successive lines
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainledger_schemas.events import TOPIC_LOGS, TOPIC_METRICS, TOPIC_RUNS, TextPoint
from trainledger_schemas.journal import CLAIM, CRC_BYTES, GAP, LOG
from trainledger_schemas.point_codec import PointBlock

from .coerce import clean_text, coerce_claim, parse_json
from .journal_parse import Control, Lost
from .journal_reader import Chunk

__all__ = ["NewEvent", "Translation", "translate"]

# Below the usual limit of a Kafka record (1 MB); one row alone may pass it, up to ROW_BYTES_MAX.
EVENT_BYTES_MAX = 896 * 1024
ROW_BYTES_MAX = 3 << 20
# Step, wall time and offset of a row as differences.
_ROW_OVERHEAD_BYTES = 9
_TEXT_OVERHEAD_BYTES = 40
STREAMS = ("stdout", "stderr")


@dataclass(slots=True)
class NewEvent:
    """One event for `[start, end)` of the journal; `points` of a metrics event, else 0."""

    topic: str
    type_name: str
    fields: dict[str, Any]
    start: int
    end: int
    points: int = 0


@dataclass(slots=True)
class Translation:
    """The events of a chunk in the order in which they are to be spooled, and what could not be told."""

    events: list[NewEvent] = field(default_factory=list)
    claims_dropped: int = 0
    lost: int = 0
    exit_seen: bool = False


@dataclass(slots=True)
class _Rows:
    """Blocks and texts of a range."""

    start: int
    end: int
    blocks: list[PointBlock]
    texts: list[TextPoint]


def translate(chunk: Chunk, ends: Mapping[str, int]) -> Translation:
    """The events of a chunk; `ends`: by topic, the position up to which it has this journal."""
    result = Translation()
    ids = {"run_id": chunk.header.run_id, "writer_id": chunk.header.journal_id}
    lost = list(chunk.lost)
    for rows in _split(_trimmed(chunk, ends.get(TOPIC_METRICS, 0))):
        lost += _too_large(rows)
        if rows.blocks or rows.texts:
            fields = {**ids, "blocks": rows.blocks, "texts": rows.texts}
            points = sum(block.points for block in rows.blocks) + len(rows.texts)
            event = NewEvent(TOPIC_METRICS, "metrics", fields, rows.start, rows.end, points)
            result.events.append(event)
    if chunk.controls or lost:
        _add_logs(result, chunk, ids, lost, ends.get(TOPIC_LOGS, 0))
        _add_run_events(result, chunk, ids, lost, ends.get(TOPIC_RUNS, 0))
    result.lost = len(lost)
    return result


def _trimmed(chunk: Chunk, known: int) -> _Rows:
    if known <= chunk.start:
        return _Rows(chunk.start, chunk.end, chunk.blocks, chunk.texts)
    return _between(_Rows(chunk.start, chunk.end, chunk.blocks, chunk.texts), known, max(known, chunk.end))


def _between(rows: _Rows, start: int, end: int) -> _Rows:
    blocks = []
    for block in rows.blocks:
        part = block.rows((block.offset >= start) & (block.offset < end))
        if len(part.step):
            blocks.append(part)
    texts = [text for text in rows.texts if start <= text["offset"] < end]
    return _Rows(start, end, blocks, texts)


def _split(rows: _Rows) -> Iterator[_Rows]:
    """Halve a range between two rows until each part is small enough, or has one row."""
    if _size_bytes(rows) <= EVENT_BYTES_MAX:
        yield rows
        return
    offsets = np.unique(
        np.concatenate(
            [block.offset for block in rows.blocks]
            + [np.array([text["offset"] for text in rows.texts], np.int64)]
        )
    )
    if len(offsets) < 2:
        yield rows
        return
    middle = int(offsets[len(offsets) // 2])
    yield from _split(_between(rows, rows.start, middle))
    yield from _split(_between(rows, middle, rows.end))


def _size_bytes(rows: _Rows) -> int:
    """About how large the event will be; never less than it is by more than its fixed part."""
    size = 0
    for block in rows.blocks:
        size += sum(4 * len(key) if not key.isascii() else len(key) for key in block.keys) + 3 * len(
            block.keys
        )
        size += block.values.nbytes + 3 * _ROW_OVERHEAD_BYTES * len(block.step)
    for text in rows.texts:
        size += 4 * (len(text["text"]) + len(text["key"])) + _TEXT_OVERHEAD_BYTES
    return size


def _too_large(rows: _Rows) -> list[Lost]:
    """Take a row out that no event can hold (thousands of very long keys); what was lost."""
    if _size_bytes(rows) <= ROW_BYTES_MAX:
        return []
    reason = f"keys of one row take more than {ROW_BYTES_MAX} bytes"
    lost = [
        Lost(int(block.offset[0]), int(block.offset[0]) + CRC_BYTES, len(block.step), block.points, reason)
        for block in rows.blocks
    ]
    rows.blocks = []
    return lost


def _add_run_events(
    result: Translation, chunk: Chunk, ids: Mapping[str, bytes], lost: Sequence[Lost], known: int
) -> None:
    items: list[Control | Lost] = [item for item in chunk.controls if item.kind in (CLAIM, GAP)]
    items += lost
    # A loss inside a range of rows is said at the place of its first row.
    for item in sorted(items, key=lambda item: item.start):
        if isinstance(item, Control) and item.kind == CLAIM:
            found = _claim(item)
        else:
            found = "writer_gap", _gap_fields(item, chunk)
        if found is None:
            result.claims_dropped += 1
            continue
        name, fields = found
        result.exit_seen |= name == "run_exited"
        if item.start >= known:
            known = item.end
            event = NewEvent(TOPIC_RUNS, name, {**ids, **fields}, item.start, item.end)
            result.events.append(event)


def _claim(control: Control) -> tuple[str, dict[str, Any]] | None:
    claim = parse_json(control.body)
    if not isinstance(claim, dict):
        return None
    return coerce_claim(claim, at_us=control.wall_ns // 1000)


def _gap_fields(item: Control | Lost, chunk: Chunk) -> dict[str, Any]:
    if isinstance(item, Lost):
        at_us = chunk.header.wall_ns // 1000
        return {"at_us": at_us, "rows": item.rows, "points": item.points, "reason": item.reason}
    record = parse_json(item.body)
    record = record if isinstance(record, dict) else {}
    reason = record.get("reason")
    return {
        "at_us": item.wall_ns // 1000,
        "rows": _count(record.get("rows")),
        "points": _count(record.get("points")),
        "reason": clean_text(reason) if isinstance(reason, str) else "not said",
    }


def _count(value: object) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
    return value if is_count and isinstance(value, int) else 0


def _add_logs(
    result: Translation, chunk: Chunk, ids: Mapping[str, bytes], lost: list[Lost], known: int
) -> None:
    open_event: NewEvent | None = None
    for control in chunk.controls:
        if control.kind != LOG or control.start < known:
            continue
        lines = _log_lines(control)
        if lines is None:
            lost.append(
                Lost(control.start, control.start + CRC_BYTES, 0, 0, "log record that makes no sense")
            )
            continue
        if open_event is not None and _follows(lines, open_event.fields):
            for name in ("at_us", "offset", "text"):
                open_event.fields[name] += lines[name]
            open_event.end = control.end
            continue
        open_event = NewEvent(TOPIC_LOGS, "log_chunk", {**ids, **lines}, control.start, control.end)
        result.events.append(open_event)


def _follows(lines: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    next_line = before["first_line"] + len(before["text"])
    return bool(lines["stream"] == before["stream"] and lines["first_line"] == next_line)


def _log_lines(control: Control) -> dict[str, Any] | None:
    record = parse_json(control.body)
    if not isinstance(record, dict):
        return None
    stream, first, at_us, text = (record.get(name) for name in ("stream", "first_line", "at_us", "text"))
    if stream not in STREAMS or not isinstance(at_us, list) or not isinstance(text, list):
        return None
    if len(at_us) != len(text) or not text or not all(isinstance(line, str) for line in text):
        return None
    fallback = control.wall_ns // 1000
    return {
        "stream": stream,
        "first_line": _count(first) or 1,
        "at_us": [_count(at) or fallback for at in at_us],
        "offset": [control.start] * len(text),
        "text": [clean_text(line) for line in text],
    }
