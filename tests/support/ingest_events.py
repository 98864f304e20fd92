"""Events and logs for tests of ingest: real encodings, a producer that counts, and a spool made of real frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainledger_schemas.avro_codec import encode_event
from trainledger_schemas.events import EVENT_TOPICS, Envelope, SourceRange
from trainledger_schemas.point_codec import PointBlock, encode_metrics
from trainledger_schemas.spool import Frame, encode_frame, segment_file_name

__all__ = [
    "HOUR_US",
    "START_US",
    "Producer",
    "SpoolFiles",
    "fixed_id",
    "point_block",
    "price_fields",
    "run_fields",
]

START_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000


def fixed_id(number: int) -> bytes:
    """An id that a test can tell apart."""
    return number.to_bytes(8, "big") * 2


@dataclass
class Producer:
    """Makes payloads as one spool would: sequence numbers grow, `prev_end` follows each journal by topic."""

    number: int = 1
    node_id: str = "node-1"
    seq: int = 0
    wall_us: int = START_US
    ends: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def envelope(self, source: tuple[bytes, int, int] | None, *, topic: str) -> Envelope:
        """The next envelope; `source` is (journal id, start, end)."""
        self.seq += 1
        given: SourceRange | None = None
        if source is not None:
            journal, start, end = source
            prev_end = self.ends.get((topic, journal), 0)
            given = {"journal_id": journal, "prev_end": prev_end, "start": start, "end": end}
            self.ends[topic, journal] = max(prev_end, end)
        return {
            "producer_id": fixed_id(self.number),
            "seq": self.seq,
            "node_id": self.node_id,
            "wall_us": self.wall_us,
            "boot_id": fixed_id(99),
            "boot_us": 5_000_000,
            "source": given,
        }

    def event(
        self, name: str, fields: Mapping[str, Any], *, source: tuple[bytes, int, int] | None = None
    ) -> bytes:
        """An event of any type but metrics."""
        envelope = self.envelope(source, topic=EVENT_TOPICS[name])
        return encode_event(name, {"envelope": envelope, **fields})

    def metrics(
        self,
        blocks: Sequence[PointBlock],
        *,
        run: int = 1,
        writer: int = 1,
        source: tuple[bytes, int, int] | None = None,
        texts: Sequence[Mapping[str, Any]] = (),
    ) -> bytes:
        """A metrics event."""
        envelope = self.envelope(source, topic="trainledger.metrics")
        return encode_metrics(envelope, fixed_id(run), writer_id=fixed_id(writer), blocks=blocks, texts=texts)


def point_block(
    keys: Sequence[str], rows: int, *, first_step: int = 0, first_offset: int = 0, stride: int = 40
) -> PointBlock:
    """Rows whose values say which they are: value = step + key index / 1000."""
    step = np.arange(first_step, first_step + rows, dtype=np.int64)
    values = step[:, None] + np.arange(len(keys))[None, :] / 1000
    return PointBlock(
        tuple(keys), step, START_US + step * 1000, first_offset + np.arange(rows) * stride, values
    )


def run_fields(run: int = 1, writer: int = 1, *, at_us: int = START_US, points: int = 3) -> dict[str, Any]:
    """Fields of a `writer_gap`, the smallest claim."""
    return {
        "run_id": fixed_id(run),
        "writer_id": fixed_id(writer),
        "at_us": at_us,
        "rows": 1,
        "points": points,
        "reason": "test",
    }


def price_fields(number: int = 1) -> dict[str, Any]:
    """Fields of a `price_set`."""
    return {
        "at_us": START_US,
        "price_id": fixed_id(number),
        "pattern": "*",
        "nano_per_hour": 3_000_000_000,
        "currency": "USD",
        "from_hour_us": START_US - START_US % HOUR_US,
        "presence": "observed",
        "owned_from_us": None,
        "owned_to_us": None,
        "host_share_ppm": None,
        "device_weights": {},
        "set_by": "test",
        "note": None,
    }


class SpoolFiles:
    """A spool folder that a test fills; `durable_end` is what a SpoolSource asks for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ends: dict[str, int] = {}

    def append(self, topic: str, payload: bytes, *, key: bytes = b"") -> int:
        """Add one frame to the topic's only segment; returns its offset."""
        offset = self._ends.get(topic, 0)
        path = self.folder / topic / segment_file_name(0)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.write(encode_frame(Frame(offset, offset, START_US, key, payload, None)))
        self._ends[topic] = offset + 1
        return offset

    def durable_end(self, topic: str) -> int:
        """Everything is durable at once."""
        return self._ends.get(topic, 0)
