"""From the bytes of a journal segment to rows, texts and control records; pure, and fast where it matters.

A read is walked by the sizes in its heads, one CRC call checks all of it, and rows are gathered by shape with
numpy: about 20 ns a point where a loop with a CRC each takes over a thousand. Long runs of one shape are found
by a strided look-ahead; mixed shapes are walked one by one and gathered once. When the one CRC fails, records
are checked one by one up to the first that fails; what to do there depends on what lies behind it and is the
reader's business.

The bytes are hostile: every size is bounded by what is there, keys by the format's limits, and a record that
checks but makes no sense (a shape that is not defined, defined anew with other keys, JSON that is none) is
counted as `Lost` and stepped over.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from trainledger_schemas.errors import CorruptDataError
from trainledger_schemas.events import TextPoint
from trainledger_schemas.journal import (
    CLAIM,
    CONTROL_OVERHEAD_BYTES,
    CRC_BYTES,
    DEFINITION,
    GAP,
    LOG,
    ROW,
    ROW_OVERHEAD_BYTES,
    TEXT,
    VALUES_MAX,
    checks,
    control_body,
    unpack_row,
)
from trainledger_schemas.point_codec import PointBlock

from .coerce import clean_text, parse_json

__all__ = ["Control", "Lost", "Parsed", "ShapeTable", "parse_records", "walk_records"]

RUN_ROWS_MIN = 64
# Equal heads in a row before a look-ahead is worth its fixed cost.
_LOOK_AHEAD_AFTER = 8
# All keys of one journal; the SDK stops at a few hundred shapes, far below.
KEY_BYTES_TOTAL_MAX = 32 << 20

Words = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Control:
    """A CLAIM, LOG or GAP record at `[start, end)` (journal positions)."""

    kind: int
    start: int
    end: int
    step: int
    wall_ns: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Something at `[start, end)` that cannot be had: rows and points where known, else 0."""

    start: int
    end: int
    rows: int
    points: int
    reason: str


@dataclass(slots=True)
class Parsed:
    """What a stretch of whole records holds; `end` is the position behind the last one that checks."""

    end: int
    blocks: list[PointBlock] = field(default_factory=list)
    texts: list[TextPoint] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)


class ShapeTable:
    """The shapes of one journal. One whose keys changed is poisoned: its later rows would get wrong keys."""

    def __init__(self) -> None:
        self.keys: dict[int, tuple[str, ...]] = {}
        self.poisoned: set[int] = set()
        self.key_bytes = 0
        self._parts: dict[int, list[str]] = {}

    def define(self, body: bytes) -> str | None:
        """Take one DEFINITION; what is wrong with it, or None. Harmless when repeated."""
        record = parse_json(body)
        if not isinstance(record, dict):
            return "definition is not a JSON object"
        shape, start = record.get("shape"), record.get("start")
        total, keys = record.get("total"), record.get("keys")
        if not (_is_count(shape) and _is_count(start) and _is_count(total) and _is_texts(keys)):
            return "definition has a field of a wrong type"
        if not (0 < shape <= 0xFFFF and 0 < total <= VALUES_MAX and start + len(keys) <= total):
            return "definition with a number out of range"
        return self._add(shape, start, total, [clean_text(key) for key in keys])

    def _add(self, shape: int, start: int, total: int, keys: list[str]) -> str | None:
        known = self.keys.get(shape)
        if known is not None:
            if len(known) == total and list(known[start : start + len(keys)]) == keys:
                return None
            self.poisoned.add(shape)
            return f"shape {shape} was defined anew with other keys"
        self.key_bytes += sum(len(key) for key in keys)
        if self.key_bytes > KEY_BYTES_TOTAL_MAX:
            return f"keys of all shapes pass {KEY_BYTES_TOTAL_MAX} bytes"
        parts = self._parts.setdefault(shape, []) if start else []
        if start != len(parts):
            return f"definition of shape {shape} has a hole"
        parts = self._parts[shape] = parts + keys
        if len(parts) == total:
            self.keys[shape] = tuple(self._parts.pop(shape))
        return None


