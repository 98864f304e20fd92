"""The journal: what one process writes with one append per call.

A journal is a folder of segments `NNNNNN.tlj`, written by one process for one run. All numbers are
little-endian. A segment is a header, records, then zeros up to its preallocated size.

    header, 128 bytes                              record of values, 24 + 8 n bytes
    0    8  magic "TLJRNL1\\n"                     0   4  head = shape << 16 | size / 4
    8    2  version (1)                            4   8  step (i64)
    10   2  header bytes (128)                     12  8  wall time, ns (i64)
    12   4  segment number                         20 8n  values (f64), in the order of the shape's keys
    16  16  journal id                             ..  4  crc32(all before, RESIDUE)
    32  16  run id
    48  16  parent journal id, or zeros            control record: the same with shape 0
    64  16  boot id                                20  2  kind
    80   4  process id (in its own namespace)      22  2  reserved (0)
    84   4  user id                                24  4  body bytes
    88   8  process start, clock ticks since boot  28  .  body, zeros up to a multiple of 4
    96   8  wall time of creation, ns              ..  4  crc32(all before, RESIDUE)
    104  8  boot time of creation, ns
    112  8  inode of the pid namespace
    120  4  flags (1 = written by os.write)
    124  4  crc32(all before, RESIDUE)

The CRC is a trailer that starts from RESIDUE = 0x2144DF1C: any run of whole records then has
`crc32(run, RESIDUE) == RESIDUE`, so that a reader checks a megabyte with one call. Head 0 is the end of what
is written. The size in the head lets a reader step over kinds it does not know. Every segment begins with
the definitions of all shapes in use, so each can be read alone. Segment k is complete only when the header of
k+1 is valid.

Control kinds and bodies (JSON is UTF-8; a lone surrogate in a key arrives escaped):
    DEFINITION  {"shape": s, "start": i, "total": n, "keys": [...]}: keys i.. of shape s, which has n in all
    TEXT        {"key": k, "text": t}: one text point, at the record's step
    CLAIM       {"type": "run_started" ...}: a run event, with the fields of its Avro schema; ids as UUID text
    LOG         {"stream": "stdout", "first_line": n, "at_us": [...], "text": [...]}
    GAP         {"rows": n, "points": m, "reason": "..."}: what was not written, counted
    ROW         u32 JSON bytes, JSON array of keys, zeros to a multiple of 4, n x f64: a row without a shape
    KEY_FULL    {"short": k, "key": full}: a key longer than KEY_BYTES_MAX, under the short form that rows use
"""

import struct
import zlib
from typing import NamedTuple

from .errors import CorruptDataError

__all__ = [
    "CLAIM",
    "CONTROL_OVERHEAD_BYTES",
    "CRC_BYTES",
    "DEFINITION",
    "GAP",
    "HEADER_BYTES",
    "KEY_BYTES_MAX",
    "KEY_FULL",
    "LOG",
    "MAGIC",
    "RECORD_BYTES_MAX",
    "RESIDUE",
    "ROW",
    "ROW_OVERHEAD_BYTES",
    "SEGMENT_SUFFIX",
    "SHAPE_MAX",
    "TEXT",
    "VALUES_MAX",
    "WRITTEN_BY_WRITE",
    "SegmentHeader",
    "checks",
    "control_body",
    "pack_control",
    "pack_row",
    "seal",
    "segment_name",
    "unpack_row",
]

MAGIC = b"TLJRNL1\n"
VERSION = 1
HEADER_BYTES = 128
RESIDUE = 0x2144DF1C
CRC_BYTES = 4
ROW_OVERHEAD_BYTES = 24
CONTROL_OVERHEAD_BYTES = 32
RECORD_BYTES_MAX = 0xFFFF * 4
VALUES_MAX = (RECORD_BYTES_MAX - ROW_OVERHEAD_BYTES) // 8
SHAPE_MAX = 0xFFFF
KEY_BYTES_MAX = 1024
SEGMENT_SUFFIX = ".tlj"
WRITTEN_BY_WRITE = 1

DEFINITION = 1
TEXT = 2
CLAIM = 3
LOG = 4
GAP = 5
ROW = 6
KEY_FULL = 7

