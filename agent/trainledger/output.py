"""The output of a wrapped command: followed, copied through, and kept as log lines.

    command --> file (O_APPEND) or pipe --> `OutputFile` / `OutputPipe` --> `Channel` --> own stdout or stderr
                                                                               |
                                                                               +--> LineSplitter --> LOG records

A file is the normal way: the command writes at its own speed and never waits for us, and when we are killed it
goes on. What was read is given back to the file system by punching holes, so that a year of output takes no
room. Limits, each for a stream: above RECORD_LAG_BYTES_MAX (64 MiB) unread bytes, output is copied through and no
longer kept as lines; above UNREAD_BYTES_MAX (1 GiB) the oldest bytes are skipped altogether; of one line the first
MiB is kept (see `lines`). What is left out is told in the log itself, where it is missing, and counted in a GAP
record whose points are lines: column gap_points of view `run_writers`, "lost points" of `trainledger show`.

Nothing here blocks: reads take what is there, and a reader of our own output that stands still (a pager) makes
us wait with reading, never the command.
"""

import ctypes
import errno
import json
import os
import resource
import select
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from trainledger_schemas.journal import CONTROL_OVERHEAD_BYTES, GAP, LOG, RECORD_BYTES_MAX

from .lines import LineSplitter

__all__ = [
    "FREE_BYTES_MIN",
    "Channel",
    "ControlSink",
    "CopyThrough",
    "LogRecorder",
    "OutputFile",
    "OutputPipe",
    "Source",
    "why_no_files",
]

FREE_BYTES_MIN = 1 << 30
UNREAD_BYTES_MAX = 1 << 30
# What can be kept in a few seconds, since that is what a command that has ended is waited for.
RECORD_LAG_BYTES_MAX = 64 << 20
READ_BYTES = 64 << 10
PUNCH_BYTES = 1 << 20
BATCH_BYTES = 96 << 10
# What a line takes in a record besides its text: its time, quotes and commas.
LINE_OVERHEAD_BYTES = 20
# A pipe that polls as writable takes this much without blocking (POSIX: PIPE_BUF).
COPY_BYTES = 4096
# The longest RSA keys in use have about 200 lines; a BEGIN without an END must not hide a whole log.
KEY_LINES_MAX = 250

_KEY_BEGIN = "-----BEGIN"
_KEY_MARK = "PRIVATE KEY-----"
_KEY_END = "-----END"

_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2


class ControlSink(Protocol):
    """Where records go: a journal."""

    def append_control(self, kind: int, body: bytes, *, step: int = 0, points: int = 1) -> bool:
        """Append one control record; True when it is in the file. `points`: what is lost if it is not."""


class Source(Protocol):
    """One stream of a command, as bytes."""

    def read(self) -> bytes:
        """What is there now, at most READ_BYTES; empty when nothing is; never blocks."""

    def unread_bytes(self) -> int:
        """How many bytes wait, as far as that can be known."""

    def skip(self, count: int) -> None:
        """Leave out the next `count` bytes."""

    def poll_fd(self) -> int | None:
        """What to wait on for more, or None: then look again after a while, or the stream has ended."""

    def stop_at_present_end(self) -> None:
        """The command has ended: whatever others may still write from now on is not waited for."""

    def close(self) -> None:
        """Let go of it."""