@dataclass(slots=True)
class Walk:
    """Records found by their heads: runs (head, first word, count), single ones by head, and the end."""

    runs: list[tuple[int, int, int]] = field(default_factory=list)
    singles: dict[int, list[int]] = field(default_factory=dict)
    end_word: int = 0
    last_word: int = 0

    def places(self) -> dict[int, npt.NDArray[np.int64]]:
        """The first words of all records, by head, in order."""
        parts: dict[int, list[npt.NDArray[np.int64]]] = {
            head: [np.array(words, np.int64)] for head, words in self.singles.items() if words
        }
        for head, first, count in self.runs:
            size = head & 0xFFFF
            run = np.arange(first, first + count * size, size, dtype=np.int64)
            parts.setdefault(head, []).append(run)
        return {
            head: np.sort(np.concatenate(found)) if len(found) > 1 else found[0]
            for head, found in parts.items()
        }


def walk_records(data: bytes) -> Walk:
    """Step over whole records by the sizes in their heads, up to the first that cannot be one."""
    words = np.frombuffer(data, "<u4", len(data) // 4)
    view = memoryview(data)[: len(words) * 4].cast("I")
    walk = Walk()
    total = len(words)
    place = same = previous = retry_at = 0
    while place < total:
        head = view[place]
        size = head & 0xFFFF
        if size * 4 < _bytes_min(head) or place + size > total:
            break
        if head != previous:
            previous, same = head, 0
        same += 1
        if same > _LOOK_AHEAD_AFTER and place >= retry_at:
            count = _equal_heads(words[place::size][: (total - place) // size], head)
            if count:
                walk.runs.append((head, place, count))
                place += count * size
                walk.last_word = place - size
                same = 0
                continue
            retry_at = place + RUN_ROWS_MIN * size
        walk.singles.setdefault(head, []).append(place)
        walk.last_word = place
        place += size
    walk.end_word = place
    return walk


def parse_records(data: bytes, *, position: int, shapes: ShapeTable) -> Parsed:
    """All records at the begin of `data` that are whole and check; `position` is that of its first byte."""
    walk = walk_records(data)
    good = _good_bytes(data, walk)
    if good != walk.end_word * 4:
        data = data[:good]
        walk = walk_records(data)
    parsed = Parsed(position + good)
    if not good:
        return parsed
    reader = _RecordReader(data, position, shapes, parsed)
    places = walk.places()
    reader.read_controls([found for head, found in places.items() if head >> 16 == 0])
    for head, found in places.items():
        if head >> 16:
            reader.read_rows(head, found)
    return parsed


def _bytes_min(head: int) -> int:
    return ROW_OVERHEAD_BYTES if head >> 16 else CONTROL_OVERHEAD_BYTES


def _equal_heads(heads: Words, head: int) -> int:
    """How many of `heads` from the first are `head`, if at least RUN_ROWS_MIN, else 0."""
    if len(heads) < RUN_ROWS_MIN or bool((heads[:RUN_ROWS_MIN] != head).any()):
        return 0
    others = np.flatnonzero(heads != head)
    return int(others[0]) if len(others) else len(heads)


def _good_bytes(data: bytes, walk: Walk) -> int:
    """How many bytes from the begin are records that check."""
    end = walk.end_word * 4
    view = memoryview(data)
    if checks(view[:end]):
        return end
    last = walk.last_word * 4
    if checks(view[:last]):
        return last  # the usual case: the newest record is being written
    place = 0
    while place < last:
        size = (int.from_bytes(data[place : place + 4], "little") & 0xFFFF) * 4
        if not checks(view[place : place + size]):
            break
        place += size
    return place


class _RecordReader:
    """Turns records that check into what they mean, for one stretch."""

    def __init__(self, data: bytes, position: int, shapes: ShapeTable, parsed: Parsed) -> None:
        self._data = data
        self._words = np.frombuffer(data, "<u4", len(data) // 4)
        self._position = position
        self._shapes = shapes
        self._parsed = parsed
        self._poisoned_from: dict[int, int] = {}
        self._loose_rows: dict[bytes, list[tuple[int, int, int, bytes]]] = {}

    def read_controls(self, places: list[npt.NDArray[np.int64]]) -> None:
        """Definitions, texts and rows without a shape are used; CLAIM, LOG and GAP are handed on."""
        if places:
            for word in np.sort(np.concatenate(places)).tolist():
                self._read_control(word * 4)
        for keys_json, rows in self._loose_rows.items():
            self._add_loose_rows(keys_json, rows)

    def read_rows(self, head: int, places: npt.NDArray[np.int64]) -> None:
        """The rows of one shape and size, at these first words."""
        shape, size = head >> 16, head & 0xFFFF
        keys = self._shapes.keys.get(shape)
        if keys is not None and ROW_OVERHEAD_BYTES + 8 * len(keys) != size * 4:
            keys = None
        if keys is None:
            self._lose(places, size, f"rows of shape {shape} have no definition that fits")
            return
        if shape in self._shapes.poisoned:
            limit = self._poisoned_from.get(shape, -1)
            later = places * 4 >= limit
            self._lose(places[later], size, f"shape {shape} was defined anew with other keys")
            places = places[~later]
        if len(places):
            self._parsed.blocks.append(self._block(keys, size, places))

    def _block(self, keys: tuple[str, ...], size: int, places: npt.NDArray[np.int64]) -> PointBlock:
        kind = _row_type(len(keys))
        count = len(places)
        first = int(places[0])
        if int(places[-1]) - first == (count - 1) * size:
            rows = np.frombuffer(self._data, kind, count, first * 4)  # one run: no copy
        else:
            rows = self._words[places[:, None] + np.arange(size)].view(kind)[:, 0]
        return PointBlock(
            keys,
            rows["step"].astype(np.int64),
            rows["wall"] // 1000,
            self._position + places * 4,
            rows["values"].astype(np.float64),
        )

    def _lose(self, places: npt.NDArray[np.int64], size: int, reason: str) -> None:
        if len(places):
            start = self._position + int(places[0]) * 4
            points = (size * 4 - ROW_OVERHEAD_BYTES) // 8 * len(places)
            self._parsed.lost.append(Lost(start, start + CRC_BYTES, len(places), points, reason))

    def _read_control(self, start: int) -> None:
        size = (int.from_bytes(self._data[start : start + 4], "little") & 0xFFFF) * 4
        position = self._position + start
        try:
            kind, step, wall_ns, body = control_body(self._data[start : start + size])
            problem = self._use(kind, Control(kind, position, position + size, step, wall_ns, body), start)
        except CorruptDataError as error:
            problem = str(error)
        if problem is not None:
            self._parsed.lost.append(Lost(position, position + CRC_BYTES, 0, 0, problem))

    def _use(self, kind: int, control: Control, start: int) -> str | None:
        if kind in (CLAIM, LOG, GAP):
            self._parsed.controls.append(control)
            return None
        if kind == DEFINITION:
            before = set(self._shapes.poisoned)
            problem = self._shapes.define(control.body)
            for shape in self._shapes.poisoned - before:
                self._poisoned_from[shape] = start
            return problem
        if kind == TEXT:
            return self._use_text(control)
        if kind == ROW:
            keys_json, values = unpack_row(control.body)
            row = (control.start, control.step, control.wall_ns, values)
            self._loose_rows.setdefault(keys_json, []).append(row)
        return None  # KEY_FULL: points carry the short key; and kinds that a later version may bring

    def _use_text(self, control: Control) -> str | None:
        record = parse_json(control.body)
        if not isinstance(record, dict):
            return "text point is not a JSON object"
        key, text = record.get("key"), record.get("text")
        if not (isinstance(key, str) and isinstance(text, str)):
            return "text point without a key or a text"
        self._parsed.texts.append(
            {
                "key": clean_text(key),
                "step": control.step,
                "wall": control.wall_ns // 1000,
                "offset": control.start,
                "text": clean_text(text),
            }
        )
        return None

    def _add_loose_rows(self, keys_json: bytes, rows: list[tuple[int, int, int, bytes]]) -> None:
        keys: Any = parse_json(keys_json)
        is_sound = _is_texts(keys)
        fitting = [row for row in rows if is_sound and len(row[3]) == 8 * len(keys)]
        if len(fitting) < len(rows):
            start, count, reason = (
                rows[0][0],
                len(rows) - len(fitting),
                "rows whose keys do not fit their values",
            )
            points = sum(len(row[3]) // 8 for row in rows) - sum(len(row[3]) // 8 for row in fitting)
            self._parsed.lost.append(Lost(start, start + CRC_BYTES, count, points, reason))
        if fitting and keys:
            numbers = np.array([row[:3] for row in fitting], np.int64)
            values = np.frombuffer(b"".join(row[3] for row in fitting), "<f8").reshape(-1, len(keys))
            names = tuple(map(clean_text, keys))
            self._parsed.blocks.append(
                PointBlock(names, numbers[:, 1], numbers[:, 2] // 1000, numbers[:, 0], values)
            )


@lru_cache(maxsize=256)
def _row_type(values: int) -> np.dtype[Any]:
    return np.dtype(
        [("head", "<u4"), ("step", "<i8"), ("wall", "<i8"), ("values", "<f8", (values,)), ("crc", "<u4")]
    )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
