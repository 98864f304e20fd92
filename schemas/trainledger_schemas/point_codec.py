"""The `metrics` event at speed: standard Avro, whose arrays of numbers are coded by numpy.

An Avro `array<double>` is little-endian doubles behind a count, and an `array<long>` of differences is a run
of zigzag varints; numpy writes and reads both, at about 45 ns a point each way where fastavro takes 500 to
730 (5,000 points an event). The bytes are plain Avro after `avro/metrics.avsc`: any Avro library reads what
`encode_metrics` writes, and `decode_metrics` reads what any Avro library writes. Arrays are written as one
block with a negative count and its size in bytes, so that a reader can jump over it.

    block:   count of rows n, keys m
    keys     m strings                      step, wall_us, offset   first value, then n differences (first 0)
    values   n x m doubles, row by row; NaN payloads and infinities survive

Differences wrap at 64 bits, so every int64 survives. Every count of a payload is bounded by the bytes that
are really there before anything is allocated; what does not fit raises DeadLetterError, nothing else.
Needs numpy and fastavro: the SDK never imports this module.
"""

import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, TypeVar, cast

import fastavro
import numpy as np
import numpy.typing as npt

from .avro_codec import HEADER_BYTES, decode_event, event_header, event_type, load_schemas
from .errors import DeadLetterError
from .events import Envelope, TextPoint

__all__ = ["DecodedMetrics", "PointBlock", "decode_metrics", "encode_metrics"]

Longs = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

_Number = TypeVar("_Number", np.int64, np.float64)
_ID_BYTES = 16
_VARINT_BYTES_MAX = 10
_KNOWN_KEYS_MAX = 32
# The end of an array, and a whole array<long> of the one number 0.
_END = b"\0"
_ONE_ZERO = b"\x01\x02\0" + _END


@dataclass(frozen=True, slots=True, eq=False)
class PointBlock:
    """n rows of one shape: m keys, and for each row its step, wall time and journal position.

    `step`, `wall_us`, `offset`: int64[n]; `values`: float64[n, m].
    """

    keys: tuple[str, ...]
    step: Longs
    wall_us: Longs
    offset: Longs
    values: Doubles

    @property
    def points(self) -> int:
        """How many values the block holds."""
        return self.values.size

    def rows(self, selection: Any) -> "PointBlock":
        """The rows that a numpy index (slice, mask or positions) selects."""
        return PointBlock(
            self.keys,
            self.step[selection],
            self.wall_us[selection],
            self.offset[selection],
            self.values[selection],
        )


@dataclass(frozen=True, slots=True, eq=False)
class DecodedMetrics:
    """A `metrics` event with its numbers as arrays."""

    envelope: Envelope
    run_id: bytes
    writer_id: bytes
    blocks: list[PointBlock]
    texts: list[TextPoint]


def encode_metrics(
    envelope: Mapping[str, Any],
    run_id: bytes,
    *,
    writer_id: bytes,
    blocks: Sequence[PointBlock],
    texts: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    """A whole `metrics` event, Avro single-object header included.

    Raises ValueError when ids, arrays or texts do not fit the schema.
    """
    if len(run_id) != _ID_BYTES or len(writer_id) != _ID_BYTES:
        raise ValueError("run id and writer id of a metrics event have 16 bytes")
    buffer = io.BytesIO()
    buffer.write(event_header("metrics"))
    try:
        fastavro.schemaless_writer(buffer, _part("envelope"), envelope)
        buffer.write(run_id + writer_id)
        _write_array(buffer, len(blocks), b"".join(map(_encode_block, blocks)))
        if texts:
            fastavro.schemaless_writer(buffer, _part("texts"), texts)
        else:
            buffer.write(_END)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"metrics event does not fit its schema: {error}") from error
    return buffer.getvalue()


def decode_metrics(payload: bytes) -> DecodedMetrics:
    """Read a `metrics` event of any released version; raises DeadLetterError for anything else."""
    if payload[:HEADER_BYTES] != event_header("metrics"):
        return _decode_other_version(payload)
    try:
        return _Body(payload).read_event()
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise DeadLetterError(f"metrics event cannot be read: {error!r}", reason="unreadable") from error


@cache
def _part(field: str) -> Any:
    # One field of the event, as a schema of its own; fastavro has expanded the named types where first used.
    for candidate in load_schemas().current["metrics"]["fields"]:
        if candidate["name"] == field:
            # Parsed here: fastavro would do it again at each event.
            return fastavro.parse_schema({**candidate["type"]})
    raise KeyError(field)