class OutputFile:
    """A stream through a file that the command appends to; `write_fd` is for the command."""

    def __init__(self, path: Path) -> None:
        flags = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self.write_fd = os.open(path, os.O_WRONLY | os.O_APPEND | flags, 0o600)
        # A second opening: position and access of the reader are not the writer's.
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._path = path
        self._position = 0
        self._punched_to = 0
        self._end: int | None = None

    def read(self) -> bytes:
        wanted = READ_BYTES if self._end is None else min(READ_BYTES, self._end - self._position)
        data = os.pread(self._fd, wanted, self._position) if wanted > 0 else b""
        self._advance(len(data))
        return data

    def unread_bytes(self) -> int:
        return (os.fstat(self._fd).st_size if self._end is None else self._end) - self._position

    def skip(self, count: int) -> None:
        self._advance(count)

    def poll_fd(self) -> int | None:
        return None

    def stop_at_present_end(self) -> None:
        self._end = max(self._position, os.fstat(self._fd).st_size)

    def close(self) -> None:
        """Remove the file; a process that still has it open may go on writing to it."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)

    def _advance(self, count: int) -> None:
        self._position += count
        if self._position - self._punched_to >= PUNCH_BYTES:
            punch_hole(self._fd, self._punched_to, self._position - self._punched_to)
            self._punched_to = self._position


class OutputPipe:
    """A stream through a pipe or the near side of a terminal; the command waits when we do not read."""

    def __init__(self, read_fd: int) -> None:
        self._fd: int | None = read_fd
        os.set_blocking(read_fd, False)
        self._last_reads: int | None = None

    def read(self) -> bytes:
        if self._fd is None or self._last_reads == 0:
            return b""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            self._end_if_last()
            return b""
        except OSError as error:
            if error.errno != errno.EIO:  # how a terminal says that nobody has its far side open
                raise
            data = b""
        if not data:
            self.close()
        elif self._last_reads is not None:
            self._last_reads -= 1
        return data

    def unread_bytes(self) -> int:
        return 0  # the kernel holds 64 KiB at most

    def skip(self, count: int) -> None:
        while count > 0 and (data := self.read()):
            count -= len(data)

    def poll_fd(self) -> int | None:
        return None if self._last_reads == 0 else self._fd

    def stop_at_present_end(self) -> None:
        # A full pipe is read in one or two reads; a child that goes on writing must not hold us.
        self._last_reads = 32

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _end_if_last(self) -> None:
        if self._last_reads is not None:
            self._last_reads = 0


class CopyThrough:
    """Bytes to our own stdout or stderr, as fast as its reader takes them and never blocking.

    When that reader is gone (`| head`), copying ends and everything else goes on.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._waiting = b""
        self._is_gone = False

    @property
    def is_waiting(self) -> bool:
        """Whether bytes wait for the reader."""
        return bool(self._waiting)

    def push(self, data: bytes) -> None:
        """Take more bytes and write what can be written now."""
        if not self._is_gone:
            self._waiting += data
            self.flush()

    def flush(self) -> None:
        """Write what can be written now."""
        start, waiting = 0, self._waiting
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        try:
            while start < len(waiting) and poll.poll(0):
                start += os.write(self.fd, waiting[start : start + COPY_BYTES])
        except BlockingIOError:
            pass  # someone set it to non-blocking and it is full
        except OSError:
            # The reader is gone (EPIPE), the descriptor was closed, or its disk is full: training goes on.
            self.give_up()
            return
        self._waiting = waiting[start:]

    def give_up(self) -> None:
        """Copy nothing more."""
        self._is_gone = True
        self._waiting = b""


