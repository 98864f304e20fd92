"""Journals and spools for tests: a plain writer of the journal format, a live writer process, spool contents.

The writer here shares nothing with the SDK's but the format's own functions, so that reader and SDK are tested
against the format and not against each other.
"""

import json
import os
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainledger.node.identity import NodeIdentity
from trainledger.node.spool import Spool, SpoolSettings
from trainledger_schemas.avro_codec import decode_event
from trainledger_schemas.clock import Clock, ManualClock
from trainledger_schemas.events import TOPIC_METRICS
from trainledger_schemas.ids import id_text
from trainledger_schemas.journal import (
    CLAIM,
    DEFINITION,
    GAP,
    HEADER_BYTES,
    LOG,
    ROW,
    TEXT,
    SegmentHeader,
    pack_control,
    pack_row,
    seal,
    segment_name,
)
from trainledger_schemas.point_codec import decode_metrics
from trainledger_schemas.positions import journal_position
from trainledger_schemas.spool import Frame
from trainledger_schemas.spool_reader import SpoolReader

__all__ = [
    "BOOT_ID",
    "IDENTITY",
    "JournalFile",
    "live_process",
    "open_spool",
    "read_frames",
    "read_points",
    "read_records",
]

BOOT_ID = b"boot" * 4
IDENTITY = NodeIdentity(node_id="node-1", producer_id=b"producer-id-16-b", boot_id=BOOT_ID, host="host-1")
WALL_NS = 1_700_000_000_000_000_000
# No process: the kernel's largest pid is 2**22.
NO_PID = 1 << 23


