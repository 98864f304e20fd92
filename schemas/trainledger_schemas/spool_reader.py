"""Reading a spool: frames by offset, from plain and from compressed segments.

A reader needs no lock and never writes. The owner of the spool may meanwhile append, roll, compress a
segment (`NNN.seg` becomes `NNN.seg.gz`), rewrite one with fewer frames (thinning) or remove old ones; the
reader sees each segment as it was before or after, never half. Offsets grow but may have holes: frames that
were lost to corruption or thinned away. Frames are served strictly below the caller's `end`, which is what
the owner says is fsynced, so that nothing is read that a power cut could take back.

A stretch that does not check is stepped over and counted in `skipped`, once; a cut-off frame at the end of
the newest segment is a record still being written and is left alone.
"""

import os
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from .errors import FatalSourceError, RetryableSourceError
from .spool import Corruption, Frame, scan_frames, segment_base

__all__ = ["SEGMENT_BYTES_MAX", "SegmentFile", "SpoolReader", "list_segments", "load_segment"]

# A compressed segment is inflated as a whole; this bounds what a damaged one can ask for.
SEGMENT_BYTES_MAX = 256 * 1024 * 1024
_TRIES_MAX = 10
# Read beyond what is asked for, so that frames and not payloads fill a read.
_READ_AHEAD_BYTES = 256 * 1024
_GZIP_WINDOW_BITS = 31


@dataclass(frozen=True, slots=True, order=True)
class SegmentFile:
    """One segment of a topic's folder: the offset of its first record, and where it is."""

    base: int
    path: Path
    compressed: bool


def list_segments(folder: Path) -> list[SegmentFile]:
    """The segments of a topic, oldest first. Where both forms of one exist, the plain one: it is complete."""
    found: dict[int, SegmentFile] = {}
    if not folder.is_dir():
        return []
    for path in folder.iterdir():
        compressed = path.name.endswith(".seg.gz")
        try:
            base = segment_base(path.name.removesuffix(".gz"))
        except ValueError:
            continue
        if base not in found or not compressed:
            found[base] = SegmentFile(base, path, compressed)
    return sorted(found.values())


def load_segment(segment: SegmentFile) -> bytes:
    """All frames' bytes of a segment; what cannot be inflated is left out, as a cut-off tail would be."""
    raw = segment.path.read_bytes()
    if not segment.compressed:
        return raw
    inflater = zlib.decompressobj(_GZIP_WINDOW_BITS)
    parts: list[bytes] = []
    try:
        # By steps: what came before a damaged place is kept.
        for start in range(0, len(raw), 1 << 20):
            room = SEGMENT_BYTES_MAX - sum(map(len, parts))
            parts.append(inflater.decompress(raw[start : start + (1 << 20)], max(1, room)))
    except zlib.error:
        pass  # the caller meets the missing frames as a hole and counts it
    return b"".join(parts)


@dataclass(slots=True)
class _Window:
    """Bytes of a segment from `start` on, and whether they reach its end."""

    segment: SegmentFile
    inode: int
    start: int
    data: bytes
    reaches_end: bool
    scan_from: int = 0


@dataclass(slots=True)
class _Place:
    """Where the last read ended: in this very file, offset `offset` or more begins at `byte`."""

    path: Path
    inode: int
    offset: int
    byte: int


@dataclass(slots=True)
class _Request:
    """What one read wants, and what it has so far."""

    offset: int
    end: int
    room: int
    frames: list[Frame] = field(default_factory=list)

    def wants_more(self) -> bool:
        return not self.frames or (self.room > 0 and self.frames[-1].offset + 1 < self.end)


