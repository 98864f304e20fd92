"""From journals on disk to encoded events: the agent's reader, translation and Avro codec, without the spool."""

import os
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from bench.journals import journal_bytes, write_journals
from bench.workspace import environment, temporary_folder
from trainledger.node.journal_folder import JournalFolder, find_journals
from trainledger.node.journal_reader import Chunk, JournalReader
from trainledger.node.translate import NewEvent, translate
from trainledger_schemas.avro_codec import encode_event
from trainledger_schemas.point_codec import encode_metrics

POINTS = 4_000_000
QUICK_POINTS = 400_000
RUNS = 5
# fastavro is so much slower that some events of the same journals must do.
FASTAVRO_EVENTS = 20
BAR_POINTS_PER_CPU_S = 3_000_000

_T = TypeVar("_T")
ENVELOPE = {
    "producer_id": b"p" * 16,
    "seq": 1,
    "node_id": "node-1",
    "wall_us": 1_700_000_000_000_000,
    "boot_id": b"b" * 16,
    "boot_us": 1_000_000,
}


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Rows of two and of twenty values."""
    points = QUICK_POINTS if quick else POINTS
    for values in (2, 20):
        with temporary_folder() as folder:
            env = environment(folder)
            write_journals(env, runs=1, rows=points // values, values=values)
            yield figures(folder / "journals", values, points)


def figures(journals: Path, values: int, points: int) -> dict[str, Any]:
    """Medians of some passes, each with its baselines in turn; every pass must meet every point."""
    passes: list[tuple[float, float]] = []
    checksums: list[float] = []
    events: list[NewEvent] = []
    for _ in range(RUNS):
        (cpu_s, wall_s), events = timed_call(lambda: encode_journals(journals))
        if sum(event.points for event in events) != points:
            raise RuntimeError(f"{sum(event.points for event in events)} points came out of {points}")
        passes.append((cpu_s, wall_s))
        checksums.append(timed_call(lambda: read_and_check(journals))[0][0])
    cpu_s, wall_s = (statistics.median(column) for column in zip(*passes, strict=True))
    sample = [event for event in events if event.points][:FASTAVRO_EVENTS]
    records = [record_of(event) for event in sample]
    (fastavro_s, _), _ = timed_call(lambda: [encode_event("metrics", record) for record in records])
    rate = points / cpu_s
    return {
        "case": f"{values} values a row",
        "points": points,
        "points_per_event": round(points / sum(1 for event in events if event.points)),
        "journal_mb": round(journal_bytes(journals) / 1e6, 1),
        "points_per_cpu_s": round(rate),
        "ns_per_point": round(1e9 * cpu_s / points, 1),
        "cpu_s": round(cpu_s, 3),
        "wall_s": round(wall_s, 3),
        "baselines": {
            "read_and_crc_ns_per_point": round(1e9 * statistics.median(checksums) / points, 1),
            "fastavro_encode_ns_per_point": round(
                1e9 * fastavro_s / sum(event.points for event in sample), 1
            ),
        },
        "bars": {"points_per_cpu_s": BAR_POINTS_PER_CPU_S},
        "met": rate >= BAR_POINTS_PER_CPU_S,
    }


def encode_journals(node_folder: Path) -> list[NewEvent]:
    """Read all journals to their end and encode what they hold, as the agent does."""
    done = []
    for chunk in read_chunks(node_folder):
        for event in translate(chunk, {}).events:
            source = {
                "journal_id": chunk.header.journal_id,
                "prev_end": event.start,
                "start": event.start,
                "end": event.end,
            }
            envelope = {**ENVELOPE, "source": source}
            if event.type_name == "metrics":
                encode_metrics(
                    envelope,
                    event.fields["run_id"],
                    writer_id=event.fields["writer_id"],
                    blocks=event.fields["blocks"],
                    texts=event.fields["texts"],
                )
            else:
                encode_event(event.type_name, {"envelope": envelope, **event.fields})
            done.append(event)
    return done


def read_chunks(node_folder: Path) -> Iterator[Chunk]:
    """All chunks of all journals, whose writers are dead."""
    for place in find_journals(node_folder)[0]:
        reader = JournalReader(place.journal_id)
        with JournalFolder(node_folder, place.uid, place.journal_id) as folder:
            while (chunk := reader.read(folder, is_dead=True)) is not None:
                yield chunk


def read_and_check(node_folder: Path) -> int:
    """The least that any reader does: copy the bytes out of the page cache and check them once."""
    crc = 0
    for path in sorted(node_folder.rglob("*.tlj")):
        fd = os.open(path, os.O_RDONLY)
        try:
            while data := os.read(fd, 256 * 1024):
                crc = zlib.crc32(data, crc)
        finally:
            os.close(fd)
    return crc


def record_of(event: NewEvent) -> dict[str, Any]:
    """The event as fastavro takes it: lists of Python numbers, made before the clock starts."""
    blocks = []
    for block in event.fields["blocks"]:
        columns = {"step": block.step, "wall": block.wall_us, "offset": block.offset}
        record: dict[str, Any] = {"keys": list(block.keys), "value": block.values.ravel().tolist()}
        for name, column in columns.items():
            record[f"{name}0"] = int(column[0])
            record[f"{name}_delta"] = [0, *(column[1:] - column[:-1]).tolist()]
        blocks.append(record)
    ids = {name: event.fields[name] for name in ("run_id", "writer_id")}
    return {"envelope": {**ENVELOPE, "source": None}, **ids, "blocks": blocks, "texts": event.fields["texts"]}


def timed_call(work: Callable[[], _T]) -> tuple[tuple[float, float], _T]:
    """CPU and wall seconds of a call, and what it gave."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    result = work()
    return (time.process_time() - cpu_s, time.perf_counter() - wall_s), result
