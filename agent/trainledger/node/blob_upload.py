"""Sends the blobs that events of runs name to the store of all machines, in the order of the log.

A thread reads topic runs of the spool behind a cursor of its own, `<spool>/blobs.cursor`, as the publisher does. An
event is taken up only once it is in the log that a garbage collection reads (fsynced here; with Kafka, acknowledged
there): that order is what makes the store safe (see `trainledger_schemas.shared_blobs`). What some events name is
brought there (`blob_sending`: side by side, documents first; what is there already is not sent). Then an event
`blobs_stored` for each says where they lie, and the cursor moves. After trouble it goes on where it was; after a crash
the events at the cursor are taken up again: what is there is looked at, and of a large file no part is sent twice.

A store that cannot be reached is tried again for ever, and training and collecting never wait for it; `blob_backlog`
says what waits, and why. A blob that is neither here nor there is counted in `missing` of the event, with a reason.
"""

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trainledger.node.blob_backlog import CURSOR_FILE, Backlog, Pending, TroubleFile, load_cursor
from trainledger.node.blob_freeing import free_copies
from trainledger.node.blob_sending import BlobSender, Sending
from trainledger.node.identity import write_durably
from trainledger.node.node_settings import BlobSettings
from trainledger.node.spool import Spool
from trainledger.node.user_blobs import UserBlobs
from trainledger_schemas.avro_codec import decode_event
from trainledger_schemas.blob_references import NAMING_EVENTS, named_blobs
from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import CorruptDataError, FatalError
from trainledger_schemas.events import TOPIC_RUNS
from trainledger_schemas.ids import id_text
from trainledger_schemas.shared_blobs import MarksLooked, register_uploader
from trainledger_schemas.spool import Frame
from trainledger_schemas.spool_reader import SpoolReader
from trainledger_schemas.structured_log import Repeats, say

__all__ = ["BlobUploader", "RunsLog", "make_uploader", "runs_log"]

READ_BYTES_MAX = 1 << 20
IDLE_S = 0.5
FIRST_RETRY_S = 1.0
SETTLE_S = 10.0
GIVE_UP_S = 5.0
LEAVE_S = 2.0


@dataclass(frozen=True, slots=True)
class RunsLog:
    """Topic runs of this spool, as the uploader uses it from its thread.

    readable_end   up to where events are in the log that a garbage collection reads
    spooled_end    up to where they are in the spool, on disk
    append         append an event (type, fields, key), durably
    read_claims    bring all that journals hold into the spool
    """

    readable_end: Callable[[], int]
    spooled_end: Callable[[], int]
    append: Callable[[str, Mapping[str, Any], bytes], object]
    read_claims: Callable[[], None]


@dataclass(slots=True)
class _Taken:
    """Some events in their order, up to `end`, and what they name on its way to the store."""

    end: int
    work: deque[tuple[Mapping[str, Any], Sending]]
    marks: MarksLooked | None = None