class SpoolReader:
    """Frames of one topic of a spool, by offset.

    `skipped` counts the stretches that did not check and were stepped over.
    """

    def __init__(self, folder: Path, topic: str) -> None:
        self._folder = folder / topic
        self._topic = topic
        self._place: _Place | None = None
        self._inflated: _Window | None = None
        self._corrupt: set[tuple[int, int]] = set()

    @property
    def skipped(self) -> int:
        """How many corrupt stretches were stepped over so far."""
        return len(self._corrupt)

    def begin(self) -> int:
        """The oldest offset that can be read; 0 for a topic without records."""
        segments = list_segments(self._folder)
        return segments[0].base if segments else 0

    def read(self, offset: int, *, end: int, bytes_max: int) -> list[Frame]:
        """Frames from `offset` (or behind a hole) below `end`, at most `bytes_max` of payload, one at least.

        An empty list means that there is nothing below `end`. Raises FatalSourceError when `offset` is below
        begin(): records between were removed; RetryableSourceError when segments vanish at every try.
        """
        for _ in range(_TRIES_MAX):
            try:
                return self._read(_Request(offset, end, bytes_max))
            except FileNotFoundError:
                self._place = None  # compressed or removed since it was listed: list again
        raise RetryableSourceError(f"segments of {self._folder} change faster than they can be read")

    def _read(self, request: _Request) -> list[Frame]:
        segments = self._segments_from(request.offset) if request.offset < request.end else []
        for index, segment in enumerate(segments):
            if segment.base >= request.end or not request.wants_more():
                break
            is_newest = index == len(segments) - 1
            window = self._window(segment, request, whole=False)
            if not self._take(window, request, is_newest) and not window.reaches_end:
                window = self._window(segment, request, whole=True)
                self._take(window, request, is_newest)
            if not window.reaches_end:
                # The rest of this segment comes before the next one: the next read begins there.
                break
        return request.frames

    def _segments_from(self, offset: int) -> list[SegmentFile]:
        segments = list_segments(self._folder)
        if not segments:
            return []
        if offset < segments[0].base:
            raise FatalSourceError(
                f"{self._topic} in {self._folder} begins at offset {segments[0].base}, and {offset} was asked"
                " for: the records between were removed before they were read"
            )
        first = max(index for index, segment in enumerate(segments) if segment.base <= offset)
        return segments[first:]

    def _take(self, window: _Window, request: _Request, is_newest: bool) -> bool:
        """Add what is wanted of a window; False when it ended before anything was decided."""
        for item in scan_frames(window.data, window.scan_from):
            if isinstance(item, Corruption):
                if item.is_tail and not window.reaches_end:
                    return bool(request.frames)
                if not (item.is_tail and is_newest):
                    self._corrupt.add((window.segment.base, window.start + item.start))
                continue
            if item.offset >= request.end:
                return True
            if item.offset >= request.offset:
                if request.frames and len(item.payload) > request.room:
                    request.room = 0
                    return True
                request.frames.append(item)
                request.room -= len(item.payload)
            self._place = _Place(
                window.segment.path, window.inode, item.offset + 1, window.start + item.end_byte
            )
            if not request.wants_more():
                return True
        return window.reaches_end

    def _window(self, segment: SegmentFile, request: _Request, *, whole: bool) -> _Window:
        if segment.compressed:
            return self._inflate(segment, request)
        with open(segment.path, "rb") as file:
            status = os.fstat(file.fileno())
            start = self._resume_byte(segment, status.st_ino, request)
            size = status.st_size - start if whole else request.room + _READ_AHEAD_BYTES
            data = os.pread(file.fileno(), max(0, size), start)
        return _Window(segment, status.st_ino, start, data, start + len(data) >= status.st_size)

    def _inflate(self, segment: SegmentFile, request: _Request) -> _Window:
        inode = segment.path.stat().st_ino
        kept = self._inflated
        if kept is None or kept.segment != segment or kept.inode != inode:
            kept = self._inflated = _Window(segment, inode, 0, load_segment(segment), True)
        return replace(kept, scan_from=self._resume_byte(segment, inode, request))

    def _resume_byte(self, segment: SegmentFile, inode: int, request: _Request) -> int:
        place = self._place
        # A rewritten segment is another file: byte positions of the old one mean nothing in it.
        if place is None or place.path != segment.path or place.inode != inode:
            return 0
        return place.byte if place.offset <= request.offset else 0