class JournalFile:
    """A journal that a test writes record by record; `next_byte` of the segment in hand, `segment` its number."""

    def __init__(
        self,
        node_folder: Path,
        *,
        run_id: bytes = b"run-id-16-bytes.",
        journal_id: bytes = b"journal-16-bytes",
        segment_bytes: int = 1 << 20,
        **header: Any,
    ) -> None:
        self.journal_id = journal_id
        self.folder = node_folder / str(os.geteuid()) / id_text(journal_id)
        self.folder.mkdir(parents=True)
        (self.folder / "writer.lock").touch()
        self.segment_bytes = segment_bytes
        self.segment = -1
        self.shapes: dict[tuple[str, ...], int] = {}
        self.wall_ns = WALL_NS
        self._header = {
            "journal_id": journal_id,
            "run_id": run_id,
            "parent_journal": bytes(16),
            "boot_id": BOOT_ID,
            "pid": NO_PID,
            "uid": os.geteuid(),
            "start_ticks": 1,
            "wall_ns": WALL_NS,
            "boot_ns": 1,
            "pid_namespace": 1,
            **header,
        }
        self.roll()

    @property
    def path(self) -> Path:
        """The newest segment."""
        return self.folder / segment_name(self.segment)

    def roll(self) -> None:
        """Begin the next segment, with the definitions of all shapes."""
        self.segment += 1
        new = self.folder / f"{segment_name(self.segment)}.new"
        header = SegmentHeader(segment=self.segment, **self._header)
        new.write_bytes(header.pack())
        os.truncate(new, self.segment_bytes)
        new.rename(self.path)
        self.next_byte = HEADER_BYTES
        for keys, shape in self.shapes.items():
            self._define(shape, keys)

    def append(self, record: bytes) -> int:
        """Write bytes as they are; the journal position of their begin."""
        start = self.next_byte
        with self.path.open("r+b") as file:
            file.seek(start)
            file.write(record)
        self.next_byte += len(record)
        return journal_position(self.segment, start)

    def row(self, values: Mapping[str, float], step: int = 0) -> int:
        """One row; defines its shape when it is new."""
        return self.append(self.row_record(values, step))

    def row_record(self, values: Mapping[str, float], step: int = 0) -> bytes:
        """The bytes of a row; defines its shape when it is new."""
        keys = tuple(values)
        if keys not in self.shapes:
            self.shapes[keys] = len(self.shapes) + 1
            self._define(self.shapes[keys], keys)
        self.wall_ns += 1_000_000
        size = 24 + 8 * len(keys)
        head = self.shapes[keys] << 16 | size // 4
        return seal(struct.pack(f"<Iqq{len(keys)}d", head, step, self.wall_ns, *values.values()))

    def rows(self, count: int, keys: Sequence[str] = ("loss", "acc"), first_step: int = 0) -> None:
        """`count` rows at once, with values that follow from the step."""
        self.row_record(dict.fromkeys(keys, 0.0))
        steps = range(first_step, first_step + count)
        self.append(
            b"".join(
                self.row_record({key: step + n / 8 for n, key in enumerate(keys)}, step) for step in steps
            )
        )

    def control(self, kind: int, body: Any, step: int = 0) -> int:
        """A control record; a body that is not bytes is written as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.append(pack_control(kind, raw, step=step, wall_ns=self.wall_ns))

    def text(self, key: str, text: str, step: int = 0) -> int:
        return self.control(TEXT, {"key": key, "text": text}, step)

    def claim(self, type_name: str, **fields: Any) -> int:
        return self.control(CLAIM, {"type": type_name, "at_us": self.wall_ns // 1000, **fields})

    def exit(self, status: str = "finished") -> int:
        return self.claim("run_exited", role="sdk", status=status, cause="finish")

    def log(self, first_line: int, *lines: str, stream: str = "stdout") -> int:
        at_us = [self.wall_ns // 1000] * len(lines)
        return self.control(
            LOG, {"stream": stream, "first_line": first_line, "at_us": at_us, "text": list(lines)}
        )

    def gap(self, rows: int, points: int, reason: str) -> int:
        return self.control(GAP, {"rows": rows, "points": points, "reason": reason})

    def loose_row(self, values: Mapping[str, float], step: int = 0) -> int:
        packed = struct.pack(f"<{len(values)}d", *values.values())
        return self.control(ROW, pack_row(json.dumps(list(values)).encode(), packed), step)

    def _define(self, shape: int, keys: Sequence[str]) -> None:
        self.control(DEFINITION, {"shape": shape, "start": 0, "total": len(keys), "keys": list(keys)})


@contextmanager
def live_process(lock_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds a journal's lock until it is told to go, or killed."""
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(lock_file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def open_spool(folder: Path, *, clock: Clock | None = None, **settings: int) -> Spool:
    """A spool with small segments."""
    chosen = SpoolSettings(**{"segment_bytes": 64 << 10, "budget_bytes": 1 << 30, **settings})
    return Spool.open(folder, identity=IDENTITY, clock=clock or ManualClock(), settings=chosen)


def read_frames(spool_folder: Path, topic: str, *, end: int = 1 << 60) -> list[Frame]:
    """All frames of a topic, read in small steps."""
    reader = SpoolReader(spool_folder, topic)
    offset, frames = reader.begin(), []
    while found := reader.read(offset, end=end, bytes_max=10_000):
        frames += found
        offset = found[-1].offset + 1
    return frames


def read_records(spool_folder: Path, topic: str) -> list[tuple[str, dict[str, Any]]]:
    """Type and fields of all events of a topic."""
    events = [decode_event(frame.payload) for frame in read_frames(spool_folder, topic)]
    return [(event.type, event.record) for event in events]


def read_points(spool_folder: Path) -> Counter[tuple[int, str, int, float]]:
    """How often each point (position, key, step, value) is in the spool."""
    points: Counter[tuple[int, str, int, float]] = Counter()
    for frame in read_frames(spool_folder, TOPIC_METRICS):
        for block in decode_metrics(frame.payload).blocks:
            for row in range(len(block.step)):
                for column, key in enumerate(block.keys):
                    value = float(block.values[row, column])
                    points[int(block.offset[row]), key, int(block.step[row]), value] += 1
    return points
