"""Reading journals: runs, mixtures, live tails, torn and corrupt records, holes, hostile bytes."""

import itertools
import os
import random
import struct
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.journals import JournalFile
from trainledger.node.journal_folder import JournalFolder, RefusedError
from trainledger.node.journal_parse import ShapeTable, parse_records, walk_records
from trainledger.node.journal_reader import CHUNK_BYTES, Chunk, JournalReader
from trainledger_schemas.journal import CLAIM, DEFINITION, HEADER_BYTES, TEXT, pack_control, seal
from trainledger_schemas.positions import journal_position, split_position


def read_all(
    journal: JournalFile, reader: JournalReader | None = None, *, is_dead: bool = True
) -> list[Chunk]:
    reader = reader or JournalReader(journal.journal_id)
    with JournalFolder(journal.folder.parents[1], os.geteuid(), journal.journal_id) as folder:
        chunks = []
        while (chunk := reader.read(folder, is_dead=is_dead)) is not None:
            chunks.append(chunk)
        return chunks


def points(chunks: list[Chunk]) -> Counter[tuple[int, str, int, float]]:
    found: Counter[tuple[int, str, int, float]] = Counter()
    for chunk in chunks:
        for block in chunk.blocks:
            for row, offset in enumerate(block.offset.tolist()):
                for column, key in enumerate(block.keys):
                    found[offset, key, int(block.step[row]), float(block.values[row, column])] += 1
    return found


def steps(chunks: list[Chunk]) -> list[int]:
    rows = [(o, s) for c in chunks for b in c.blocks for o, s in zip(b.offset, b.step, strict=True)]
    return [int(step) for _, step in sorted(rows)]


def reasons(chunks: list[Chunk]) -> list[str]:
    return [lost.reason for chunk in chunks for lost in chunk.lost]