_HEADER = struct.Struct("<8sHHI16s16s16s16sIIQqqQI")
_CONTROL = struct.Struct("<IqqHHI")
_CRC = struct.Struct("<I")


class SegmentHeader(NamedTuple):
    """Who wrote a segment, when, in which process; see the drawing above."""

    segment: int
    journal_id: bytes
    run_id: bytes
    parent_journal: bytes
    boot_id: bytes
    pid: int
    uid: int
    start_ticks: int
    wall_ns: int
    boot_ns: int
    pid_namespace: int
    flags: int = 0

    def pack(self) -> bytes:
        """The 128 bytes of the header."""
        return seal(
            _HEADER.pack(
                MAGIC,
                VERSION,
                HEADER_BYTES,
                self.segment,
                self.journal_id,
                self.run_id,
                self.parent_journal,
                self.boot_id,
                self.pid,
                self.uid,
                self.start_ticks,
                self.wall_ns,
                self.boot_ns,
                self.pid_namespace,
                self.flags,
            )
        )

    @classmethod
    def parse(cls, data: bytes) -> "SegmentHeader":
        """Read a header from the first 128 bytes of `data`; raises CorruptDataError if it does not check."""
        if len(data) < HEADER_BYTES or not checks(data[:HEADER_BYTES]):
            raise CorruptDataError("not a journal segment: the header's checksum is wrong")
        fields = _HEADER.unpack_from(data)
        if fields[0] != MAGIC or fields[1] != VERSION or fields[2] != HEADER_BYTES:
            raise CorruptDataError(f"not a journal segment of version {VERSION}: magic {fields[0]!r}")
        return cls(*fields[3:])


def seal(data: bytes) -> bytes:
    """`data` with its CRC trailer."""
    return data + _CRC.pack(zlib.crc32(data, RESIDUE))


def checks(run: bytes | memoryview) -> bool:
    """Whether `run` is a run of whole, unharmed records (or one header)."""
    return zlib.crc32(run, RESIDUE) == RESIDUE


def segment_name(segment: int) -> str:
    """The file name of a segment."""
    return f"{segment:06d}{SEGMENT_SUFFIX}"


def pack_control(kind: int, body: bytes, *, step: int, wall_ns: int) -> bytes:
    """A whole control record; raises ValueError when it would pass RECORD_BYTES_MAX."""
    padding = -len(body) % 4
    size = CONTROL_OVERHEAD_BYTES + len(body) + padding
    if size > RECORD_BYTES_MAX:
        raise ValueError(f"control record of {size} bytes is over the limit of {RECORD_BYTES_MAX}")
    head = _CONTROL.pack(size >> 2, step, wall_ns, kind, 0, len(body))
    return seal(head + body + bytes(padding))


def control_body(record: bytes | memoryview) -> tuple[int, int, int, bytes]:
    """Kind, step, wall time in ns and body of a whole control record; raises CorruptDataError if it lies."""
    if len(record) < CONTROL_OVERHEAD_BYTES:
        raise CorruptDataError("control record shorter than its own frame")
    _, step, wall_ns, kind, _, body_bytes = _CONTROL.unpack_from(record)
    if body_bytes > len(record) - CONTROL_OVERHEAD_BYTES:
        raise CorruptDataError(f"control record claims {body_bytes} bytes and has fewer")
    return kind, step, wall_ns, bytes(record[28 : 28 + body_bytes])


def pack_row(keys_json: bytes, values: bytes) -> bytes:
    """The body of a ROW record: the keys, then their values as f64."""
    return _CRC.pack(len(keys_json)) + keys_json + bytes(-len(keys_json) % 4) + values


def unpack_row(body: bytes) -> tuple[bytes, bytes]:
    """The keys' JSON and the values' bytes of a ROW body; raises CorruptDataError if lengths do not fit."""
    if len(body) < 4:
        raise CorruptDataError("row record without a length")
    keys_bytes = _CRC.unpack_from(body)[0]
    values_start = 4 + keys_bytes + (-keys_bytes % 4)
    if values_start > len(body) or (len(body) - values_start) % 8:
        raise CorruptDataError("row record whose lengths do not fit")
    return body[4 : 4 + keys_bytes], body[values_start:]
