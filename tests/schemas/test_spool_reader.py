"""Reading spool segments by offset: plain, compressed, damaged, rewritten and growing."""

import gzip
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainledger_schemas.errors import FatalSourceError
from trainledger_schemas.spool import Frame, encode_frame, segment_file_name
from trainledger_schemas.spool_reader import SpoolReader, list_segments

TOPIC = "trainledger.logs"
ALL = 1 << 60


def frame(offset: int, payload: bytes = b"payload") -> bytes:
    return encode_frame(Frame(offset, offset, 1, b"key", payload, None))


def write(folder: Path, base: int, data: bytes, *, compressed: bool = False) -> Path:
    (folder / TOPIC).mkdir(exist_ok=True)
    path = folder / TOPIC / (segment_file_name(base) + (".gz" if compressed else ""))
    path.write_bytes(gzip.compress(data) if compressed else data)
    return path


def offsets(frames: list[Frame]) -> list[int]:
    return [one.offset for one in frames]


def test_reads_across_plain_and_compressed_segments(tmp_path: Path) -> None:
    write(tmp_path, 0, frame(0) + frame(1), compressed=True)
    write(tmp_path, 2, frame(2) + frame(3))
    write(tmp_path, 4, frame(4))
    reader = SpoolReader(tmp_path, TOPIC)
    assert reader.begin() == 0
    assert offsets(reader.read(0, end=ALL, bytes_max=1 << 20)) == [0, 1, 2, 3, 4]
    assert offsets(reader.read(1, end=4, bytes_max=1 << 20)) == [1, 2, 3]
    assert reader.read(5, end=ALL, bytes_max=1) == []


def test_serves_at_least_one_frame_and_then_at_most_the_asked_bytes(tmp_path: Path) -> None:
    write(tmp_path, 0, b"".join(frame(n, b"x" * 100) for n in range(10)))
    reader = SpoolReader(tmp_path, TOPIC)
    assert offsets(reader.read(0, end=ALL, bytes_max=1)) == [0]
    assert offsets(reader.read(1, end=ALL, bytes_max=350)) == [1, 2, 3]
    assert offsets(reader.read(0, end=ALL, bytes_max=350)) == [0, 1, 2]


def test_a_frame_larger_than_the_window_is_read_whole(tmp_path: Path) -> None:
    write(tmp_path, 0, frame(0, b"x" * 3_000_000) + frame(1))
    reader = SpoolReader(tmp_path, TOPIC)
    assert offsets(reader.read(0, end=ALL, bytes_max=10)) == [0]
    assert offsets(reader.read(1, end=ALL, bytes_max=10)) == [1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 120_000), min_size=4, max_size=16), min_size=2, max_size=4),
    st.lists(st.tuples(st.integers(1, 700_000), st.integers(1, 4)), min_size=3),
    st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_any_reads_of_any_size_serve_every_frame_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    segments: list[list[int]],
    reads: list[tuple[int, int]],
    compressed: list[bool],
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    count = 0
    for number, sizes in enumerate(segments):
        data = b"".join(frame(count + n, bytes(size)) for n, size in enumerate(sizes))
        write(folder, count, data, compressed=compressed[number])
        count += len(sizes)
    reader = SpoolReader(folder, TOPIC)
    at = 0
    for bytes_max, used in cycle(reads):
        if at == count:
            break
        found = offsets(reader.read(at, end=ALL, bytes_max=bytes_max))
        # A caller may use fewer than it got, as one does that has room for so many records.
        assert found == list(range(at, at + len(found))) and found
        at += min(used, len(found))
    assert reader.read(count, end=ALL, bytes_max=1) == []


def test_an_offset_below_the_begin_is_an_error_that_names_both(tmp_path: Path) -> None:
    write(tmp_path, 10, frame(10))
    with pytest.raises(FatalSourceError, match="begins at offset 10, and 3 was asked"):
        SpoolReader(tmp_path, TOPIC).read(3, end=ALL, bytes_max=10)


def test_a_topic_without_records_reads_empty(tmp_path: Path) -> None:
    reader = SpoolReader(tmp_path, TOPIC)
    assert reader.begin() == 0
    assert reader.read(0, end=ALL, bytes_max=10) == []


def test_a_corrupt_stretch_is_stepped_over_and_counted_once(tmp_path: Path) -> None:
    bad = bytearray(frame(1, b"x" * 400_000))
    bad[200] ^= 1
    write(tmp_path, 0, frame(0) + bytes(bad) + frame(2))
    reader = SpoolReader(tmp_path, TOPIC)
    for _ in range(2):
        frames = reader.read(0, end=ALL, bytes_max=10)
        frames += reader.read(1, end=ALL, bytes_max=10)
        assert offsets(frames) == [0, 2]
    assert reader.skipped == 1


def test_a_torn_tail_of_the_newest_segment_is_left_alone_and_read_when_whole(tmp_path: Path) -> None:
    whole = frame(0) + frame(1)
    path = write(tmp_path, 0, whole[:-3])
    reader = SpoolReader(tmp_path, TOPIC)
    assert offsets(reader.read(0, end=ALL, bytes_max=1 << 20)) == [0]
    assert reader.skipped == 0
    path.write_bytes(whole)
    assert offsets(reader.read(1, end=ALL, bytes_max=1 << 20)) == [1]


def test_a_cut_off_older_segment_is_counted_and_the_next_is_read(tmp_path: Path) -> None:
    write(tmp_path, 0, (frame(0) + frame(1))[:-3])
    write(tmp_path, 2, frame(2))
    reader = SpoolReader(tmp_path, TOPIC)
    assert offsets(reader.read(0, end=ALL, bytes_max=1 << 20)) == [0, 2]
    assert reader.skipped == 1


def test_a_damaged_compressed_segment_gives_what_can_be_inflated(tmp_path: Path) -> None:
    path = write(tmp_path, 0, b"".join(frame(n, b"%d" % n * 5000) for n in range(50)), compressed=True)
    path.write_bytes(path.read_bytes()[:-40])
    write(tmp_path, 50, frame(50))
    reader = SpoolReader(tmp_path, TOPIC)
    found = offsets(reader.read(0, end=ALL, bytes_max=1 << 30))
    assert found[0] == 0 and found[-1] == 50 and len(found) < 51
    assert reader.skipped <= 1


def test_compression_and_thinning_between_two_reads_change_nothing_for_the_reader(tmp_path: Path) -> None:
    data = b"".join(frame(n) for n in range(4))
    path = write(tmp_path, 0, data)
    write(tmp_path, 4, frame(4))
    reader = SpoolReader(tmp_path, TOPIC)
    assert offsets(reader.read(0, end=2, bytes_max=1 << 20)) == [0, 1]
    new = path.with_name("new")
    new.write_bytes(frame(3))
    new.rename(path)
    assert offsets(reader.read(2, end=ALL, bytes_max=1)) == [3]
    write(tmp_path, 0, frame(3), compressed=True)
    path.unlink()
    assert offsets(reader.read(2, end=ALL, bytes_max=1 << 20)) == [3, 4]


def test_strangers_among_the_segments_are_not_segments(tmp_path: Path) -> None:
    write(tmp_path, 0, frame(0))
    for name in ("x.seg", "00000000000000000000.ranges", "set_aside", "00000000000000000001.seg.new"):
        (tmp_path / TOPIC / name).write_bytes(b"x")
    assert [segment.base for segment in list_segments(tmp_path / TOPIC)] == [0]
