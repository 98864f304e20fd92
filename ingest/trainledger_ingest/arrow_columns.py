"""Arrow columns as the tables want them: ids as 16 bytes, times as UTC microseconds, names as dictionaries."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .sources.source import SourceRecord

__all__ = ["US_MAX", "at_column", "clip_us", "constant", "id_column", "names_column", "place_columns"]

# DateTime64 ends with the year 2299; a clock that is beyond is wrong, and clipped rather than refused.
US_MAX = 10_413_791_999_999_999


def clip_us(at_us: int) -> int:
    """A time that a DateTime64 column can hold."""
    return min(max(at_us, 0), US_MAX)


def at_column(at_us: npt.NDArray[np.int64]) -> pa.Array:
    """Microseconds since 1970 as timestamps."""
    clipped = np.clip(at_us, 0, US_MAX)
    return pa.Array.from_buffers(pa.timestamp("us", tz="UTC"), len(clipped), [None, pa.py_buffer(clipped)])


def id_column(ids: Sequence[bytes], of_row: npt.NDArray[Any]) -> pa.Array:
    """`ids[of_row[i]]` for each row, as 16 bytes."""
    table = np.frombuffer(b"".join(ids), np.uint64).reshape(len(ids), 2)
    # Indexing does the same in nine times the time: 30 ns a point more.
    taken = np.take(table, of_row, axis=0)
    return pa.Array.from_buffers(pa.binary(16), len(of_row), [None, pa.py_buffer(taken)])


def constant(rows: int, value: Any, kind: pa.DataType) -> pa.Array:
    """The same value in each row; text as a dictionary of one."""
    if pa.types.is_string(kind):
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([value], kind))
    return pa.array(np.full(rows, value, kind.to_pandas_dtype()))


def names_column(names: Sequence[str]) -> pa.Array:
    """Text of few different values."""
    return pa.array(names, pa.string()).dictionary_encode()


def place_columns(
    first: SourceRecord, offsets: npt.NDArray[np.uint64], idx: npt.NDArray[np.uint32]
) -> dict[str, pa.Array]:
    """topic, partition, offset and idx of rows that all lie in the partition of `first`."""
    rows = len(offsets)
    return {
        "topic": constant(rows, first.topic, pa.string()),
        "partition": constant(rows, first.partition, pa.uint16()),
        "offset": pa.array(offsets),
        "idx": pa.array(idx),
    }