def test_rows_of_any_mixture_come_out_with_their_positions(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    chance = random.Random(7)
    shapes: list[tuple[str, ...]] = [("loss",), ("loss", "acc"), ("eval/acc", "eval/f1", "eval/loss")]
    expected: Counter[tuple[int, str, int, float]] = Counter()
    step = 0
    while step < 3000:
        keys = chance.choice(shapes)
        for _ in range(chance.choice([1, 1, 2, 70, 200])):
            step += 1
            values = {key: chance.random() for key in keys}
            record = journal.row_record(values, step)
            position = journal.append(record)
            expected.update((position, key, step, value) for key, value in values.items())
    assert points(read_all(journal)) == expected


def test_wall_times_are_microseconds_and_special_values_keep_their_bits(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    nan = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_1234))[0]
    journal.row({"a": nan, "b": float("-inf")}, step=-(1 << 63))
    [chunk] = read_all(journal)
    [block] = chunk.blocks
    assert block.values.view(np.uint64)[0, 0] == 0x7FF8_0000_0000_1234
    assert block.step.tolist() == [-(1 << 63)]
    assert block.wall_us.tolist() == [journal.wall_ns // 1000]


def test_texts_claims_and_rows_without_a_shape_are_told_apart(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    claim = journal.claim("run_exited", status="finished")
    text = journal.text("note", "caf\u00e9 \ud800", step=4)
    loose = journal.loose_row({"rare": 1.5, "other": 2.5}, step=9)
    journal.control(7, {"short": "k#1", "key": "k" * 2000})
    journal.control(200, b"from a later version")
    [chunk] = read_all(journal)
    assert [(c.kind, c.start) for c in chunk.controls] == [(CLAIM, claim)]
    assert chunk.texts[0]["text"] == "caf\u00e9 \\ud800" and chunk.texts[0]["offset"] == text
    assert points([chunk]) == Counter({(loose, "rare", 9, 1.5): 1, (loose, "other", 9, 2.5): 1})
    assert not chunk.lost


def test_a_live_journal_is_followed_record_by_record(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path, segment_bytes=1 << 16)
    reader = JournalReader(journal.journal_id)
    assert read_all(journal, reader, is_dead=False) == []
    seen: list[int] = []
    for step in range(60):
        if step % 25 == 24:
            journal.roll()
        journal.row({"loss": 1.0}, step)
        seen += steps(read_all(journal, reader, is_dead=False))
    assert seen == list(range(60))
    assert not reader.is_done


def test_rows_that_come_by_the_second_are_one_chunk_each_time_however_many_they_are(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path, segment_bytes=4 << 20)
    reader = JournalReader(journal.journal_id)
    step = 0
    for count in (1, 1, 50, 90, 150, 250, 450, 1, 150, 1):
        journal.rows(count, first_step=step)
        chunks = read_all(journal, reader, is_dead=False)
        assert steps(chunks) == list(range(step, step + count))
        # Three times what came before passes the first look: then the rest is a chunk of its own.
        assert len(chunks) == 1 or count == 150
        step += count
    journal.row(dict.fromkeys(map(str, range(1000)), 1.0), step)  # one record that is longer than a look
    assert steps(read_all(journal, reader, is_dead=False)) == [step]


def test_a_reader_knows_when_a_look_for_more_would_find_nothing(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    reader = JournalReader(journal.journal_id)
    with JournalFolder(tmp_path, os.geteuid(), journal.journal_id) as folder:
        journal.rows(3)
        assert reader.read(folder, is_dead=False) is not None and reader.has_read_all(folder)
        journal.append(row_record(1, 3, 2)[:-1])  # the last byte is still missing
        journal.next_byte += 1
        assert reader.read(folder, is_dead=False) is None and not reader.has_read_all(folder)
        with journal.path.open("r+b") as file:
            file.seek(journal.next_byte - 1)
            file.write(row_record(1, 3, 2)[-1:])
        journal.roll()
        journal.row({"loss": 1.0, "acc": 2.0}, 4)
        assert steps([chunk for chunk in [reader.read(folder, is_dead=False)] if chunk]) == [3]
        assert not reader.has_read_all(folder)  # there is a next segment
        assert steps([chunk for chunk in [reader.read(folder, is_dead=False)] if chunk]) == [4]
        assert reader.has_read_all(folder)


def test_reading_goes_on_in_the_middle_of_a_segment_with_its_definitions(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.rows(10)
    reader = JournalReader(journal.journal_id)
    read_all(journal, reader, is_dead=False)
    journal.rows(5, first_step=10)
    again = JournalReader(journal.journal_id, reader.position)
    assert steps(read_all(journal, again)) == list(range(10, 15))


def test_segments_that_were_removed_in_another_life_are_no_loss(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.row({"loss": 1.0}, 1)
    first = journal.path
    journal.roll()
    journal.row({"loss": 1.0}, 2)
    first.unlink()
    chunks = read_all(journal)
    assert steps(chunks) == [2] and not reasons(chunks)


def test_a_missing_middle_segment_is_counted_and_reading_goes_on(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    for step in range(3):
        journal.row({"loss": 1.0}, step)
        journal.roll()
    (journal.folder / "000001.tlj").unlink()
    chunks = read_all(journal)
    assert steps(chunks) == [0, 2]
    assert reasons(chunks) == ["segments 1 to 1 are missing or have no header that checks"]


def test_a_record_in_flight_is_waited_for_and_a_torn_tail_of_the_dead_is_dropped(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.row({"loss": 1.0}, 1)
    record = journal.row_record({"loss": 2.0}, 2)
    journal.append(record[:20])
    reader = JournalReader(journal.journal_id)
    assert steps(read_all(journal, reader, is_dead=False)) == [1]
    assert read_all(journal, reader, is_dead=False) == []
    waiting = reader.position
    assert read_all(journal, reader, is_dead=True) == []
    assert (reader.torn, reader.is_done) == (1, True)
    journal.next_byte -= 20
    journal.append(record)
    assert steps(read_all(journal, JournalReader(journal.journal_id, waiting))) == [2]


def test_a_bad_record_with_good_ones_behind_is_stepped_over_and_counted(tmp_path: Path) -> None:
    for is_dead in (False, True):
        journal = JournalFile(tmp_path / str(is_dead))
        journal.row({"loss": 1.0}, 1)
        bad = journal.row({"loss": 2.0}, 2)
        for step in range(3, 100):
            journal.row({"loss": 3.0}, step)
        flip(journal.path, split_position(bad)[1] + 14)
        chunks = read_all(journal, is_dead=is_dead)
        assert steps(chunks) == [1, *range(3, 100)]
        assert reasons(chunks) == ["32 bytes do not check in segment 0"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_damage_loses_only_what_it_touches(data: st.DataObject) -> None:
    records = [row_record(1, step, 2) for step in range(150)]
    raw = bytearray(b"".join(records))
    size = len(records[0])
    touched = set()
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(raw) - 1))
        length = data.draw(st.integers(1, 3 * size))
        raw[place : place + length] = data.draw(st.binary(min_size=length, max_size=length))[
            : len(raw) - place
        ]
        touched |= set(range(place // size, min(150, (place + length - 1) // size + 1)))
    with TemporaryJournal() as journal:
        journal.row_record({"a": 0.0, "b": 0.0})
        journal.append(bytes(raw))
        found = steps(read_all(journal))
    assert set(range(150)) - touched <= set(found)
    assert len(found) == len(set(found))


def test_pages_missing_after_a_power_cut_lose_only_themselves(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.rows(1000, keys=("loss", "acc"))
    with journal.path.open("r+b") as file:
        for page in (3, 4, 7):
            file.seek(page * 4096)
            file.write(bytes(4096))
    chunks = read_all(journal)
    found = set(steps(chunks))
    per_page = 4096 // 40
    assert 1000 - 3 * (per_page + 2) <= len(found) < 1000
    assert max(found) == 999 and min(found) == 0
    assert len(reasons(chunks)) == 2


def test_a_missing_page_is_waited_for_while_the_writer_lives(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.rows(10)
    journal.append(bytes(4096))
    journal.rows(10, first_step=10)
    reader = JournalReader(journal.journal_id)
    assert steps(read_all(journal, reader, is_dead=False)) == list(range(10))
    assert steps(read_all(journal, reader, is_dead=True)) == list(range(10, 20))


def test_a_segment_whose_header_is_lost_is_stepped_over(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.row({"loss": 1.0}, 1)
    journal.roll()
    journal.row({"loss": 1.0}, 2)
    flip(journal.path, 20)
    journal.roll()
    journal.row({"loss": 1.0}, 3)
    chunks = read_all(journal)
    assert steps(chunks) == [1, 3] and len(reasons(chunks)) == 1


def test_a_shape_defined_anew_with_other_keys_loses_its_later_rows_and_says_so(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.row({"loss": 1.0}, 1)
    journal.control(DEFINITION, {"shape": 1, "start": 0, "total": 1, "keys": ["loss"]})
    journal.row({"loss": 1.0}, 2)
    journal.control(DEFINITION, {"shape": 1, "start": 0, "total": 1, "keys": ["other"]})
    journal.row({"loss": 1.0}, 3)
    journal.row({"fine": 1.0}, 4)
    chunks = read_all(journal)
    assert steps(chunks) == [1, 2, 4]
    assert reasons(chunks) == ["shape 1 was defined anew with other keys"] * 2
    assert sum(lost.rows for chunk in chunks for lost in chunk.lost) == 1


def test_a_definition_may_come_in_parts(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.control(DEFINITION, {"shape": 5, "start": 0, "total": 3, "keys": ["a", "b"]})
    journal.control(DEFINITION, {"shape": 5, "start": 2, "total": 3, "keys": ["c"]})
    journal.append(row_record(5, 1, 3))
    [chunk] = read_all(journal)
    assert chunk.blocks[0].keys == ("a", "b", "c") and not chunk.lost


@pytest.mark.parametrize(
    "body",
    [
        b"not JSON",
        b"[" * 100_000,
        b"[]",
        b'{"shape": 1}',
        b'{"shape": true, "start": 0, "total": 1, "keys": ["a"]}',
        b'{"shape": 70000, "start": 0, "total": 1, "keys": ["a"]}',
        b'{"shape": 1, "start": 0, "total": 1e9, "keys": ["a"]}',
        b'{"shape": 1, "start": 0, "total": 100000, "keys": ["a"]}',
        b'{"shape": 1, "start": 5, "total": 9, "keys": ["a"]}',
        b'{"shape": 1, "start": 0, "total": 1, "keys": [1]}',
        b'{"shape": ' + b"9" * 5000 + b', "start": 0, "total": 1, "keys": ["a"]}',
    ],
    ids=range(11),
)
def test_a_definition_that_makes_no_sense_is_counted_with_its_rows(tmp_path: Path, body: bytes) -> None:
    journal = JournalFile(tmp_path)
    journal.control(DEFINITION, body)
    journal.append(row_record(1, 1, 1))
    journal.row({"fine": 1.0}, 2)
    chunks = read_all(journal)
    assert len(reasons(chunks)) >= 1
    assert 2 in steps(chunks) or journal.shapes[("fine",)] == 1


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (TEXT, b"{}"),
        (TEXT, b'{"key": 1, "text": "x"}'),
        (6, b""),
        (6, b"\xff\xff\xff\xff"),
        (6, b"\x02\0\0\0[]\0\0" + bytes(8)),
        (6, b"\x03\0\0\0[1]\0" + bytes(8)),
    ],
    ids=range(6),
)
def test_a_control_record_that_makes_no_sense_is_counted(tmp_path: Path, kind: int, body: bytes) -> None:
    journal = JournalFile(tmp_path)
    journal.control(kind, body)
    journal.row({"loss": 1.0}, 2)
    chunks = read_all(journal)
    assert steps(chunks) == [2] and len(reasons(chunks)) == 1


def test_a_control_record_whose_lengths_lie_is_counted(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    record = bytearray(pack_control(TEXT, b"{}", step=0, wall_ns=0)[:-4])
    record[24:28] = struct.pack("<I", 60_000)
    journal.append(seal(bytes(record)))
    journal.row({"loss": 1.0}, 2)
    chunks = read_all(journal)
    assert steps(chunks) == [2] and reasons(chunks) == ["control record claims 60000 bytes and has fewer"]


def test_a_journal_larger_than_a_chunk_is_cut_between_records(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path, segment_bytes=4 << 20)
    journal.rows(40_000)
    chunks = read_all(journal)
    assert len(chunks) > 4 and steps(chunks) == list(range(40_000))
    assert all(chunk.end - chunk.start <= CHUNK_BYTES for chunk in chunks)
    for one, other in itertools.pairwise(chunks):
        assert one.end == other.start


def test_a_file_full_of_plausible_heads_is_given_up_in_bounded_time(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path, segment_bytes=6 << 20)
    journal.row({"loss": 1.0}, 1)
    # Each of these claims the longest control record there is; none checks.
    head = struct.pack("<IqqHHI", 0xFFFF, 0, 0, 1, 0, 0xFFFF * 4 - 32)
    journal.append(head * ((5 << 20) // len(head)))
    reader = JournalReader(journal.journal_id)
    assert steps(read_all(journal, reader, is_dead=False)) == [1]
    for _ in range(50):
        assert read_all(journal, reader, is_dead=False) == []
    assert read_all(journal, reader, is_dead=True) == [] and reader.is_done


def test_random_bytes_are_never_rows() -> None:
    for seed in range(50):
        data = random.Random(seed).randbytes(5000)
        parsed = parse_records(data, position=128, shapes=ShapeTable())
        assert parsed.end == 128 and not parsed.blocks


def test_a_walk_stops_at_sizes_that_cannot_be() -> None:
    good = row_record(1, 1, 1)
    for bad in (struct.pack("<I", 1 << 16 | 5), struct.pack("<I", 7), struct.pack("<I", 1 << 16 | 0xFFFF)):
        assert walk_records(good + bad + bytes(20)).end_word * 4 == len(good)


class TestHostileFolders:
    """What another user may put where a journal should be."""

    def open(self, folder: Path, journal: JournalFile) -> JournalFolder:
        return JournalFolder(folder, os.geteuid(), journal.journal_id)

    def test_segments_that_are_links_pipes_or_second_names_are_refused(self, tmp_path: Path) -> None:
        journal = JournalFile(tmp_path)
        real = journal.path
        kinds: dict[int, Any] = {
            1: lambda path: path.symlink_to(real),
            2: lambda path: os.mkfifo(path),
            3: lambda path: path.mkdir(),
            4: lambda path: path.hardlink_to(real),
        }
        with self.open(tmp_path, journal) as folder:
            for number, make in kinds.items():
                make(journal.folder / f"{number:06d}.tlj")
                with pytest.raises(RefusedError):
                    folder.open_segment(number)
            with pytest.raises(RefusedError):
                folder.open_segment(0)  # it has a second name now

    def test_segments_of_another_user_are_refused(self, tmp_path: Path) -> None:
        journal = JournalFile(tmp_path)
        with self.open(tmp_path, journal) as folder:
            folder.uid += 1  # as if the file in the user's folder were somebody else's
            with pytest.raises(RefusedError, match="plain file of user"):
                folder.open_segment(0)

    def test_a_linked_folder_is_refused(self, tmp_path: Path) -> None:
        journal = JournalFile(tmp_path / "real")
        (tmp_path / "node").mkdir()
        (tmp_path / "node" / str(os.geteuid())).symlink_to(journal.folder.parent)
        with pytest.raises(RefusedError):
            self.open(tmp_path / "node", journal)

    def test_a_segment_with_the_header_of_another_is_refused(self, tmp_path: Path) -> None:
        journal = JournalFile(tmp_path)
        (journal.folder / "000001.tlj").write_bytes(journal.path.read_bytes())
        with self.open(tmp_path, journal) as folder, pytest.raises(RefusedError, match="another segment"):
            folder.open_segment(1)

    def test_a_sparse_terabyte_is_read_as_far_as_the_limit(self, tmp_path: Path) -> None:
        journal = JournalFile(tmp_path, segment_bytes=1 << 40)
        journal.row({"loss": 1.0}, 1)
        reader = JournalReader(journal.journal_id)
        assert steps(read_all(journal, reader)) == [1] and reader.is_done

    def test_a_file_that_is_cut_while_it_is_read_is_an_end(self, tmp_path: Path) -> None:
        journal = JournalFile(tmp_path)
        journal.rows(100)
        reader = JournalReader(journal.journal_id)
        read_all(journal, reader, is_dead=False)
        os.truncate(journal.path, HEADER_BYTES + 60)
        assert read_all(journal, reader, is_dead=False) == []
        assert read_all(journal, reader, is_dead=True) == [] and reader.is_done


class TemporaryJournal:
    """A journal in a folder of its own, for tests that run many times."""

    def __enter__(self) -> JournalFile:
        self._folder = tempfile.TemporaryDirectory()
        return JournalFile(Path(self._folder.name))

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def row_record(shape: int, step: int, count: int) -> bytes:
    head = shape << 16 | (24 + 8 * count) // 4
    return seal(struct.pack(f"<Iqq{count}d", head, step, step * 1000, *range(count)))


def flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0x55]))


def test_positions_join_segment_and_byte(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path)
    journal.roll()
    journal.row({"loss": 1.0}, 1)
    [chunk] = [chunk for chunk in read_all(journal) if chunk.blocks]
    assert split_position(int(chunk.blocks[0].offset[0]))[0] == 1
    assert chunk.start == journal_position(1, HEADER_BYTES)
