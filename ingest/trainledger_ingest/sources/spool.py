"""The spool of this node as a log: each topic has the one partition 0, and one process owns it.

Only records below `durable_end(topic)` are served: what is fsynced, so that a power cut cannot take back a
record, and with it a sequence number, that the tables already have. The log's id is in `<spool>/log.id`,
made at the first opening: a spool that was removed and begun anew has another one, a copied spool keeps it.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from trainledger_schemas.clock import Clock, SystemClock
from trainledger_schemas.errors import FatalSourceError, InvariantError
from trainledger_schemas.events import TOPICS
from trainledger_schemas.ids import IdSource, id_bytes, id_text, random_id
from trainledger_schemas.positions import LogPosition, TopicPartition
from trainledger_schemas.spool_reader import SpoolReader

from .source import SourceCapabilities, SourceRecord

__all__ = ["SpoolSource"]

POLL_BYTES_MAX = 8 << 20
WAIT_STEP_S = 0.02
_LOG_ID = "log.id"


class SpoolSource:
    """A reader of all topics of one spool. `durable_end(topic)`: the offset behind the last fsynced record."""

    capabilities = SourceCapabilities(intents=False, complete_polls=True)

    def __init__(
        self,
        folder: Path,
        durable_end: Callable[[str], int],
        *,
        topics: Iterable[str] = tuple(TOPICS),
        clock: Clock | None = None,
        new_id: IdSource = random_id,
    ) -> None:
        self._readers = {TopicPartition(topic, 0): SpoolReader(folder, topic) for topic in topics}
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._durable_end = durable_end
        self._clock = clock or SystemClock()
        self._log_id = _read_or_make_log_id(folder, new_id)
        self._folder = folder

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._readers)

    def epoch(self) -> int:
        return 1

    def poll(self, timeout_s: float) -> list[SourceRecord]:
        """See `Source.poll`; at most about POLL_BYTES_MAX of each topic. A topic is read from its first `seek` on."""
        give_up_ns = self._clock.monotonic_ns() + round(timeout_s * 1e9)
        while True:
            found = [record for partition in sorted(self._readers) for record in self._read(partition)]
            left_s = (give_up_ns - self._clock.monotonic_ns()) / 1e9
            if found or left_s <= 0:
                return found
            self._clock.sleep(min(left_s, WAIT_STEP_S))

    def seek(self, position: LogPosition) -> None:
        partition = TopicPartition(position.topic, position.partition)
        begin, end = self.begin(partition), self.end(partition)
        if not begin <= position.offset <= end:
            raise FatalSourceError(
                f"{position.topic} in {self._folder} holds offsets {begin} to {end}, and reading was to go on at "
                f"{position.offset}; restore the spool's folder, or begin with a new home folder"
            )
        self._positions[partition] = position.offset

    def begin(self, partition: TopicPartition) -> int:
        return self._readers[partition].begin()

    def end(self, partition: TopicPartition) -> int:
        return self._durable_end(partition.topic)

    def topic_id(self, topic: str) -> str:
        return self._log_id

    def partitions(self, topic: str) -> int:
        return 1

    def pause(self, partition: TopicPartition) -> None:
        self._paused.add(partition)

    def resume(self, partition: TopicPartition) -> None:
        self._paused.discard(partition)

    def commit(self, partition: TopicPartition, offset: int, metadata: str) -> None:
        raise InvariantError("a spool keeps no commits; intents of embedded mode are files")

    def committed(self, partition: TopicPartition) -> tuple[int, str] | None:
        return None

    def close(self) -> None:
        """See `Source.close`; files are open only within `poll`."""

    def _read(self, partition: TopicPartition) -> list[SourceRecord]:
        if partition in self._paused or partition not in self._positions:
            return []
        position, end = self._positions[partition], self.end(partition)
        frames = self._readers[partition].read(position, end=end, bytes_max=POLL_BYTES_MAX)
        if frames:
            self._positions[partition] = frames[-1].offset + 1
        return [SourceRecord(partition.topic, 0, frame.offset, frame.key, frame.payload) for frame in frames]


def _read_or_make_log_id(folder: Path, new_id: IdSource) -> str:
    path = folder / _LOG_ID
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = folder / f"{_LOG_ID}.new"
        with open(fresh, "w", encoding="ascii") as file:
            file.write(id_text(new_id()))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync_folder(folder)
    text = path.read_text(encoding="ascii", errors="replace").strip()
    try:
        return id_text(id_bytes(text))
    except ValueError as error:
        raise FatalSourceError(
            f"{path} does not hold the log's id but {text[:40]!r}; restore the file from a copy of the spool"
        ) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