def _encode_block(block: PointBlock) -> bytes:
    n, m = len(block.step), len(block.keys)
    if block.values.shape != (n, m) or len(block.wall_us) != n or len(block.offset) != n:
        raise ValueError(f"arrays of a block of {n} rows and {m} keys do not fit together")
    columns = [np.ascontiguousarray(column, np.int64) for column in (block.step, block.wall_us, block.offset)]
    buffer = io.BytesIO()
    buffer.write((_known_keys if m <= _KNOWN_KEYS_MAX else _encode_keys)(block.keys))
    for column in columns:
        buffer.write(_varint(int(column[0]) if n else 0))
    for column in columns:
        if n == 1:
            buffer.write(_ONE_ZERO)
        else:
            _write_array(buffer, n, _encode_differences(column))
    _write_array(buffer, n * m, np.ascontiguousarray(block.values, "<f8").tobytes())
    return buffer.getvalue()


def _encode_keys(keys: tuple[str, ...]) -> bytes:
    buffer = io.BytesIO()
    names = [key.encode("utf-8") for key in keys]
    _write_array(buffer, len(keys), b"".join(_varint(len(name)) + name for name in names))
    return buffer.getvalue()


# Kept: the same keys come with each event of a run. At most 4 MB, with keys of 1 KiB.
_known_keys = lru_cache(maxsize=128)(_encode_keys)


def _write_array(buffer: io.BytesIO, count: int, items: bytes) -> None:
    if count:
        buffer.write(_varint(-count) + _varint(len(items)) + items)
    buffer.write(_END)


def _varint(value: int) -> bytes:
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _encode_differences(column: Longs) -> bytes:
    delta = np.empty_like(column)
    delta[:1] = 0
    np.subtract(column[1:], column[:-1], out=delta[1:])  # numpy wraps: exact modulo 2**64
    zigzag = ((delta << 1) ^ (delta >> 63)).view(np.uint64)
    top = int(zigzag.max(initial=0))
    if top < 0x80:
        return zigzag.astype(np.uint8).tobytes()
    width = (top.bit_length() + 6) // 7
    # One row of `width` bytes for each number; then the bytes that are in use, in order.
    shifts = np.arange(0, 7 * width, 7, dtype=np.uint64)
    matrix = (zigzag[:, None] >> shifts).astype(np.uint8) | np.uint8(0x80)
    limits = np.left_shift(np.uint64(1), shifts[1:])
    length = (zigzag[:, None] >= limits).sum(axis=1)
    matrix[np.arange(len(matrix)), length] &= 0x7F
    used: npt.NDArray[np.uint8] = matrix[np.arange(width) <= length[:, None]]
    return used.tobytes()


def _decode_varints(data: npt.NDArray[np.uint8], count: int) -> tuple[Longs, int]:
    """`count` zigzag varints from the begin of `data`, and how many bytes they took."""
    ends = np.flatnonzero(data < 0x80)[:count]
    if len(ends) < count:
        raise _dead("array of longs is cut off")
    taken = int(ends[-1]) + 1
    if taken == count:
        zigzag = data[:count].astype(np.uint64)
    else:
        starts = np.empty_like(ends)
        starts[0] = 0
        starts[1:] = ends[:-1] + 1
        zigzag = _gather_varints(data[:taken], starts, ends - starts)
    return ((zigzag >> np.uint64(1)).view(np.int64) ^ -(zigzag & np.uint64(1)).view(np.int64)), taken


def _gather_varints(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.intp], length: npt.NDArray[np.intp]
) -> npt.NDArray[np.uint64]:
    width = int(length.max())
    if width >= _VARINT_BYTES_MAX:
        raise _dead("a long of more than 64 bits")
    zigzag = (data[starts] & 0x7F).astype(np.uint64)
    for byte in range(1, width + 1):
        rows = np.flatnonzero(length >= byte)
        part = data[starts[rows] + byte]
        if byte == _VARINT_BYTES_MAX - 1 and bool((part > 1).any()):
            raise _dead("a long of more than 64 bits")
        zigzag[rows] |= (part & 0x7F).astype(np.uint64) << np.uint64(7 * byte)
    return zigzag


