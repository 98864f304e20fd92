"""One topic of the spool: its segments, its next offset, and how far each journal is spooled.

Owned by one process (see `spool.Spool`). Appends go to the newest segment; older ones are complete and fsynced.
Recovery therefore scans the newest segment alone: what is cut off at its end is removed, a stretch in its
middle that does not check is copied to `set_aside/` and stays where it is (readers step over it), and the
journal ends are those of its `.ranges` file plus what its frames say. The `.ranges` file of a segment is on
disk before the segment exists; where it is missing or damaged all segments are read instead.
"""

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path

from trainledger_schemas.errors import FatalSourceError, RetryableSourceError
from trainledger_schemas.ids import id_bytes, id_text
from trainledger_schemas.spool import Frame, encode_frame, scan_frames, segment_file_name
from trainledger_schemas.spool_reader import SegmentFile, list_segments, load_segment

from .identity import write_durably

__all__ = ["TopicLog"]

_GZIP_WINDOW_BITS = 31
_RANGES_SUFFIX = ".ranges"


class TopicLog:
    """The segments of one topic, open for appending.

    `next_offset`: of the next record; `synced_end`: behind the last fsynced one; `ends`: by journal id, the
    position up to which this topic has it; `seq_max`: the highest seq in the newest records (-1 if none);
    `plain_bytes`: size of all segments that are not compressed; `rolled`: segments begun since it was opened.
    Raises RetryableSourceError when the disk is full or refuses, FatalSourceError when an fsync fails.
    """

    def __init__(self, folder: Path, *, segment_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._fd = -1
        self.ends: dict[bytes, int] = {}
        self.seq_max = -1
        self.rolled = 0
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)
        self._remove_leftovers()
        segments = list_segments(folder)
        self.next_offset = 0
        self._base = segments[-1].base if segments else 0
        self._size = 0
        for segment in segments[-2:-1]:
            self._note_seq(segment)  # the newest may still be empty
        if segments:
            self._recover(segments)
        else:
            self._begin_segment()
        self.synced_end = self.next_offset
        self.plain_bytes = sum(s.path.stat().st_size for s in list_segments(folder) if not s.compressed)

    @property
    def is_dirty(self) -> bool:
        """Whether there are records that are not fsynced."""
        return self.synced_end < self.next_offset

    def append(self, frame: Frame) -> None:
        """Write one frame, whose offset must be `next_offset`; it is durable after the next sync()."""
        data = encode_frame(frame)
        if self._size and self._size + len(data) > self._segment_bytes:
            self._roll()
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            raise RetryableSourceError(
                f"spool {self._folder} takes no more records: {error.strerror}; free disk space there"
            ) from error
        self._size += len(data)
        self.plain_bytes += len(data)
        self.next_offset = frame.offset + 1
        if frame.source is not None:
            self.ends[frame.source.journal_id] = frame.source.end

    def sync(self) -> None:
        """Make all records durable; harmless when they are."""
        if not self.is_dirty:
            return
        try:
            os.fsync(self._fd)
        except OSError as error:
            # The kernel may have dropped the pages and will not say so twice: only a new scan knows.
            raise FatalSourceError(
                f"fsync of {self._folder} failed: {error}; start the agent anew"
            ) from error
        self.synced_end = self.next_offset

    def sealed(self) -> list[SegmentFile]:
        """All segments but the newest, oldest first."""
        return [segment for segment in list_segments(self._folder) if segment.base < self._base]

    def sealed_below(self, below_offset: int) -> list[SegmentFile]:
        """The segments whose records are all below an offset; never the newest."""
        segments = self.sealed()
        ends = [segment.base for segment in segments[1:]] + [self._base]
        return [segment for segment, end in zip(segments, ends, strict=False) if end <= below_offset]

    def remove(self, segment: SegmentFile) -> None:
        """Delete a sealed segment."""
        if not segment.compressed:
            self.plain_bytes -= segment.path.stat().st_size
        segment.path.unlink()
        sync_folder(self._folder)

    def compress(self, segment: SegmentFile) -> None:
        """Replace a sealed plain segment by its compressed form; a crash leaves one of the two or both."""
        raw = segment.path.read_bytes()
        packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP_WINDOW_BITS)
        write_durably(
            segment.path.with_name(segment.path.name + ".gz"), packer.compress(raw) + packer.flush()
        )
        segment.path.unlink()
        sync_folder(self._folder)
        self.plain_bytes -= len(raw)

    def rewrite(self, segment: SegmentFile, change: Callable[[Frame], Frame | None]) -> int:
        """Replace a sealed plain segment by its frames as `change` returns them; the bytes saved."""
        raw = segment.path.read_bytes()
        kept = (change(item) for item in scan_frames(raw) if isinstance(item, Frame))
        data = b"".join(encode_frame(frame) for frame in kept if frame is not None)
        if len(data) < len(raw):
            write_durably(segment.path, data)
            self.plain_bytes -= len(raw) - len(data)
        return max(0, len(raw) - len(data))

    def close(self) -> None:
        """Sync and let go; harmless when repeated."""
        if self._fd >= 0:
            self.sync()
            os.close(self._fd)
            self._fd = -1

    def _remove_leftovers(self) -> None:
        for path in self._folder.glob("*.new"):
            path.unlink()
        for path in self._folder.glob("*.seg.gz"):
            # Killed between the two steps of a compression: the plain one is complete.
            if path.with_suffix("").exists():
                path.unlink()

    def _recover(self, segments: list[SegmentFile]) -> None:
        newest = segments[-1]
        if newest.base > 0 and not self._load_ranges(newest.base):
            for segment in segments[:-1]:
                for item in scan_frames(load_segment(segment)):
                    if isinstance(item, Frame):
                        self._note(item)
        self.next_offset = newest.base
        data = load_segment(newest)
        for found in scan_frames(data):
            if isinstance(found, Frame):
                self._note(found)
                self.next_offset = found.offset + 1
                self._size = found.end_byte
            elif not found.is_tail:
                self._set_aside(newest, found.start, data[found.start : found.end])
        if newest.compressed:
            self._begin_segment()
        else:
            self._open_newest(newest.path)

    def _open_newest(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        if os.fstat(self._fd).st_size > self._size:
            os.ftruncate(self._fd, self._size)
        # What a killed process left in the page cache counts as spooled from here on.
        os.fsync(self._fd)

    def _note_seq(self, segment: SegmentFile) -> None:
        for item in scan_frames(load_segment(segment)):
            if isinstance(item, Frame):
                self.seq_max = max(self.seq_max, item.seq)

    def _note(self, frame: Frame) -> None:
        self.seq_max = max(self.seq_max, frame.seq)
        if frame.source is not None:
            self.ends[frame.source.journal_id] = frame.source.end

    def _set_aside(self, segment: SegmentFile, start: int, data: bytes) -> None:
        path = self._folder / "set_aside" / f"{segment.path.name}.{start}"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_durably(path, data)

    def _load_ranges(self, base: int) -> bool:
        try:
            known = json.loads(self._ranges_path(base).read_bytes())
            self.ends = {id_bytes(journal): int(end) for journal, end in known.items()}
        except (FileNotFoundError, ValueError, AttributeError, TypeError):
            return False
        return True

    def _ranges_path(self, base: int) -> Path:
        return (self._folder / segment_file_name(base)).with_suffix(_RANGES_SUFFIX)

    def _roll(self) -> None:
        self.sync()
        try:
            self._begin_segment()
        except OSError as error:
            raise RetryableSourceError(
                f"spool {self._folder} cannot begin a segment: {error.strerror}; free disk space there"
            ) from error
        self.rolled += 1

    def _begin_segment(self) -> None:
        base = self.next_offset
        if base > 0:
            ranges = {id_text(journal): end for journal, end in self.ends.items()}
            write_durably(self._ranges_path(base), json.dumps(ranges).encode())
        fd = os.open(
            self._folder / segment_file_name(base),
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
            0o600,
        )
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._base, self._size = fd, base, 0
        sync_folder(self._folder)
        for path in self._folder.glob(f"*{_RANGES_SUFFIX}"):
            if path != self._ranges_path(base):
                path.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
