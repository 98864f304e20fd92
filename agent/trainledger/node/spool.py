"""The spool: every event of this node in order, on this node's disk, before anything else happens to it.

    <spool>/spool.lock        held by the one process that owns the spool; JSON with its pid and kind
    <spool>/producer.json     the producer id (see `identity`)
    <spool>/sequence.json     {"next": n}: seq numbers below n may have been given
    <spool>/<topic>/...       segments (see `trainledger_schemas.spool`)

Guarantees: an append to a durable topic (runs, nodes, admin) is on disk when it returns; for metrics and logs
at the next sync(). A record below `synced_end` is never lost by a crash or power cut, and no seq is ever given
twice: numbers are reserved on disk by the block, and after a crash the rest of a block is skipped. Offsets and
journal ends of records that were not synced may be lost with power; readers stay below `synced_end`.
Limits: see SpoolSettings. Over budget, `spool_budget` says what goes first.
"""

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainledger_schemas.avro_codec import encode_event
from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import HomeLockedError, InvariantError, RetryableSourceError
from trainledger_schemas.events import EVENT_TOPICS, TOPIC_METRICS, TOPICS, Envelope
from trainledger_schemas.point_codec import PointBlock, encode_metrics
from trainledger_schemas.positions import JournalRange
from trainledger_schemas.spool import FRAME_BYTES_MAX, FRAME_OVERHEAD_BYTES, Frame

from .identity import NodeIdentity, write_durably
from .node_settings import SpoolSettings
from .reader_lock import STAYING_KINDS
from .spool_budget import Loss, SpoolBudget
from .spool_topic import TopicLog

__all__ = ["PAYLOAD_BYTES_MAX", "Spool", "SpoolSettings"]

LOCK_FILE = "spool.lock"
SEQUENCE_FILE = "sequence.json"
SEQUENCE_BLOCK = 1 << 20
LOCK_POLL_S = 0.05
# The longest key is a node id; the frame's length field of the key bounds it too.
PAYLOAD_BYTES_MAX = FRAME_BYTES_MAX - FRAME_OVERHEAD_BYTES - 1024


