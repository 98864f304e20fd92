"""Digest of a table in memory (pandas, polars, pyarrow): of its values, whatever library and version holds them.

    digest    "table-v1:" SHA-256( "trainledger table 1\\n", rows u64, columns u64, then each column's digest )
    column    SHA-256( bytes of its name u64, name, bytes of its type u64, type, digest of validity, of lengths, of
              data ), each of these SHA-256 over all rows without a gap
    validity  a byte a row, 1 where there is a value; nothing where every row has one
    lengths   i64 a row, of text, bytes and lists
    data      the values, little endian, 0 where there is none; text as UTF-8; true 1, false 0; of a list its items
              and of a struct its fields, as columns
    types     int8 ... uint64 float16 float32 float64 bool string binary date time duration timestamp[zone] decimal
              list struct null

What makes no difference: chunks, slices, library, text as `string`, `large_string`, view or category, unit of a time
(all are nanoseconds; microseconds where the years need it), NaN or null in a column of floats. What does: order of
rows and of columns, names, widths of numbers, the sign of zero. A default index of pandas is nothing, any other is
columns. The same with pandas 2.2 and 3.1, pyarrow 17 and 26, polars 1.9 and 2.1.
pyarrow is used where it is installed and loaded no sooner than here; there is no digest without it.
"""

import hashlib
import importlib
import struct
from typing import Any, NamedTuple

__all__ = ["TABLE_BYTES_MAX", "TableFacts", "describe_table", "is_table"]

# Some tenths of a second of the training's time: it is read as fast as SHA-256 goes.
TABLE_BYTES_MAX = 256 << 20
COLUMNS_MAX = 1000
_MAGIC = b"trainledger table 1\n"
_LIBRARIES = {
    "pandas": ("DataFrame", "Series"),
    "polars": ("DataFrame", "Series"),
    "pyarrow": ("Table", "RecordBatch"),
}


class TableFacts(NamedTuple):
    """`digest` None: `reason` says why there is none. `columns`: `name: type`, the first COLUMNS_MAX."""

    rows: int
    columns: list[str]
    size_bytes: int
    digest: str | None
    reason: str | None = None


def is_table(data: Any) -> bool:
    """Whether this is a table that can be read here; loads nothing."""
    kind = type(data)
    return kind.__name__ in _LIBRARIES.get(kind.__module__.partition(".")[0], ())


def describe_table(data: Any, *, bytes_max: int = TABLE_BYTES_MAX) -> TableFacts:
    """Rows, columns and digest; of a table of more than `bytes_max` no digest. Raises what its library raises."""
    size = _estimate(data)
    if size > bytes_max:
        reason = f"a table of {size >> 20} MiB is not read, above {bytes_max >> 20} MiB: use a file, or tell a version"
        return TableFacts(len(data), _names(data), size, None, reason)
    try:
        table = _to_arrow(data)
    except ModuleNotFoundError:
        return TableFacts(len(data), _names(data), size, None, "no digest of a table without pyarrow")
    columns = [_Column(name, column) for name, column in zip(table.column_names, table.columns, strict=True)]
    told = [f"{column.name}: {column.kind}" for column in columns[:COLUMNS_MAX]]
    unknown = next((column for column in columns if column.kind.startswith("?")), None)
    if unknown is not None:
        reason = f"no digest of a table with values of the type {unknown.kind[1:]}"
        return TableFacts(table.num_rows, told, table.nbytes, None, reason)
    digest = hashlib.sha256(_MAGIC + struct.pack("<QQ", table.num_rows, len(columns)))
    for column in columns:
        digest.update(column.digest())
    return TableFacts(table.num_rows, told, table.nbytes, f"table-v1:{digest.hexdigest()}")


def _estimate(data: Any) -> int:
    library = type(data).__module__.partition(".")[0]
    if library == "polars":
        return int(data.estimated_size())
    if library == "pyarrow":
        return int(data.nbytes)
    used = data.memory_usage(index=True, deep=False)
    return int(used if isinstance(used, int) else used.sum())


def _names(data: Any) -> list[str]:
    if type(data).__module__.startswith("pyarrow"):
        names = data.schema.names
    else:
        names = [data.name] if type(data).__name__ == "Series" else data.columns
    return [str(name) for name in list(names)[:COLUMNS_MAX]]


def _to_arrow(data: Any) -> Any:
    arrow = importlib.import_module("pyarrow")
    library = type(data).__module__.partition(".")[0]
    if library == "polars":
        data = (data.to_frame() if type(data).__name__ == "Series" else data).to_arrow()
    elif library == "pandas":
        frame = data.to_frame() if type(data).__name__ == "Series" else data
        data = arrow.Table.from_pandas(frame, nthreads=1)
    return arrow.Table.from_batches([data]) if isinstance(data, arrow.RecordBatch) else data


