"""The spool's bytes: frames in segments, a folder a topic, laid out like a small Kafka.

    <spool>/<topic>/<base offset, 20 digits>.seg      frames, one after another
    <spool>/<topic>/<base offset, 20 digits>.ranges   JSON {journal id: end}: journal ends known there

    frame, little-endian                               offset, bytes
    0   4  magic "TLF1"                                40  16  journal id, zeros if none
    4   4  frame bytes, all in all                     56   8  prev_end
    8   8  offset of this record in its topic          64   8  start
    16  8  seq of the producer                         72   8  end
    24  8  wall time of the append, microseconds       80   2  key bytes, k
    32  4  payload bytes                               82   k  key
    36  4  flags (0)                                   ..   .  payload: one Avro single object
                                                       ..   4  crc32(all before, RESIDUE)

Offsets and seq are inside the frame, so that frames behind a corrupt stretch keep their identity: a reader
that meets bytes that do not check looks for the next magic whose frame does. A frame that is cut off at the
end of the newest segment is a torn tail and is removed by the owner of the spool alone.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from .journal import RESIDUE
from .positions import JournalRange

__all__ = [
    "FRAME_BYTES_MAX",
    "FRAME_OVERHEAD_BYTES",
    "Corruption",
    "Frame",
    "encode_frame",
    "scan_frames",
    "segment_base",
    "segment_file_name",
]

FRAME_MAGIC = b"TLF1"
FRAME_BYTES_MAX = 4 * 1024 * 1024
_HEAD = struct.Struct("<4sIQQqII16sqqqH")
_CRC = struct.Struct("<I")
FRAME_OVERHEAD_BYTES = _HEAD.size + _CRC.size


@dataclass(frozen=True, slots=True)
class Frame:
    """One record of the spool; `end_byte` is where the next frame begins in its segment."""

    offset: int
    seq: int
    wall_us: int
    key: bytes
    payload: bytes
    source: JournalRange | None
    end_byte: int = 0


@dataclass(frozen=True, slots=True)
class Corruption:
    """Bytes `[start, end)` of a segment that do not check; `is_tail`: nothing readable follows."""

    start: int
    end: int
    is_tail: bool


def encode_frame(frame: Frame) -> bytes:
    """The bytes of a frame; raises ValueError over FRAME_BYTES_MAX."""
    size = FRAME_OVERHEAD_BYTES + len(frame.key) + len(frame.payload)
    if size > FRAME_BYTES_MAX:
        raise ValueError(f"frame of {size} bytes is over the limit of {FRAME_BYTES_MAX}")
    source = frame.source
    journal = (
        (source.journal_id, source.prev_end, source.start, source.end) if source else (bytes(16), 0, 0, 0)
    )
    head = _HEAD.pack(
        FRAME_MAGIC,
        size,
        frame.offset,
        frame.seq,
        frame.wall_us,
        len(frame.payload),
        0,
        *journal,
        len(frame.key),
    )
    body = head + frame.key + frame.payload
    return body + _CRC.pack(zlib.crc32(body, RESIDUE))


def scan_frames(data: bytes, start_byte: int = 0) -> Iterator[Frame | Corruption]:
    """Yield the frames of a segment from `start_byte`, and each stretch that does not check.

    `data` is the whole segment. A cut-off frame at the end is a Corruption with `is_tail`.
    """
    position = start_byte
    while position < len(data):
        frame = _frame_at(data, position)
        if frame is not None:
            yield frame
            position = frame.end_byte
            continue
        behind = _next_frame(data, position + 1)
        yield Corruption(position, len(data) if behind is None else behind, is_tail=behind is None)
        if behind is None:
            return
        position = behind


def segment_file_name(base_offset: int) -> str:
    """The name of the segment whose first record has `base_offset`."""
    return f"{base_offset:020d}.seg"


def segment_base(name: str) -> int:
    """The base offset in a segment's file name; raises ValueError for another name."""
    stem, dot, suffix = name.partition(".")
    if not dot or suffix != "seg" or len(stem) != 20:
        raise ValueError(f"not a segment name: {name!r}")
    return int(stem)


def _frame_at(data: bytes, position: int) -> Frame | None:
    if len(data) - position < FRAME_OVERHEAD_BYTES:
        return None
    magic, size, offset, seq, wall_us, payload_bytes, _, journal, prev_end, start, end, key_bytes = (
        _HEAD.unpack_from(data, position)
    )
    if magic != FRAME_MAGIC or not FRAME_OVERHEAD_BYTES <= size <= min(FRAME_BYTES_MAX, len(data) - position):
        return None
    if size != FRAME_OVERHEAD_BYTES + key_bytes + payload_bytes:
        return None
    if zlib.crc32(memoryview(data)[position : position + size], RESIDUE) != RESIDUE:
        return None
    key_start = position + _HEAD.size
    payload_start = key_start + key_bytes
    source = JournalRange(journal, prev_end, start, end) if journal != bytes(16) else None
    return Frame(
        offset,
        seq,
        wall_us,
        bytes(data[key_start:payload_start]),
        bytes(data[payload_start : payload_start + payload_bytes]),
        source,
        position + size,
    )


def _next_frame(data: bytes, position: int) -> int | None:
    while True:
        position = data.find(FRAME_MAGIC, position)
        if position < 0:
            return None
        if _frame_at(data, position) is not None:
            return position
        position += 1
