"""Intents: what a batch is about to write, kept durably before its first insert.

After a crash the intent says which records the batch was cut from and how many rows each table was to get, so
that it can be finished exactly. Two places keep it: the commit metadata of the source (Kafka), which also fences
out a member that lost the partition, or a file a partition (embedded).

    <pending>/<topic>-<partition>.json    {"start", "end", "generation", "month", "plan": {table: rows}}
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainledger_schemas.errors import InvariantError, RecoveryError, RetryableSourceError
from trainledger_schemas.positions import TopicPartition

from .sources.source import COMMIT_METADATA_BYTES_MAX, Source

__all__ = ["FileIntents", "Intent", "IntentLog", "SourceIntents", "decode_intent", "encode_intent"]


@dataclass(frozen=True, slots=True)
class Intent:
    """A batch of records `[start, end)` for `generation`, in month partition `month`: rows by table."""

    start: int
    end: int
    generation: str
    month: int
    plan: Mapping[str, int]


class IntentLog(Protocol):
    """Keeps the newest intent of each partition."""

    def write(self, partition: TopicPartition, intent: Intent) -> None:
        """Keep it durably. Raises FencedError or RetryableSourceError (a repeat is harmless)."""

    def read(self, partition: TopicPartition) -> Intent | None:
        """The newest one, None if there is none. Raises RecoveryError when it cannot be read."""


class SourceIntents:
    """Intents in the source's commits: the committed offset is the start of the batch."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def write(self, partition: TopicPartition, intent: Intent) -> None:
        self._source.commit(partition, intent.start, encode_intent(intent))

    def read(self, partition: TopicPartition) -> Intent | None:
        found = self._source.committed(partition)
        if found is None or not found[1]:
            return None  # the explicit first position of a new group
        return decode_intent(found[1], start=found[0], where=f"the commit of {partition}")


class FileIntents:
    """Intents in files of one folder, replaced atomically and fsynced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, partition: TopicPartition, intent: Intent) -> None:
        path = self._path(partition)
        fresh = path.with_suffix(".new")
        body = json.dumps({"start": intent.start, **json.loads(encode_intent(intent))})
        try:
            with open(fresh, "w", encoding="utf-8") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            handle = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:  # a full disk: nothing was inserted yet, so waiting is harmless
            raise RetryableSourceError(f"{path} cannot be written: {error}; free some space") from error

    def read(self, partition: TopicPartition) -> Intent | None:
        path = self._path(partition)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return decode_intent(text, start=None, where=str(path))

    def _path(self, partition: TopicPartition) -> Path:
        return self._folder / f"{partition.topic}-{partition.partition}.json"


def encode_intent(intent: Intent) -> str:
    """The JSON of an intent without its start. Raises InvariantError beyond COMMIT_METADATA_BYTES_MAX."""
    body = {
        "end": intent.end,
        "generation": intent.generation,
        "month": intent.month,
        "plan": dict(intent.plan),
    }
    text = json.dumps(body, separators=(",", ":"), sort_keys=True)
    if len(text) > COMMIT_METADATA_BYTES_MAX:
        raise InvariantError(f"an intent of {len(text)} bytes does not fit into a commit: {text[:200]}")
    return text


def decode_intent(text: str, *, start: int | None, where: str) -> Intent:
    """Read an intent; `start` None: it is in the JSON. Raises RecoveryError."""
    try:
        body = json.loads(text)
        return Intent(
            start=int(body["start"]) if start is None else start,
            end=int(body["end"]),
            generation=str(body["generation"]),
            month=int(body["month"]),
            plan={str(table): int(rows) for table, rows in body["plan"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecoveryError(
            f"{where} does not hold an intent of this program ({text[:80]!r}); use a consumer group of its own,"
            " or restore the file"
        ) from error
