"""Output through files and pipes, copied through and kept as lines."""

import json
import os
from pathlib import Path

import pytest

from trainledger import output
from trainledger.output import Channel, CopyThrough, LogRecorder, OutputFile, OutputPipe, why_no_files
from trainledger.redaction import redact
from trainledger_schemas.journal import GAP, LOG, RECORD_BYTES_MAX


class Journal:
    """Keeps records in memory, as a journal keeps them in a file."""

    def __init__(self) -> None:
        self.records: list[dict[str, object]] = []
        self.lines: list[str] = []
        self.gaps: list[dict[str, object]] = []

    def append_control(self, kind: int, body: bytes, *, step: int = 0, points: int = 1) -> bool:
        assert len(body) < RECORD_BYTES_MAX - 32
        record = json.loads(body)
        if kind == GAP:
            assert record["rows"] == points
            self.gaps.append(record)
            return True
        assert kind == LOG and len(record["text"]) == points
        assert record["first_line"] == len(self.lines) + 1
        assert len(record["at_us"]) == len(record["text"])
        self.records.append(record)
        self.lines += record["text"]
        return True


def channel(source: OutputFile | OutputPipe, copy_fd: int, journal: Journal) -> Channel:
    return Channel(source, CopyThrough(copy_fd), LogRecorder(journal, "stdout", redact=redact))


def pump_all(target: Channel) -> None:
    while target.pump(0):
        pass


def test_file_is_followed_copied_and_kept(tmp_path: Path) -> None:
    journal, copy = Journal(), (tmp_path / "copy").open("wb")
    source = OutputFile(tmp_path / "stdout.out")
    target = channel(source, copy.fileno(), journal)
    os.write(source.write_fd, b"one\ntw")
    pump_all(target)
    assert journal.lines == ["one"]
    os.write(source.write_fd, b"o\nthree")
    source.stop_at_present_end()
    os.write(source.write_fd, b" from a process left in the background\n")
    pump_all(target)
    assert target.is_drained()
    target.close(0)
    os.close(source.write_fd)
    copy.close()
    assert journal.lines == ["one", "two", "three"]
    assert (tmp_path / "copy").read_bytes() == b"one\ntwo\nthree"
    assert not (tmp_path / "stdout.out").exists()


def test_what_was_read_of_a_file_is_given_back_to_the_disk(tmp_path: Path) -> None:
    journal, null = Journal(), os.open(os.devnull, os.O_WRONLY)
    source = OutputFile(tmp_path / "stdout.out")
    target = channel(source, null, journal)
    block = b"x" * 99 + b"\n"
    for _ in range(20):
        os.write(source.write_fd, block * 5000)
        pump_all(target)
    found = (tmp_path / "stdout.out").stat()
    assert found.st_size == 20 * 5000 * 100
    assert found.st_blocks * 512 < 2 * output.PUNCH_BYTES
    assert len(journal.lines) == 100_000
    target.close(0)
    os.close(source.write_fd)
    os.close(null)


def test_too_much_unread_output_is_copied_but_no_longer_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "RECORD_LAG_BYTES_MAX", 1 << 20)
    journal, copy = Journal(), (tmp_path / "copy").open("wb")
    source = OutputFile(tmp_path / "stdout.out")
    target = channel(source, copy.fileno(), journal)
    block = (b"y" * 99 + b"\n") * 30_000
    os.write(source.write_fd, block)
    pump_all(target)
    target.close(0)
    os.close(source.write_fd)
    copy.close()
    assert (tmp_path / "copy").read_bytes() == block
    notes = [line for line in journal.lines if line.startswith("[trainledger: ")]
    assert len(notes) == 1
    unkept = int(notes[0].split()[1])
    assert target.unkept_bytes == unkept
    # Of the line at each end of what was left out, a part is kept as a line of its own.
    assert target.unkept_lines == -(-unkept // 100) or target.unkept_lines == unkept // 100
    reason = "output came too fast"
    assert journal.gaps == [{"rows": target.unkept_lines, "points": target.unkept_lines, "reason": reason}]
    assert unkept + sum(len(line) + 1 for line in journal.lines if line not in notes) in range(
        len(block) - 1, len(block) + 2
    )


def test_above_the_cap_the_oldest_bytes_are_skipped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "UNREAD_BYTES_MAX", 1 << 20)
    journal, null = Journal(), os.open(os.devnull, os.O_WRONLY)
    source = OutputFile(tmp_path / "stdout.out")
    target = channel(source, null, journal)
    os.write(source.write_fd, (b"z" * 99 + b"\n") * 30_000 + b"last\n")
    pump_all(target)
    target.close(0)
    os.close(source.write_fd)
    os.close(null)
    assert (
        journal.lines[0]
        == f"[trainledger: {3_000_005 - (1 << 19)} bytes were skipped: nobody read the output for too long]"
    )
    assert journal.lines[-1] == "last"
    assert (target.unkept_bytes, [gap["points"] for gap in journal.gaps]) == (3_000_005 - (1 << 19), [1])


