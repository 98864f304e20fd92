"""Reading a spool: frames by offset, from plain and from compressed segments.

A reader needs no lock and never writes. The owner of the spool may meanwhile append, roll, compress a
segment (`NNN.seg` becomes `NNN.seg.gz`), rewrite one with fewer frames (thinning) or remove old ones; the
reader sees each segment as it was before or after, never half. Offsets grow but may have holes: frames that
were lost to corruption or thinned away. Frames are served strictly below the caller's `end`, which is what
the owner says is fsynced, so that nothing is read that a power cut could take back.

A stretch that does not check is stepped over and counted in `skipped`, once; a cut-off frame at the end of
the newest segment is a record still being written and is left alone.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

from .errors import FatalSourceError, RetryableSourceError
from .spool import FRAME_BYTES_MAX, Frame, scan_frames, segment_base

__all__ = ["SEGMENT_BYTES_MAX", "SegmentFile", "SpoolReader", "list_segments", "load_segment"]

# A compressed segment is inflated as a whole; this bounds what a damaged one can ask for.
SEGMENT_BYTES_MAX = 256 * 1024 * 1024
_TRIES_MAX = 10
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
class _Place:
    # Where the last read ended: the frame at `byte` of this very file has at least offset `offset`.
    segment: SegmentFile
    inode: int
    offset: int
    byte: int


class SpoolReader:
    """Frames of one topic of a spool, by offset.

    `skipped` counts the stretches that did not check and were stepped over.
    """

    def __init__(self, folder: Path, topic: str) -> None:
        self._folder = folder / topic
        self._topic = topic
        self._place: _Place | None = None
        self._inflated: tuple[Path, int, bytes] | None = None
        self._counted: set[tuple[int, int]] = set()

    @property
    def skipped(self) -> int:
        """How many corrupt stretches were stepped over so far."""
        return len(self._counted)

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
                return self._read(offset, end, bytes_max)
            except FileNotFoundError:
                self._place = None  # compressed or removed since it was listed: list again
        raise RetryableSourceError(f"segments of {self._folder} change faster than they can be read")

    def _read(self, offset: int, end: int, bytes_max: int) -> list[Frame]:
        if offset >= end:
            return []
        frames: list[Frame] = []
        room = bytes_max
        segments = self._segments_from(offset)
        for index, segment in enumerate(segments):
            if segment.base >= end or (frames and room <= 0):
                break
            is_newest = index == len(segments) - 1
            room = self._read_segment(segment, is_newest, offset, end, room, frames)
            if frames and (room <= 0 or frames[-1].offset + 1 >= end):
                break
        return frames

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

    def _read_segment(  # noqa: PLR0913 - one read's state, private
        self,
        segment: SegmentFile,
        is_newest: bool,
        offset: int,
        end: int,
        room: int,
        frames: list[Frame],
    ) -> int:
        """Append what is wanted of one segment to `frames`; the room that is left."""
        data, start = self._bytes_of(segment, offset, room)
        for item in scan_frames(data, 0):
            if not isinstance(item, Frame):
                at_end = item.is_tail and start + len(data) >= self._size
                if item.is_tail and not at_end:
                    break  # the window ended inside a frame
                if not (at_end and is_newest):
                    self._counted.add((segment.base, start + item.start))
                continue
            if item.offset >= end:
                break
            if item.offset >= offset:
                if frames and len(item.payload) > room:
                    return 0
                frames.append(item)
                room -= len(item.payload)
            self._place = _Place(segment, self._inode, item.offset + 1, start + item.end_byte)
        return room
