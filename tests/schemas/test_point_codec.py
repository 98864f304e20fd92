"""The numpy codec of metrics events, with fastavro as the oracle."""

import io
import itertools
import struct
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainledger_schemas.avro_codec import HEADER_BYTES, decode_event, encode_event, load_schemas
from trainledger_schemas.errors import DeadLetterError
from trainledger_schemas.point_codec import PointBlock, decode_metrics, encode_metrics

ENVELOPE: dict[str, Any] = {
    "producer_id": b"p" * 16,
    "seq": 7,
    "node_id": "node-1",
    "wall_us": 1,
    "boot_id": b"b" * 16,
    "boot_us": 2,
    "source": {"journal_id": b"j" * 16, "prev_end": 0, "start": 128, "end": 4096},
}
RUN, WRITER = b"r" * 16, b"w" * 16
LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def block_of(
    keys: tuple[str, ...], rows: list[tuple[int, int, int]], bits: list[int] | None = None
) -> PointBlock:
    table = np.array(rows, np.int64).reshape(len(rows), 3)
    raw = bits if bits is not None else [0] * (len(rows) * len(keys))
    values = np.array(raw, np.uint64).view(np.float64).reshape(len(rows), len(keys))
    return PointBlock(keys, table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy(), values)


@st.composite
def blocks(draw: st.DrawFn) -> PointBlock:
    keys = tuple(draw(st.lists(TEXT, max_size=4)))
    near = st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
    rows = draw(st.lists(st.one_of(st.tuples(LONGS, LONGS, LONGS), near), max_size=12))
    count = len(keys) * len(rows)
    bits = draw(st.lists(st.integers(0, (1 << 64) - 1), min_size=count, max_size=count))
    return block_of(keys, rows, bits)


def delta(column: Any) -> list[int]:
    wide = [int(value) for value in column]
    wrapped = [(b - a + (1 << 63)) % (1 << 64) - (1 << 63) for a, b in itertools.pairwise(wide)]
    return [0, *wrapped] if wide else []


def record_of(found: list[PointBlock], texts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "envelope": ENVELOPE,
        "run_id": RUN,
        "writer_id": WRITER,
        "texts": texts,
        "blocks": [
            {
                "keys": list(block.keys),
                "step0": int(block.step[0]) if len(block.step) else 0,
                "wall0": int(block.wall_us[0]) if len(block.step) else 0,
                "offset0": int(block.offset[0]) if len(block.step) else 0,
                "step_delta": delta(block.step),
                "wall_delta": delta(block.wall_us),
                "offset_delta": delta(block.offset),
                "value": block.values.ravel().tolist(),
            }
            for block in found
        ],
    }


def same(one: PointBlock, other: PointBlock) -> bool:
    return (
        one.keys == other.keys
        and np.array_equal(one.step, other.step)
        and np.array_equal(one.wall_us, other.wall_us)
        and np.array_equal(one.offset, other.offset)
        and one.values.shape == other.values.shape
        and one.values.tobytes() == other.values.tobytes()
    )


def bits_of(record: Any) -> Any:
    # NaN is not equal to itself: floats are compared by their bits.
    if isinstance(record, dict):
        return {name: bits_of(value) for name, value in record.items()}
    if isinstance(record, list):
        return [bits_of(value) for value in record]
    return struct.pack("<d", record) if isinstance(record, float) else record


@settings(max_examples=150, deadline=None)
@given(st.lists(blocks(), max_size=3), st.lists(st.tuples(TEXT, LONGS, TEXT), max_size=3))
def test_any_block_reads_the_same_by_fastavro_and_back(
    found: list[PointBlock], lines: list[tuple[str, int, str]]
) -> None:
    texts = [{"key": k, "step": n, "wall": n, "offset": n, "text": t} for k, n, t in lines]
    payload = encode_metrics(ENVELOPE, RUN, writer_id=WRITER, blocks=found, texts=texts)
    assert bits_of(decode_event(payload).record) == bits_of(record_of(found, texts))
    back = decode_metrics(payload)
    assert (back.envelope, back.run_id, back.writer_id) == (ENVELOPE, RUN, WRITER)
    assert [dict(text) for text in back.texts] == texts
    assert len(back.blocks) == len(found) and all(map(same, back.blocks, found))


@settings(max_examples=150, deadline=None)
@given(st.lists(blocks(), max_size=3))
def test_what_fastavro_writes_with_plain_counts_is_read_alike(found: list[PointBlock]) -> None:
    back = decode_metrics(encode_event("metrics", record_of(found, [])))
    assert len(back.blocks) == len(found) and all(map(same, back.blocks, found))