def test_line_of_many_megabytes_is_kept_in_part_and_counted(tmp_path: Path) -> None:
    journal, null = Journal(), os.open(os.devnull, os.O_WRONLY)
    source = OutputFile(tmp_path / "stdout.out")
    target = channel(source, null, journal)
    os.write(source.write_fd, b"a" * (3 << 20) + b"\nnext\n" + b"b" * (2 << 20))
    pump_all(target)
    target.close(0)
    os.close(source.write_fd)
    os.close(null)
    kept = sum(len(line) for line in journal.lines if line[0] in "ab")
    assert kept == 2 << 20 and "next" in journal.lines
    assert (target.unkept_bytes, target.unkept_lines) == ((5 << 20) - kept, 2)
    assert [(gap["points"], gap["reason"]) for gap in journal.gaps] == [
        (1, "lines of output are too long")
    ] * 2


def test_reader_of_ours_that_stands_still_does_not_block_and_loses_nothing(tmp_path: Path) -> None:
    journal, (read_fd, write_fd) = Journal(), os.pipe()
    source = OutputFile(tmp_path / "stdout.out")
    target = channel(source, write_fd, journal)
    data = b"".join(b"%06d\n" % number for number in range(100_000))
    os.write(source.write_fd, data)
    source.stop_at_present_end()
    pump_all(target)
    assert not target.is_drained()
    received = b""
    while not target.is_drained():
        received += os.read(read_fd, 1 << 20)
        target.pump(0)
    os.set_blocking(read_fd, False)
    received += os.read(read_fd, 1 << 20)
    assert received == data
    assert len(journal.lines) == 100_000
    target.close(0)
    for fd in (read_fd, write_fd, source.write_fd):
        os.close(fd)


def test_reader_of_ours_that_is_gone_ends_the_copy_and_nothing_else(tmp_path: Path) -> None:
    journal, (read_fd, write_fd) = Journal(), os.pipe()
    os.close(read_fd)
    source = OutputFile(tmp_path / "stdout.out")
    target = channel(source, write_fd, journal)
    os.write(source.write_fd, b"one\n")
    pump_all(target)
    os.write(source.write_fd, b"two\n")
    pump_all(target)
    target.close(0)
    assert journal.lines == ["one", "two"]
    os.close(write_fd)
    os.close(source.write_fd)


def test_pipe_is_read_to_its_end_or_to_what_is_there(tmp_path: Path) -> None:
    journal, copy = Journal(), (tmp_path / "copy").open("wb")
    read_fd, write_fd = os.pipe()
    target = channel(OutputPipe(read_fd), copy.fileno(), journal)
    os.write(write_fd, b"one\ntwo")
    pump_all(target)
    assert not target.is_drained()
    target.source.stop_at_present_end()  # somebody still has the other end open
    pump_all(target)
    assert target.is_drained()
    target.close(0)
    copy.close()
    os.close(write_fd)
    assert journal.lines == ["one", "two"]


def test_secrets_are_hidden_and_keep_the_numbers_of_lines(tmp_path: Path) -> None:
    journal = Journal()
    recorder = LogRecorder(journal, "stdout", redact=redact)
    key = ["-----BEGIN RSA PRIVATE KEY-----", "MIIEowIBAAKCAQEA", "7Vz2kfQ", "-----END RSA PRIVATE KEY-----"]
    recorder.record(["before", "password=hunter2", *key[:2]], 1)
    recorder.record([*key[2:], "after"], 2)
    assert journal.lines == ["before", "password=[redacted]", *["[redacted]"] * 4, "after"]


def test_many_and_awkward_lines_fit_their_records() -> None:
    journal = Journal()
    recorder = LogRecorder(journal, "stderr", redact=redact)
    lines = ["\x00" * 16_000 for _ in range(20)] + ["x"] * 10_000
    recorder.record(lines, 5)
    assert journal.lines == lines


def test_limit_on_file_sizes_is_a_reason_against_files(tmp_path: Path) -> None:
    assert why_no_files(tmp_path) is None
    assert why_no_files(tmp_path / "none") is not None
    assert list(tmp_path.iterdir()) == []
