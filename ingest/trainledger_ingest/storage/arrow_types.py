"""Gives Arrow results back the types that the engine's Arrow output loses.

ClickHouse writes DateTime as uint32, enumerations as int8 or int16, 128- and 256-bit integers and IP
addresses as bytes. `restore_types` turns them into UTC timestamps, strings, Decimals of scale 0 and strings. It works
on plain columns and on arrays of them; inside tuples and maps the engine's own form stays.
"""

import ipaddress
import re
from collections.abc import Sequence

import pyarrow as pa

__all__ = ["WIDE_INTEGER", "needs_types", "restore_types"]

WIDE_INTEGER = pa.decimal256(76, 0)
"""How integers of 128 and 256 bits are carried; no column of the product has this type."""

_WRAPPER = re.compile(r"^(?:Nullable|LowCardinality)\((.*)\)$", re.DOTALL)
_ARRAY = re.compile(r"^Array\((.*)\)$", re.DOTALL)
_DATETIME = re.compile(r"^DateTime(?:\('([^']*)'\))?$")
_ENUM_PAIR = re.compile(r"'((?:[^'\\]|\\.)*)'\s*=\s*(-?\d+)")
_WIDE_INTEGER = re.compile(r"^(U?)Int(128|256)$")


def needs_types(schema: pa.Schema) -> bool:
    """True when some column may have lost its type, so that the engine must be asked for the types."""
    return any(_is_ambiguous(field.type) for field in schema)


def restore_types(table: pa.Table, column_types: Sequence[str]) -> pa.Table:
    """`table` with each column in the form that its engine type (`column_types[i]`) calls for."""
    columns = [
        _restore_chunked(column, kind) for column, kind in zip(table.columns, column_types, strict=True)
    ]
    return pa.table(columns, names=table.column_names)


def _is_ambiguous(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _is_ambiguous(kind.value_type)
    return bool(
        pa.types.is_uint32(kind)
        or pa.types.is_int8(kind)
        or pa.types.is_int16(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _restore_chunked(column: pa.ChunkedArray, kind: str) -> pa.ChunkedArray:
    if not _is_ambiguous(column.type):
        return column
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        combined = pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], column.type)
    return pa.chunked_array([_restore(combined, kind)])


def _restore(values: pa.Array, kind: str) -> pa.Array:
    while wrapped := _WRAPPER.match(kind):
        kind = wrapped.group(1)
    if (array := _ARRAY.match(kind)) and pa.types.is_list(values.type):
        inner = _restore(values.flatten(), array.group(1))
        lengths = pa.array([None if item is None else len(item) for item in values.to_pylist()], pa.int64())
        return _relist(inner, lengths)
    if moment := _DATETIME.match(kind):
        return values.cast(pa.int64()).cast(pa.timestamp("s", tz=moment.group(1) or "UTC"))
    if kind.startswith("Enum"):
        names = {int(number): _unescape(text) for text, number in _ENUM_PAIR.findall(kind)}
        return pa.array([names.get(item) for item in values.to_pylist()], pa.string())
    if wide := _WIDE_INTEGER.match(kind):
        return _wide_integers(values, signed=not wide.group(1))
    if kind == "IPv4":
        return pa.array([_address4(item) for item in values.to_pylist()], pa.string())
    if kind == "IPv6":
        return pa.array([_address6(item) for item in values.to_pylist()], pa.string())
    return values


def _relist(inner: pa.Array, lengths: pa.Array) -> pa.Array:
    offsets: list[int | None] = []
    position = 0
    for length in lengths.to_pylist():
        offsets.append(None if length is None else position)
        position += length or 0
    offsets.append(position)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), inner)


def _wide_integers(values: pa.Array, *, signed: bool) -> pa.Array:
    numbers = [
        None if item is None else int.from_bytes(item, "little", signed=signed) for item in values.to_pylist()
    ]
    if all(number is None or abs(number) < 10**76 for number in numbers):
        return pa.array(numbers, WIDE_INTEGER)
    # The largest 256-bit integers have 78 digits, more than any Arrow number holds.
    return pa.array([None if number is None else str(number) for number in numbers], pa.string())


def _address4(item: int | None) -> str | None:
    return None if item is None else str(ipaddress.IPv4Address(item))


def _address6(item: bytes | None) -> str | None:
    return None if item is None else str(ipaddress.IPv6Address(item))


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