class Spool:
    """All topics of one node, open for appending by this process alone. Made by `open`; threads may share it."""

    def __init__(
        self, folder: Path, *, identity: NodeIdentity, clock: Clock, settings: SpoolSettings, lock_fd: int
    ) -> None:
        self.folder = folder
        self.identity = identity
        self._clock = clock
        self._lock_fd = lock_fd
        self._mutex = threading.RLock()
        self._batch_depth = 0
        self._topics = {
            name: TopicLog(folder / name, segment_bytes=settings.segment_bytes) for name in TOPICS
        }
        self._budget = SpoolBudget(self._topics, settings.budget_bytes)
        self._rolled_seen = -1
        self._is_shrinking = False
        self._next_seq = self._first_seq()
        self._reserved_seq = self._next_seq
        self._reserve_seq()

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        identity: NodeIdentity,
        clock: Clock,
        settings: SpoolSettings,
        kind: str = "unknown",
        wait_s: float = 0.0,
    ) -> "Spool":
        """Take the spool as `kind` (up, agent, one-shot), recover what a crash left, and be ready to append.

        Raises HomeLockedError (with pid and kind) when another process has it for longer than `wait_s` seconds,
        at once if that one stays (up, agent); OSError when it cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lock_fd = _lock(folder / LOCK_FILE, kind=kind, wait_s=wait_s, clock=clock)
        try:
            return cls(folder, identity=identity, clock=clock, settings=settings, lock_fd=lock_fd)
        except BaseException:
            # Also for KeyboardInterrupt: the next try must not meet our own lock.
            os.close(lock_fd)
            raise

    def append(
        self, type_name: str, fields: Mapping[str, Any], *, key: bytes, source: JournalRange | None = None
    ) -> int:
        """Append one event, given without its envelope; its offset in its topic.

        Raises ValueError when it does not fit its schema or a frame, RetryableSourceError when the disk
        refuses, InvariantError when `source` does not follow on what the topic has of that journal.
        """
        return self._append(
            EVENT_TOPICS[type_name],
            lambda envelope: encode_event(type_name, {"envelope": envelope, **fields}),
            key=key,
            source=source,
        )

    def append_metrics(
        self, fields: Mapping[str, Any], *, key: bytes, source: JournalRange | None = None
    ) -> int:
        """The same for a `metrics` event whose `blocks` are PointBlocks."""
        blocks: Sequence[PointBlock] = fields["blocks"]
        return self._append(
            TOPIC_METRICS,
            lambda envelope: encode_metrics(
                envelope,
                fields["run_id"],
                writer_id=fields["writer_id"],
                blocks=blocks,
                texts=fields["texts"],
            ),
            key=key,
            source=source,
        )

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Within it, durable topics are fsynced once, at its end, and not at each append."""
        with self._mutex:
            self._batch_depth += 1
            try:
                yield
            finally:
                self._batch_depth -= 1
                self._sync_durable()

    def sync(self) -> None:
        """Fsync everything appended so far. Blocks on the disk; harmless when there is nothing to do."""
        with self._mutex:
            for log in self._topics.values():
                log.sync()

    def synced_end(self, topic: str) -> int:
        """The offset behind the last fsynced record: readers stay below it."""
        return self._topics[topic].synced_end

    def next_offset(self, topic: str) -> int:
        """The offset of the next record."""
        return self._topics[topic].next_offset

    def journal_end(self, topic: str, journal_id: bytes) -> int:
        """The position up to which a topic has a journal; 0 if it has nothing of it."""
        return self._topics[topic].ends.get(journal_id, 0)

    def journals(self) -> set[bytes]:
        """The journals that some topic knows an end of."""
        return {journal for log in self._topics.values() for journal in log.ends}

    def forget_journal(self, journal_id: bytes) -> None:
        """Drop the ends of a journal that is gone from the disk."""
        with self._mutex:
            for log in self._topics.values():
                log.ends.pop(journal_id, None)

    def used_bytes(self) -> int:
        """Bytes of segments that are neither read nor removed."""
        return self._budget.used_bytes()

    def drop_read(self, topic: str, below_offset: int) -> int:
        """Remove the segments of a topic that lie wholly below an offset; how many went."""
        with self._mutex:
            segments = self._topics[topic].sealed_below(below_offset)
            for segment in segments:
                self._topics[topic].remove(segment)
            return len(segments)

    def compress_read(self, topic: str, below_offset: int, *, segments_max: int | None = None) -> int:
        """Compress the plain segments of a topic that lie wholly below an offset, never the newest; how many were.

        Oldest first and at most `segments_max`: one of 32 MiB takes about 0.4 s, and appends wait meanwhile.
        """
        with self._mutex:
            log = self._topics[topic]
            plain = [segment for segment in log.sealed_below(below_offset) if not segment.compressed]
            for segment in plain[:segments_max]:
                log.compress(segment)
            return len(plain[:segments_max])

    def close(self) -> None:
        """Sync, note that the end was clean, and let the lock go; harmless when repeated."""
        with self._mutex:
            if self._lock_fd < 0:
                return
            for log in self._topics.values():
                log.close()
            self._write_sequence(self._next_seq)
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _append(
        self,
        topic: str,
        encode: Callable[[Envelope], bytes],
        *,
        key: bytes,
        source: JournalRange | None,
    ) -> int:
        with self._mutex:
            log = self._topics[topic]
            if source is not None:
                self._check_follows(topic, source)
            if self._next_seq >= self._reserved_seq:
                self._reserve_seq()
            wall_us = self._clock.wall_ns() // 1000
            payload = encode(self._envelope(wall_us, source))
            frame = Frame(log.next_offset, self._next_seq, wall_us, key, payload, source)
            # The number is used up even if the write fails: part of it may be on disk.
            self._next_seq += 1
            log.append(frame)
            if TOPICS[topic].durable and not self._batch_depth:
                log.sync()
            self._enforce_budget()
            return frame.offset

    def _envelope(self, wall_us: int, source: JournalRange | None) -> Envelope:
        return {
            "producer_id": self.identity.producer_id,
            "seq": self._next_seq,
            "node_id": self.identity.node_id,
            "wall_us": wall_us,
            "boot_id": self.identity.boot_id,
            "boot_us": self._clock.boot_ns() // 1000,
            "source": None
            if source is None
            else {
                "journal_id": source.journal_id,
                "prev_end": source.prev_end,
                "start": source.start,
                "end": source.end,
            },
        }

    def _check_follows(self, topic: str, source: JournalRange) -> None:
        known = self.journal_end(topic, source.journal_id)
        if source.prev_end != known or not known <= source.start <= source.end:
            raise InvariantError(
                f"journal {source.journal_id.hex()} is known in {topic} up to {known}, and a range"
                f" [{source.start}, {source.end}) behind {source.prev_end} was to be appended"
            )

    def _sync_durable(self) -> None:
        if not self._batch_depth:
            for name, log in self._topics.items():
                if TOPICS[name].durable:
                    log.sync()

    def _enforce_budget(self) -> None:
        # Only sealed segments can give anything up, so there is news at a roll alone.
        rolled = sum(log.rolled for log in self._topics.values())
        if rolled == self._rolled_seen or self._is_shrinking:
            return
        self._rolled_seen = rolled
        self._is_shrinking = True
        try:
            for loss in self._budget.enforce():
                self.append("gap", self._gap_fields(loss), key=self.identity.node_id.encode())
        finally:
            self._is_shrinking = False

    def _gap_fields(self, loss: Loss) -> dict[str, Any]:
        return {
            "at_us": self._clock.wall_ns() // 1000,
            "start_us": loss.start_us,
            "end_us": loss.end_us,
            "what": loss.what,
            "reason": loss.reason,
            "count": loss.count,
        }

    def _first_seq(self) -> int:
        seen = max(log.seq_max for log in self._topics.values()) + 1
        try:
            record = json.loads((self.folder / SEQUENCE_FILE).read_bytes())
            return max(seen, int(record["next"]))
        except FileNotFoundError:
            is_new = all(log.next_offset == 0 for log in self._topics.values())
            return 0 if is_new else seen + SEQUENCE_BLOCK
        except (ValueError, KeyError, TypeError):
            return seen + SEQUENCE_BLOCK  # damaged: a jump that no unsynced tail can have reached

    def _reserve_seq(self) -> None:
        self._reserved_seq = self._next_seq + SEQUENCE_BLOCK
        self._write_sequence(self._reserved_seq)

    def _write_sequence(self, next_seq: int) -> None:
        record = json.dumps({"next": next_seq}).encode()
        try:
            write_durably(self.folder / SEQUENCE_FILE, record)
        except OSError as error:
            raise RetryableSourceError(
                f"spool {self.folder} cannot reserve numbers: {error.strerror}; free disk space there"
            ) from error


def _lock(path: Path, *, kind: str, wait_s: float, clock: Clock) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    give_up_ns = clock.monotonic_ns() + round(wait_s * 1e9)
    try:
        while not _try_lock(fd):
            pid, owner_kind = _owner(fd)
            if owner_kind in STAYING_KINDS or clock.monotonic_ns() >= give_up_ns:
                raise HomeLockedError(
                    f"spool {path.parent} is in use by process {pid or 'unknown'} ({owner_kind}); stop it first",
                    pid=pid,
                    kind=owner_kind,
                )
            clock.sleep(LOCK_POLL_S)
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"pid": os.getpid(), "kind": kind}).encode(), 0)
    except BaseException:
        # Also for KeyboardInterrupt while waiting: the descriptor must not stay.
        os.close(fd)
        raise
    return fd


def _try_lock(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _owner(fd: int) -> tuple[int | None, str]:
    try:
        record = json.loads(os.pread(fd, 4096, 0))
        return int(record["pid"]), str(record.get("kind", "unknown"))
    except (ValueError, KeyError, TypeError):
        return None, "unknown"