def test_an_array_in_several_avro_blocks_is_read() -> None:
    payload = encode_metrics(ENVELOPE, RUN, writer_id=WRITER, blocks=[], texts=[])
    head = payload[: len(payload) - 2]  # without the two empty arrays

    def longs(*parts: list[int]) -> bytes:
        out = io.BytesIO()
        for part in parts:
            fastavro.schemaless_writer(out, "long", len(part))
            for value in part:
                fastavro.schemaless_writer(out, "long", value)
        return out.getvalue() + b"\0"

    keys = b"\x02\x02a\x00"
    deltas = longs([0, 300], [-1])
    values = b"\x01\x10" + struct.pack("<d", 1.5) + b"\x04" + struct.pack("<2d", 2.5, 3.5) + b"\0"
    block = keys + b"\x02\x04\x06" + deltas + longs([0], [0], [0]) + deltas + values
    found = decode_metrics(head + b"\x02" + block + b"\0" + b"\0").blocks[0]
    assert found.step.tolist() == [1, 301, 300]
    assert found.wall_us.tolist() == [2, 2, 2]
    assert found.offset.tolist() == [3, 303, 302]
    assert found.values.ravel().tolist() == [1.5, 2.5, 3.5]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_bytes_that_were_changed_or_cut_raise_dead_letters_and_nothing_else(data: st.DataObject) -> None:
    rows = [(n * 300, n, n) for n in range(5)]
    payload = encode_metrics(
        ENVELOPE, RUN, writer_id=WRITER, blocks=[block_of(("loss", "acc"), rows)], texts=[]
    )
    raw = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(HEADER_BYTES, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(HEADER_BYTES, len(raw)))])
    try:
        decode_metrics(cut)
    except DeadLetterError:
        pass


@pytest.mark.parametrize(
    "blocks_bytes",
    [
        pytest.param(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", id="2**62 blocks"),
        pytest.param(b"\x01\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", id="block of 2**62 bytes"),
        pytest.param(b"\x02\xfe\xff\xff\xff\x0f", id="2**31 keys"),
        pytest.param(b"\x02\x02\xfe\xff\xff\xff\x0f", id="key of 2**31 bytes"),
        pytest.param(b"\x02\x00\x00\x00\x00\xfe\xff\xff\xff\x0f" + b"\0" * 40, id="2**31 steps"),
        pytest.param(b"\x02\x00\x00\x00\x00\x00\x00\x00\x02" + b"\0" * 20, id="values without rows"),
        pytest.param(b"\x80" * 30, id="long without an end"),
        pytest.param(b"\x02\x00\x00\x00\x00\x01\x02" + b"\0" * 20, id="block whose size is wrong"),
    ],
)
def test_hostile_sizes_are_dead_letters(blocks_bytes: bytes) -> None:
    payload = encode_metrics(ENVELOPE, RUN, writer_id=WRITER, blocks=[], texts=[])
    with pytest.raises(DeadLetterError):
        decode_metrics(payload[:-2] + blocks_bytes)


def test_bytes_behind_the_end_are_a_dead_letter() -> None:
    payload = encode_metrics(ENVELOPE, RUN, writer_id=WRITER, blocks=[], texts=[])
    with pytest.raises(DeadLetterError) as caught:
        decode_metrics(payload + b"\0")
    assert caught.value.reason == "trailing_bytes"


def test_another_event_is_refused_by_name() -> None:
    other = encode_event("gap", gap_record())
    with pytest.raises(DeadLetterError) as caught:
        decode_metrics(other)
    assert caught.value.reason == "wrong_type"


def test_an_older_schema_version_is_read_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    # A version whose texts did not exist yet, as the history folder would give it.
    schemas = load_schemas()
    old = fastavro.parse_schema({**schemas.current["metrics"], "doc": "older", "aliases": []})
    mark = b"\x01\x02\x03\x04\x05\x06\x07\x08"
    monkeypatch.setitem(schemas.writers, mark, ("metrics", old))
    found = block_of(("a",), [(1, 2, 3), (4, 5, 6)], [0x7FF8000000000001, 1])
    body = encode_metrics(ENVELOPE, RUN, writer_id=WRITER, blocks=[found], texts=[])[HEADER_BYTES:]
    back = decode_metrics(b"\xc3\x01" + mark + body)
    assert same(back.blocks[0], found)


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    found = block_of(("a",), [(1, 2, 3)])
    broken = PointBlock(("a", "b"), found.step, found.wall_us, found.offset, found.values)
    with pytest.raises(ValueError, match="do not fit"):
        encode_metrics(ENVELOPE, RUN, writer_id=WRITER, blocks=[broken], texts=[])


def gap_record() -> dict[str, Any]:
    return {
        "envelope": ENVELOPE,
        "at_us": 1,
        "start_us": 1,
        "end_us": 1,
        "what": "logs",
        "reason": "test",
        "count": 1,
    }
