"""What is still to be sent to the store of all machines, and what is in its way: told from the spool alone.

So it can be asked of a node whose agent hangs or is away. `<spool>/blobs.cursor` holds up to where topic runs is
dealt with; `<spool>/blobs.trouble` is there while sending fails: {"at_us": since when, "why": the last error}.
"""

import json
import threading
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from trainledger_schemas.avro_codec import decode_event
from trainledger_schemas.blob_references import NAMING_EVENTS, named_blobs
from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import CorruptDataError
from trainledger_schemas.events import TOPIC_RUNS
from trainledger_schemas.spool_reader import SpoolReader

__all__ = ["CURSOR_FILE", "Backlog", "Pending", "TroubleFile", "Unsent", "load_cursor", "unsent"]

CURSOR_FILE = "blobs.cursor"
TROUBLE_FILE = "blobs.trouble"
READ_BYTES_MAX = 1 << 20
_END = 1 << 62


@dataclass(frozen=True, slots=True)
class Pending:
    """What waits: events that name blobs, files and bytes of the artifacts among them, and since when the oldest is
    waiting (microseconds of wall time)."""

    events: int = 0
    files: int = 0
    size_bytes: int = 0
    oldest_us: int | None = None

    def age_s(self, clock: Clock) -> float:
        """How long the oldest waits, in seconds; 0 where nothing does."""
        return 0.0 if self.oldest_us is None else max(0.0, clock.wall_ns() / 1e9 - self.oldest_us / 1e6)

    def less(self, files: int, size_bytes: int) -> "Pending":
        """Without what is done already of the events under way."""
        return replace(
            self, files=max(0, self.files - files), size_bytes=max(0, self.size_bytes - size_bytes)
        )


class Unsent(NamedTuple):
    """What waits, why it cannot be sent now (empty: no reason is known), and since when that is so."""

    pending: Pending
    why: str
    since_us: int | None


class _Waiting(NamedTuple):
    offset: int
    at_us: int
    files: int
    size_bytes: int


class Backlog:
    """Adds up what events of topic runs name. Each frame is read once; calls may come from any thread."""

    def __init__(self, spool: Path) -> None:
        self._reader = SpoolReader(spool, TOPIC_RUNS)
        self._waiting: deque[_Waiting] = deque()
        self._read_to = 0
        self._lock = threading.Lock()

    def look(self, begin: int, end: int) -> Pending:
        """What events at offsets in [begin, end) name; neither goes back from call to call."""
        with self._lock:
            self._read_to = max(self._read_to, begin, self._reader.begin())
            while self._read_to < end:
                frames = self._reader.read(self._read_to, end=end, bytes_max=READ_BYTES_MAX)
                if not frames:
                    break
                for frame in frames:
                    self._take(frame.offset, frame.payload)
                self._read_to = frames[-1].offset + 1
            while self._waiting and self._waiting[0].offset < begin:
                self._waiting.popleft()
            return Pending(
                len(self._waiting),
                sum(item.files for item in self._waiting),
                sum(item.size_bytes for item in self._waiting),
                min((item.at_us for item in self._waiting), default=None),
            )

    def _take(self, offset: int, payload: bytes) -> None:
        try:
            event = decode_event(payload)
        except CorruptDataError:
            return
        if event.type in NAMING_EVENTS and named_blobs(event.type, event.record):
            is_kept = event.type == "artifact_logged"  # of a dataset only the manifest is
            files = int(event.record.get("files") or 1) if is_kept else 0
            size = int(event.record.get("size_bytes") or 0) if is_kept else 0
            self._waiting.append(_Waiting(offset, int(event.record["at_us"]), files, size))


class TroubleFile:
    """Why sending fails, for this process and for others."""

    def __init__(self, spool: Path, clock: Clock) -> None:
        self.why = ""
        self._path = spool / TROUBLE_FILE
        self._clock = clock
        self._since_us = 0
        self._is_written = True  # by a process before, it may be

    def say(self, why: str) -> None:
        """Sending failed for this reason; never raises."""
        if why == self.why:
            return
        if not self.why:
            self._since_us = self._clock.wall_ns() // 1000
        self.why, self._is_written = why, True
        try:
            self._path.write_text(json.dumps({"at_us": self._since_us, "why": why}), encoding="utf-8")
        except OSError:
            pass  # a full disk must not end the trying

    def over(self) -> None:
        """Sending works; never raises."""
        self.why = ""
        if self._is_written:
            self._is_written = False
            try:
                self._path.unlink(missing_ok=True)
            except OSError:
                pass


def unsent(spool: Path) -> Unsent:
    """What a spool says of itself; raises OSError where it may not be read."""
    backlog = Backlog(spool)
    begin = load_cursor(spool / CURSOR_FILE, 0)
    pending = backlog.look(begin, _END)
    try:
        told = json.loads((spool / TROUBLE_FILE).read_bytes())
        return Unsent(pending, str(told["why"]), int(told["at_us"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Unsent(pending, "", None)


def load_cursor(path: Path, begin: int) -> int:
    """Up to where topic runs is dealt with; `begin` where nobody knows."""
    try:
        return max(begin, int(json.loads(path.read_bytes())[TOPIC_RUNS]))
    except FileNotFoundError:
        return begin
    except (ValueError, KeyError, TypeError):
        return begin  # taken up again from the start: what is in the store is not sent again