class LogRecorder:
    """Lines of one stream to LOG records, redacted, numbered from 1."""

    def __init__(self, sink: ControlSink, stream: str, *, redact: Callable[[str], str]) -> None:
        self._sink = sink
        self._stream = stream
        self._redact = redact
        self._next_line = 1
        self._key_lines_left = 0

    def record(self, lines: list[str], at_us: int) -> None:
        """Write lines that were read at `at_us`; what the journal refuses it counts itself."""
        if not lines:
            return
        size = sum(map(len, lines)) + LINE_OVERHEAD_BYTES * len(lines)
        # Equal numbers of lines; a batch that is too large all the same is halved later.
        count = -(-len(lines) * BATCH_BYTES // max(size, BATCH_BYTES))
        for begin in range(0, len(lines), count):
            self._write(lines[begin : begin + count], at_us)

    def record_gap(self, lines: int, reason: str) -> None:
        """Write that `lines` lines are not kept, or not whole."""
        body = json.dumps({"rows": lines, "points": lines, "reason": reason}).encode()
        self._sink.append_control(GAP, body, points=lines)

    def _write(self, lines: list[str], at_us: int) -> None:
        whole = "\n".join(lines)
        if self._key_lines_left or _KEY_BEGIN in whole:
            whole = "\n".join(map(self._hide_key, lines))
        # One call for the whole batch is many times cheaper; a match over several lines would shift numbers.
        text = self._redact(whole).split("\n")
        if len(text) != len(lines):
            text = [self._redact(line).replace("\n", " ") for line in whole.split("\n")]
        self._append(text, at_us)

    def _hide_key(self, line: str) -> str:
        """A private key is printed over several lines, and those between its ends have no form of their own."""
        if not self._key_lines_left and _KEY_BEGIN not in line:
            return line
        if _KEY_BEGIN in line and _KEY_MARK in line:
            self._key_lines_left = KEY_LINES_MAX
        if not self._key_lines_left:
            return line
        self._key_lines_left = 0 if _KEY_END in line else self._key_lines_left - 1
        return "[redacted]"

    def _append(self, lines: list[str], at_us: int) -> None:
        content = {
            "stream": self._stream,
            "first_line": self._next_line,
            "at_us": [at_us] * len(lines),
            "text": lines,
        }
        body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        if len(body) > RECORD_BYTES_MAX - CONTROL_OVERHEAD_BYTES - 4 and len(lines) > 1:
            middle = len(lines) // 2
            self._append(lines[:middle], at_us)
            self._append(lines[middle:], at_us)
            return
        self._sink.append_control(LOG, body, points=len(lines))
        self._next_line += len(lines)


class Channel:
    """One stream of the command: its source, where it is copied, where its lines are kept.

    `unkept_bytes` in `unkept_lines` are what the ledger does not hold, up to now.
    """

    def __init__(self, source: Source, copy: CopyThrough, recorder: LogRecorder) -> None:
        self.source = source
        self.copy = copy
        self.unkept_bytes = 0
        self.unkept_lines = 0
        self._recorder = recorder
        self._splitter = LineSplitter()
        self._unrecorded_bytes = 0
        self._unrecorded_lines = 0

    def pump(self, now_us: int) -> bool:
        """Move one piece on; whether there was one. A reader of ours that stands still holds the source."""
        self.copy.flush()
        unread = self.source.unread_bytes()
        if unread > UNREAD_BYTES_MAX:
            self._skip(unread - UNREAD_BYTES_MAX // 2, now_us)
        if self.copy.is_waiting:
            self._recorder.record(self._splitter.tick(now_us), now_us)
            return False
        data = self.source.read()
        if not data:
            self._recorder.record(self._splitter.tick(now_us), now_us)
            return False
        if unread > RECORD_LAG_BYTES_MAX:
            self._unrecorded_bytes += len(data)
            self._unrecorded_lines += data.count(b"\n")
        else:
            self._tell_unrecorded(now_us)
            self._recorder.record(self._splitter.feed(data, now_us), now_us)
            self._count_left_out()
        self.copy.push(data)
        return True

    def is_drained(self) -> bool:
        """Whether everything up to the end was read and copied; meaningful when the command has ended."""
        return self.source.poll_fd() is None and self.source.unread_bytes() <= 0 and not self.copy.is_waiting

    def close(self, now_us: int) -> None:
        """Keep the last line and let go of the source."""
        self._tell_unrecorded(now_us)
        self._recorder.record(self._splitter.close(), now_us)
        self._count_left_out()
        self.source.close()

    def _skip(self, count: int, now_us: int) -> None:
        self.source.skip(count)
        self._tell(f"{count} bytes were skipped: nobody read the output for too long", now_us)
        self._count(count, 1, "output skipped: nobody read it for too long")

    def _tell_unrecorded(self, now_us: int) -> None:
        if self._unrecorded_bytes:
            self._tell(f"{self._unrecorded_bytes} bytes were not kept: they came too fast", now_us)
            self._count(self._unrecorded_bytes, max(1, self._unrecorded_lines), "output came too fast")
            self._unrecorded_bytes = self._unrecorded_lines = 0

    def _tell(self, what: str, now_us: int) -> None:
        self._recorder.record([*self._splitter.close(), f"[trainledger: {what}]"], now_us)

    def _count_left_out(self) -> None:
        splitter = self._splitter
        if splitter.left_out_lines:
            self._count(splitter.left_out_bytes, splitter.left_out_lines, "lines of output are too long")
            splitter.left_out_bytes = splitter.left_out_lines = 0

    def _count(self, count: int, lines: int, reason: str) -> None:
        self.unkept_bytes += count
        self.unkept_lines += lines
        self._recorder.record_gap(lines, reason)


def why_no_files(folder: Path) -> str | None:
    """Why the command's output cannot go through files in `folder`, or None when it can."""
    try:
        room = os.statvfs(folder)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    if room.f_bavail * room.f_frsize < FREE_BYTES_MIN:
        return f"less than 1 GiB is free at {folder}"
    if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
        return "a limit on file sizes is set (ulimit -f)"
    probe = folder / "probe.out"
    try:
        fd = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        return f"{probe}: {error.strerror}"
    try:
        if not punch_hole(fd, 0, COPY_BYTES):
            return f"the file system of {folder} cannot give back what was read"
    finally:
        os.close(fd)
        probe.unlink(missing_ok=True)
    return None


def punch_hole(fd: int, start: int, count: int) -> bool:
    """Give the bytes [start, start + count) of a file back to the file system; False where it cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    return bool(libc.fallocate(fd, mode, ctypes.c_int64(start), ctypes.c_int64(count)) == 0)
