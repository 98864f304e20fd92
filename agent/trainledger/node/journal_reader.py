"""One journal, read forward from a position, while it is written, after its writer died, after a power cut.

    good records            handed on as a Chunk
    zeros                   the end of what is written; in a segment that will not grow any more (the next one
                            is there, or the writer is dead) the rest is searched for records behind a hole,
                            as a power cut leaves them
    bad, nothing behind     in flight: wait; of a dead writer: a torn tail, dropped (its call never returned)
    bad, good ones behind   stepped over to the next record that checks, and counted as lost

Whether a segment is complete is asked *before* its last bytes are read: the next segment is published only
when the old one takes no more records, so bytes read after that are all there will be.

A journal that is followed while it is written has a few rows each second: then a few kilobytes are read, not a
whole chunk, and nothing else is asked while there are good records.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from trainledger_schemas.events import TextPoint
from trainledger_schemas.journal import (
    CONTROL_OVERHEAD_BYTES,
    HEADER_BYTES,
    KEY_FULL,
    RECORD_BYTES_MAX,
    ROW_OVERHEAD_BYTES,
    SHAPE_MAX,
    SegmentHeader,
    checks,
)
from trainledger_schemas.point_codec import PointBlock
from trainledger_schemas.positions import journal_position, split_position

from .journal_folder import JournalFolder, RefusedError, Segment
from .journal_parse import Control, Lost, Parsed, ShapeTable, Words, parse_records

__all__ = ["CHUNK_BYTES", "Chunk", "JournalReader"]

# Holds the largest record, and about 13,000 points of two-value rows.
CHUNK_BYTES = 256 * 1024
# The first look at what is new. A system call costs as much as copying some thousand bytes.
_LOOK_BYTES = 4 * 1024
_SCAN_BYTES = 1 << 20
# Bytes that one search for good records may check: a bound on what a hostile file can cost.
_SCAN_CHECKED_BYTES_MAX = 64 << 20
_CHECK_FIXED_BYTES = 256


@dataclass(slots=True)
class Chunk:
    """What `[start, end)` of a journal holds."""

    start: int
    end: int
    header: SegmentHeader
    blocks: list[PointBlock] = field(default_factory=list)
    texts: list[TextPoint] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)

    @property
    def points(self) -> int:
        """Values and texts."""
        return sum(block.points for block in self.blocks) + len(self.texts)


class JournalReader:
    """The state of reading one journal: where to go on, and the shapes known so far.

    `position`: next to read; `torn`: torn tails dropped; `is_done`: the writer is dead and all is read.
    """

    def __init__(self, journal_id: bytes, position: int = 0) -> None:
        self.journal_id = journal_id
        self.position = position
        self.torn = 0
        self.is_done = False
        self.shapes = ShapeTable()
        # Definitions lie at the begin of each segment: a start in the middle reads them first.
        self._needs_definitions = position > 0
        self._header: SegmentHeader | None = None
        self._stalls = 0
        self._window_bytes = _LOOK_BYTES
        self._saw_end = False

    def has_read_all(self, folder: JournalFolder) -> bool:
        """Whether a look for more would find nothing: the last one saw the end, and no segment followed."""
        return self._saw_end and not folder.has_segment(split_position(self.position)[0] + 1)

    def read(self, folder: JournalFolder, *, is_dead: bool, bytes_max: int = CHUNK_BYTES) -> Chunk | None:
        """The next chunk, or None when there is nothing more for now (for good, if `is_done`).

        `is_dead`: the writer was seen dead before this call. `bytes_max` is at least CHUNK_BYTES. Reads, and
        may block on the disk; a repeat after an error goes on at the same position.
        """
        self._saw_end = False
        while not self.is_done:
            number, _ = split_position(self.position)
            try:
                segment = folder.open_segment(number)
            except (FileNotFoundError, RefusedError) as error:
                chunk, goes_on = self._step_over(folder, number, error, is_dead)
                if chunk is not None or not goes_on:
                    return chunk
                continue
            chunk, goes_on = self._read_segment(
                folder, segment, is_dead=is_dead, bytes_max=max(bytes_max, CHUNK_BYTES)
            )
            if chunk is not None or not goes_on:
                return chunk
        return None

    def _read_segment(
        self, folder: JournalFolder, segment: Segment, *, is_dead: bool, bytes_max: int
    ) -> tuple[Chunk | None, bool]:
        """A chunk if there is one; and whether it is worth to look further."""
        self._header = segment.header
        number, offset = split_position(self.position)
        if offset < HEADER_BYTES:
            offset = HEADER_BYTES
            self.position = journal_position(number, offset)
            self._needs_definitions = False
        if self._needs_definitions:
            self._read_definitions(segment, number, offset)
        parsed = self._parse_new(segment, offset, bytes_max)
        is_final = is_dead
        if parsed.end == self.position and not is_dead and folder.has_segment(number + 1):
            # It is complete now, and may not have been when it was read.
            is_final = True
            parsed = self._parse(segment, offset, bytes_max)
        if parsed.end > self.position:
            return self._chunk(parsed), True
        return self._read_on_behind(folder, segment, segment.read(offset, 4), is_final)

    def _parse_new(self, segment: Segment, offset: int, bytes_max: int) -> Parsed:
        """What is new from `offset` on; reads more the more there was at the looks before."""
        window_bytes = min(self._window_bytes, bytes_max)
        data = segment.read(offset, window_bytes)
        if not any(data[:4]):
            return Parsed(self.position)
        parsed = parse_records(data, position=self.position, shapes=self.shapes)
        if parsed.end == self.position and window_bytes < bytes_max:
            # A record that is longer than the window, or one in flight.
            window_bytes = bytes_max
            data = segment.read(offset, window_bytes)
            parsed = parse_records(data, position=self.position, shapes=self.shapes)
        taken = parsed.end - self.position
        behind = data[taken : taken + 4]
        self._saw_end = len(behind) == 4 and not any(behind)
        is_cut = len(data) == window_bytes and not self._saw_end
        self._window_bytes = bytes_max if is_cut else max(_LOOK_BYTES, 2 * taken)
        return parsed

    def _parse(self, segment: Segment, offset: int, bytes_max: int) -> Parsed:
        data = segment.read(offset, bytes_max)
        return parse_records(data, position=self.position, shapes=self.shapes)

    def _chunk(self, parsed: Parsed) -> Chunk:
        chunk = Chunk(
            self.position,
            parsed.end,
            self._known_header(),
            parsed.blocks,
            parsed.texts,
            parsed.controls,
            parsed.lost,
        )
        self.position = parsed.end
        self._stalls = 0
        return chunk

    def _known_header(self) -> SegmentHeader:
        if self._header is None:
            raise RefusedError(f"journal {self.journal_id.hex()} has no segment that can be read")
        return self._header

    def _read_on_behind(
        self, folder: JournalFolder, segment: Segment, data: bytes, is_final: bool
    ) -> tuple[Chunk | None, bool]:
        # Nothing good at the position: zeros, the end of the file, or bytes that do not check.
        number, offset = split_position(self.position)
        is_zero = not any(data[:4])
        if not is_final:
            self._stalls += 1
            # Each search may read the whole segment; a writer that stays stuck is looked at ever more rarely.
            if is_zero or self._stalls & (self._stalls - 1):
                return None, False
        found = _find_record(segment, offset + 4, self.shapes) if data else None
        if found is not None:
            # The record here may have been half written when it was read and be whole by now.
            parsed = self._parse(segment, offset, CHUNK_BYTES)
            if parsed.end > self.position:
                return self._chunk(parsed), True
            end = journal_position(number, found)
            what = "bytes are missing" if is_zero else "bytes do not check"
            return self._lost_chunk(end, f"{found - offset} {what} in segment {number}"), True
        if not is_final:
            return None, False
        self.torn += 0 if is_zero or not data else 1
        self._next_segment(folder, number)
        return None, True

    def _next_segment(self, folder: JournalFolder, number: int) -> None:
        later = [other for other in folder.segments() if other > number]
        if later:
            # The number after this one even if it is missing: that loss is counted where it is met.
            self.position = journal_position(number + 1, 0)
        else:
            self.is_done = True

    def _step_over(
        self, folder: JournalFolder, number: int, error: Exception, is_dead: bool
    ) -> tuple[Chunk | None, bool]:
        """A segment that is missing or cannot be read: go on at the next one that can, if there is one."""
        later = [other for other in folder.segments() if other > number]
        readable = next((other for other in later if folder.has_segment(other)), None)
        if readable is None:
            self.is_done = is_dead
            return None, False
        is_first = self.position == 0 and isinstance(error, FileNotFoundError)
        if is_first:
            self.position = journal_position(
                readable, 0
            )  # earlier ones were read and removed in another life
            return None, True
        if self._header is None:
            self._header = folder.open_segment(readable).header
        reason = f"segments {number} to {readable - 1} are missing or have no header that checks"
        return self._lost_chunk(journal_position(readable, 0), reason), True

    def _lost_chunk(self, end: int, reason: str) -> Chunk:
        chunk = Chunk(self.position, end, self._known_header(), lost=[Lost(self.position, end, 0, 0, reason)])
        self.position = end
        return chunk

    def _read_definitions(self, segment: Segment, number: int, end: int) -> None:
        """Take the shapes that are defined before `end` in this segment; nothing else of it is used."""
        self._needs_definitions = False
        offset = HEADER_BYTES
        while offset < end:
            data = segment.read(offset, min(CHUNK_BYTES, end - offset))
            parsed = parse_records(data, position=journal_position(number, offset), shapes=self.shapes)
            _, reached = split_position(parsed.end)
            if reached <= offset:
                found = _find_record(segment, offset + 4, self.shapes)
                if found is None:
                    return
                reached = found
            offset = reached


def _find_record(segment: Segment, offset: int, shapes: ShapeTable) -> int | None:
    """The offset of the next record that checks, from `offset` on; None when there is none.

    Records lie at multiples of four bytes. Only what has the size of a shape that is known, or of a control
    record of a known kind, is checked: almost nothing else is.
    """
    size_bytes = segment.size_bytes
    sizes = np.zeros(SHAPE_MAX + 1, np.uint32)
    for shape, keys in shapes.keys.items():
        sizes[shape] = (ROW_OVERHEAD_BYTES + 8 * len(keys)) // 4
    checked = 0
    while offset < size_bytes:
        data = segment.read(offset, _SCAN_BYTES + RECORD_BYTES_MAX)
        words = np.frombuffer(data, "<u4", len(data) // 4)
        is_empty = not words.any()  # the preallocated rest, nearly always
        for word in [] if is_empty else _plausible_words(words, sizes).tolist():
            start, size = word * 4, (int(words[word]) & 0xFFFF) * 4
            if start + size > len(data):
                continue
            checked += size + _CHECK_FIXED_BYTES
            if checked > _SCAN_CHECKED_BYTES_MAX:
                return None
            if checks(memoryview(data)[start : start + size]):
                return offset + int(start)
        offset += _SCAN_BYTES
    return None


def _plausible_words(words: Words, sizes: Words) -> npt.NDArray[np.intp]:
    """Where in the first _SCAN_BYTES a record may begin, by its head alone."""
    heads = words[: _SCAN_BYTES // 4]
    shape, size = heads >> 16, heads & 0xFFFF
    is_row = (shape > 0) & (size > 0) & (sizes[shape] == size)
    is_control = (shape == 0) & (size * 4 >= CONTROL_OVERHEAD_BYTES)
    places = np.flatnonzero(is_control)
    places = places[places + 7 <= len(words)]
    kind, body_bytes = words[places + 5], words[places + 6].astype(np.int64)
    padded = (body_bytes + 3) // 4 * 4
    fits = (kind >= 1) & (kind <= KEY_FULL) & (padded == size[places] * 4 - CONTROL_OVERHEAD_BYTES)
    return np.sort(np.concatenate([np.flatnonzero(is_row), places[fits]]))