class _Body:
    """The bytes of one event and where to read on."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.array = np.frombuffer(payload, np.uint8)
        self.position = HEADER_BYTES

    def read_event(self) -> DecodedMetrics:
        envelope = cast(Envelope, self._read_by_fastavro("envelope"))
        run_id, writer_id = self._take(_ID_BYTES), self._take(_ID_BYTES)
        blocks = [self._read_block() for count, _ in self._array_blocks() for _ in range(count)]
        texts = cast(list[TextPoint], self._read_by_fastavro("texts"))
        if self.position != len(self.payload):
            raise DeadLetterError(
                f"metrics event has {len(self.payload) - self.position} bytes behind its end",
                reason="trailing_bytes",
            )
        return DecodedMetrics(envelope, run_id, writer_id, blocks, texts)

    def _read_by_fastavro(self, field: str) -> Any:
        stream = io.BytesIO(self.payload)
        stream.seek(self.position)
        try:
            value = fastavro.schemaless_reader(stream, _part(field), None)
        except Exception as error:  # fastavro raises many kinds for hostile bytes, MemoryError among them
            raise _dead(f"{field}: {error!r}") from error
        self.position = stream.tell()
        return value

    def _read_block(self) -> PointBlock:
        keys = tuple(self._read_string() for count, _ in self._array_blocks() for _ in range(count))
        first = [self._read_long() for _ in range(3)]
        step, wall_us, offset = (start + np.cumsum(self._read_longs()) for start in map(np.int64, first))
        values = self._read_doubles()
        n = len(step)
        if len(wall_us) != n or len(offset) != n or len(values) != n * len(keys):
            raise DeadLetterError(
                f"block of {n} rows and {len(keys)} keys has {len(values)} values", reason="bad_shape"
            )
        return PointBlock(keys, step, wall_us, offset, values.reshape(n, len(keys)))

    def _array_blocks(self) -> Iterator[tuple[int, int]]:
        """Each Avro block of an array: how many items, and where it must end (-1 if it does not say)."""
        while count := self._read_long():
            end = -1
            if count < 0:
                count = -count
                size = self._read_long()
                if not 0 <= size <= len(self.payload) - self.position:
                    raise _dead(f"array block of {size} bytes")
                end = self.position + size
            # Each item takes a byte at least; this bounds every loop and allocation below.
            if count > len(self.payload) - self.position:
                raise _dead(f"array of {count} items")
            yield count, end
            if end not in (-1, self.position):
                raise _dead("array block whose size is wrong")

    def _read_longs(self) -> Longs:
        parts: list[Longs] = []
        for count, end in self._array_blocks():
            # Without a size the longest possible encoding bounds the look-ahead.
            stop = end if end >= 0 else self.position + count * _VARINT_BYTES_MAX
            part, taken = _decode_varints(self.array[self.position : stop], count)
            self.position += taken
            parts.append(part)
        return _join(parts, np.int64)

    def _read_doubles(self) -> Doubles:
        parts: list[Doubles] = []
        for count, _ in self._array_blocks():
            raw = self._take(8 * count)
            parts.append(np.frombuffer(raw, "<f8"))
        return _join(parts, np.float64)

    def _read_string(self) -> str:
        size = self._read_long()
        if size < 0:
            raise _dead(f"string of {size} bytes")
        return self._take(size).decode("utf-8")

    def _read_long(self) -> int:
        value = shift = 0
        while True:
            byte = self.payload[self.position]
            self.position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift >= 7 * _VARINT_BYTES_MAX:
                raise _dead("a long of more than 64 bits")
        if value >> 64:
            raise _dead("a long of more than 64 bits")
        return (value >> 1) ^ -(value & 1)

    def _take(self, size: int) -> bytes:
        if size > len(self.payload) - self.position:
            raise _dead(f"{size} bytes wanted behind byte {self.position} of {len(self.payload)}")
        part = self.payload[self.position : self.position + size]
        self.position += size
        return part


def _join(parts: list[npt.NDArray[_Number]], kind: type[_Number]) -> npt.NDArray[_Number]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, kind)


def _dead(what: str) -> DeadLetterError:
    return DeadLetterError(f"metrics event cannot be read: {what}", reason="unreadable")


def _decode_other_version(payload: bytes) -> DecodedMetrics:
    name = event_type(payload)
    if name != "metrics":
        raise DeadLetterError(f"a {name} event where a metrics event was expected", reason="wrong_type")
    record = decode_event(payload).record
    blocks = [_block_of_record(block) for block in record["blocks"]]
    return DecodedMetrics(
        record["envelope"], record["run_id"], record["writer_id"], blocks, list(record["texts"])
    )


def _block_of_record(block: Mapping[str, Any]) -> PointBlock:
    keys = tuple(block["keys"])
    step, wall_us, offset = (
        np.int64(block[f"{name}0"]) + np.cumsum(np.array(block[f"{name}_delta"], np.int64))
        for name in ("step", "wall", "offset")
    )
    values = np.array(block["value"], np.float64)
    n = len(step)
    if len(wall_us) != n or len(offset) != n or len(values) != n * len(keys):
        raise DeadLetterError(
            f"block of {n} rows and {len(keys)} keys has {len(values)} values", reason="bad_shape"
        )
    return PointBlock(keys, step, wall_us, offset, values.reshape(n, len(keys)))