class _Column:
    """A column and what it holds in one of the types of the format; a kind that begins with `?` is none."""

    def __init__(self, name: str, values: Any) -> None:
        self.name = name
        self._arrow = importlib.import_module("pyarrow")
        self._compute = importlib.import_module("pyarrow.compute")
        self._values = self._plain(values)
        self.kind = self._kind(self._values.type)

    def digest(self) -> bytes:
        """See the module."""
        validity, lengths, data = (hashlib.sha256() for _ in range(3))
        for chunk in self._values.chunks if self._values.null_count else ():
            validity.update(_buffer_of(chunk.is_valid().cast(self._arrow.uint8()), 1))
        if self.kind in ("string", "binary", "decimal"):
            for chunk in self._values.chunks:
                self._add_text(chunk, lengths, data)
        elif self.kind == "list":
            counts = self._compute.fill_null(self._compute.list_value_length(self._values), 0)
            for chunk in counts.cast(self._arrow.int64()).chunks:
                lengths.update(_buffer_of(chunk, 8))
            data.update(_Column("", self._compute.list_flatten(self._values)).digest())
        elif self.kind == "struct":
            for index, field in enumerate(self._values.type):
                data.update(_Column(field.name, self._compute.struct_field(self._values, [index])).digest())
        elif self.kind != "null":
            for chunk in self._values.chunks:
                self._add_numbers(chunk, data)
        name, kind = self.name.encode("utf-8", "surrogatepass"), self.kind.encode()
        head = struct.pack("<Q", len(name)) + name + struct.pack("<Q", len(kind)) + kind
        return hashlib.sha256(head + validity.digest() + lengths.digest() + data.digest()).digest()

    def _plain(self, values: Any) -> Any:
        """Chunks without dictionaries, extensions, text of several layouts or NaN."""
        arrow, types = self._arrow, self._arrow.types
        if not isinstance(values, arrow.ChunkedArray):
            values = arrow.chunked_array([values])
        if isinstance(values.type, arrow.BaseExtensionType):
            values = arrow.chunked_array([chunk.storage for chunk in values.chunks], values.type.storage_type)
        if types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        kind = values.type
        if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
            return values.cast(arrow.large_string())
        if types.is_binary(kind) or types.is_fixed_size_binary(kind) or types.is_binary_view(kind):
            return values.cast(arrow.large_binary())
        if types.is_decimal(kind):
            return values.cast(arrow.large_string())
        if types.is_floating(kind):
            is_nan = self._compute.is_nan(values)
            has_nan = self._compute.any(is_nan).as_py()
            return self._compute.if_else(is_nan, arrow.scalar(None, kind), values) if has_nan else values
        if types.is_map(kind):
            return values.cast(arrow.list_(arrow.struct([("key", kind.key_type), ("value", kind.item_type)])))
        return self._in_one_unit(values)

    def _in_one_unit(self, values: Any) -> Any:
        arrow, types, kind = self._arrow, self._arrow.types, values.type
        if types.is_date(kind):
            return values.cast(arrow.date32())
        if types.is_time(kind):
            return values.cast(arrow.time64("ns"))
        wanted = None
        if types.is_timestamp(kind):
            wanted = [arrow.timestamp(unit, kind.tz) for unit in ("ns", "us")]
        elif types.is_duration(kind):
            wanted = [arrow.duration(unit) for unit in ("ns", "us")]
        if wanted is None or kind == wanted[0]:
            return values
        try:
            return values.cast(wanted[0])
        except arrow.ArrowInvalid:  # years that nanoseconds of 64 bits do not reach
            return values.cast(wanted[1])

    def _kind(self, kind: Any) -> str:
        types = self._arrow.types
        if types.is_timestamp(kind):
            unit = "" if kind.unit == "ns" else " us"
            return f"timestamp[{kind.tz or ''}]{unit}"
        if types.is_duration(kind):
            return "duration" if kind.unit == "ns" else "duration us"
        for name, is_it in (
            ("string", types.is_large_string),
            ("binary", types.is_large_binary),
            ("bool", types.is_boolean),
            ("date", types.is_date),
            ("time", types.is_time),
            ("list", lambda k: types.is_list(k) or types.is_large_list(k) or types.is_fixed_size_list(k)),
            ("struct", types.is_struct),
            ("null", types.is_null),
        ):
            if is_it(kind):
                return name
        if types.is_floating(kind):
            return f"float{kind.bit_width}"
        return str(kind) if types.is_integer(kind) else f"?{kind}"

    def _add_text(self, chunk: Any, lengths: Any, data: Any) -> None:
        arrow = self._arrow
        chunk = chunk.cast(arrow.large_binary())
        if chunk.null_count:
            chunk = self._compute.fill_null(chunk, b"")
        lengths.update(_buffer_of(self._compute.binary_length(chunk).cast(arrow.int64()), 8))
        if len(chunk):
            _, offsets, values = chunk.buffers()
            first, last = (
                struct.unpack_from("<q", offsets, 8 * (chunk.offset + row))[0] for row in (0, len(chunk))
            )
            if last > first:
                data.update(memoryview(values)[first:last])

    def _add_numbers(self, chunk: Any, data: Any) -> None:
        arrow = self._arrow
        if self.kind == "bool":
            chunk = chunk.cast(arrow.uint8())
        elif self.kind == "date":
            chunk = chunk.cast(arrow.int32())
        elif self.kind.startswith(("time", "duration")):
            chunk = chunk.cast(arrow.int64())
        if chunk.null_count:
            chunk = self._compute.fill_null(chunk, arrow.scalar(0, arrow.int8()).cast(chunk.type))
        data.update(_buffer_of(chunk, chunk.type.bit_width // 8))


def _buffer_of(chunk: Any, width: int) -> Any:
    """The bytes of the values of an array of fixed width."""
    buffer = chunk.buffers()[1]
    if buffer is None or not len(chunk):
        return b""
    return memoryview(buffer)[chunk.offset * width : (chunk.offset + len(chunk)) * width]