class BlobUploader:
    """One thread; `start` once, `stop` once. One-shot commands begin by `finish`."""

    def __init__(
        self,
        spool: Spool,
        local: UserBlobs,
        *,
        settings: BlobSettings,
        log: RunsLog,
        clock: Clock,
    ) -> None:
        """Use `start` afterwards."""
        self._cursor = spool.folder / CURSOR_FILE
        self._identity = spool.identity
        self._local = local
        self._settings = settings
        self._log = log
        self._clock = clock
        self._repeats = Repeats(clock)
        self._reader = SpoolReader(spool.folder, TOPIC_RUNS)
        self._position = load_cursor(self._cursor, self._reader.begin())
        self._saved = self._position
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._free_at_ns = 0
        self._thread = threading.Thread(target=self._run, name="trainledger-blobs", daemon=True)
        self._sender: BlobSender | None = None
        self._taken: _Taken | None = None
        self._backlog = Backlog(spool.folder)
        self._trouble = TroubleFile(spool.folder, clock)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def finish(self, end: int, timeout_s: float) -> bool:
        """Wait until everything below an offset of topic runs is dealt with, starting if need be; whether it is.

        Gives up after GIVE_UP_S of trouble in a row, or `timeout_s`."""
        if not self.is_caught_up(end) and self._thread.ident is None:
            self.start()
        begin_ns = calm_ns = self._clock.monotonic_ns()
        self.wake()
        while not self.is_caught_up(end):
            now_ns = self._clock.monotonic_ns()
            calm_ns = calm_ns if self.trouble else now_ns
            if now_ns - begin_ns > timeout_s * 1e9 or now_ns - calm_ns > GIVE_UP_S * 1e9:
                what = f"blobs are not all in {self._settings.address} yet; run `trainledger sync` again"
                say(logging.WARNING, what, {"why": self.trouble})
                return False
            self._clock.sleep(0.05)
        return True

    def wake(self) -> None:
        """Say that there may be something new; harmless at any time."""
        self._wake.set()

    def stop(self, timeout_s: float = LEAVE_S) -> None:
        """End after the blob under way, or leave the thread behind after `timeout_s`: what it did is kept."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._sender is not None:
            self._sender.close()

    @property
    def trouble(self) -> str:
        """Why nothing can be sent now; empty while all is well."""
        return self._trouble.why

    @property
    def stored_blobs(self) -> int:
        """Blobs that were seen in the store, sent or there, since the start."""
        return 0 if self._sender is None else self._sender.stored_blobs

    @property
    def sent_bytes(self) -> int:
        """Bytes that were sent since the start."""
        return 0 if self._sender is None else self._sender.sent_bytes

    def pending(self) -> Pending:
        """What waits to be sent; from any thread. Reads what was spooled since the last call."""
        pending = self._backlog.look(self._saved, self._log.spooled_end())
        taken = self._taken
        reports = [] if taken is None else [sending.report for _, sending in tuple(taken.work)]
        return pending.less(sum(item.blobs for item in reports), sum(item.size_bytes for item in reports))

    @property
    def saved(self) -> int:
        """Up to where topic runs is dealt with, as the cursor on disk says: below it nothing is read again."""
        return self._saved

    def is_caught_up(self, end: int) -> bool:
        """Whether everything below an offset of topic runs is dealt with."""
        return self._saved >= end

    def _run(self) -> None:
        retry_s = FIRST_RETRY_S
        while not self._stopping.is_set():
            seen = self.stored_blobs
            try:
                if not self._round() and not self._free():
                    self._wake.wait(IDLE_S)
                    self._wake.clear()
                retry_s = FIRST_RETRY_S
                self._trouble.over()
            except FatalError as error:
                self._trouble.say(str(error))
                say(logging.ERROR, f"sending blobs stopped: {error}")
                return
            except Exception as error:
                # Whatever it is, the store, the disk or the client: the events and the local blobs are still there.
                self._trouble.say(str(error))
                if self._stopping.is_set():
                    return
                if self._repeats.is_due(type(error).__name__):
                    say(logging.WARNING, f"blobs cannot be sent now; trying again: {error}")
                retry_s = FIRST_RETRY_S if self.stored_blobs > seen else retry_s
                self._stopping.wait(retry_s)
                retry_s = min(retry_s * 2, self._settings.retry_s_max)

    def _round(self) -> bool:
        """Deal with some events; False when there are none."""
        if self._taken is None:
            end = self._log.readable_end()
            begin = max(self._position, self._reader.begin())
            frames = self._reader.read(begin, end=end, bytes_max=READ_BYTES_MAX) if begin < end else []
            if frames:
                self._taken = _Taken(frames[-1].offset + 1, _named_in(frames))
            else:
                self._position = max(begin, end)
        taken = self._taken
        if taken is not None:
            if taken.work:
                sender = self._opened()
                taken.marks = taken.marks or sender.marks()
                if not sender.send([sending for _, sending in taken.work], taken.marks):
                    return True
            self._tell(taken)
            self._position, self._taken = taken.end, None
        if self._position != self._saved:
            write_durably(self._cursor, json.dumps({TOPIC_RUNS: self._position}).encode())
            self._saved = self._position
        return taken is not None

    def _free(self) -> bool:
        """Remove local copies above the limit, when that is due; whether any went."""
        now_ns = self._clock.monotonic_ns()
        limit = self._settings.local_bytes_max
        if limit is None or self._sender is None or now_ns < self._free_at_ns:
            return False
        self._free_at_ns = now_ns + round(self._settings.free_interval_s * 1e9)
        freed = free_copies(self._local, self._sender.store, bytes_max=limit, settle=self._settle)
        if freed:
            say(logging.INFO, "local copies of blobs that are in the store were removed", {"bytes": freed})
        return freed > 0

    def _settle(self) -> bool:
        """Read all claims and deal with what they name; False when that takes longer than SETTLE_S."""
        self._log.read_claims()
        end = self._log.spooled_end()
        give_up_ns = self._clock.monotonic_ns() + round(SETTLE_S * 1e9)
        while self._position < end:
            if not self._round() and self._position < end:
                self._clock.sleep(0.05)  # the broker has yet to take them
            if self._clock.monotonic_ns() > give_up_ns or self._stopping.is_set():
                return False
        return True

    def _tell(self, taken: _Taken) -> None:
        """Say in the log where the blobs of each event lie. What was said is not said again in another try."""
        while taken.work:
            record, sending = taken.work[0]
            report = sending.report
            fields = {
                "run_id": record["run_id"],
                "writer_id": record["writer_id"],
                "at_us": self._clock.wall_ns() // 1000,
                "sha256": sending.named.sha256,
                "place": str(self._settings.address),
                "blobs": report.blobs,
                "new_bytes": report.new_bytes,
                "missing": report.missing,
                "reasons": report.reasons,
            }
            self._log.append("blobs_stored", fields, record["run_id"])
            taken.work.popleft()

    def _opened(self) -> BlobSender:
        if self._sender is None:
            # Loaded here: the client of S3 takes 0.3 s, and most nodes never need it.
            from trainledger_schemas.s3_objects import S3Objects

            objects = S3Objects(self._settings.address)
            about = {"place": objects.place, "conditional_puts": objects.probe()}
            register_uploader(objects, id_text(self._identity.producer_id), self._identity.node_id)
            say(logging.INFO, "blobs are sent", dict(about))
            self._sender = BlobSender(
                self._local, objects, settings=self._settings, clock=self._clock, stopping=self._stopping
            )
        return self._sender


def runs_log(
    spool: Spool, published_end: Callable[[], int] | None, read_claims: Callable[[], None]
) -> RunsLog:
    """Topic runs of a spool. With Kafka an event is in the log once the broker has acknowledged it: `published_end`."""

    def spooled_end() -> int:
        return spool.synced_end(TOPIC_RUNS)

    return RunsLog(
        readable_end=lambda: min(spooled_end(), published_end()) if published_end else spooled_end(),
        spooled_end=spooled_end,
        append=lambda name, fields, key: spool.append(name, fields, key=key),
        read_claims=read_claims,
    )


def make_uploader(
    log: RunsLog,
    spool: Spool,
    local: UserBlobs,
    *,
    settings: BlobSettings,
    clock: Clock,
) -> BlobUploader:
    """An uploader of the blobs beside the journals of a node; not started."""
    return BlobUploader(spool, local, settings=settings, log=log, clock=clock)


def _named_in(frames: list[Frame]) -> deque[tuple[Mapping[str, Any], Sending]]:
    found: deque[tuple[Mapping[str, Any], Sending]] = deque()
    for frame in frames:
        try:
            event = decode_event(frame.payload)
        except CorruptDataError:
            continue  # ingest says so; it names no blob that could be read
        if event.type in NAMING_EVENTS:
            found += [(event.record, Sending(named)) for named in named_blobs(event.type, event.record)]
    return found
