"""Brings what events name into the store of all machines: some blobs at a time, each document before what it names.

`BlobSender.send` works on several events at once and keeps what is done in their `Sending`, so that a try after
trouble goes on where the last one was. Guarantees: nothing that a document names is looked for or sent before the
document is in the store (`trainledger_schemas.blob_references` says what hangs on that); the first trouble ends the
try once what is under way has ended. Limits: `at_once` blobs, and of a core the share that the settings allow.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from trainledger.node.cpu_pace import CpuPace
from trainledger.node.node_settings import BlobSettings
from trainledger.node.user_blobs import UserBlobs
from trainledger_schemas.blob_references import DOCUMENTS, Named, named_inside
from trainledger_schemas.clock import Clock, thread_cpu_ns
from trainledger_schemas.daemon_pool import DaemonPool
from trainledger_schemas.errors import CorruptDataError, NotFoundError
from trainledger_schemas.objects import Objects
from trainledger_schemas.shared_blobs import MarksLooked, SharedBlobs

__all__ = ["BlobSender", "Sending", "StoredReport"]

REASONS_MAX = 20
# Above it, work is done outside the interpreter (see BlobSettings), and a look costs less than a body sent in vain.
SMALL_BYTES_MAX = 1 << 20


@dataclass(slots=True)
class StoredReport:
    """What became of the blobs of one event so far; `size_bytes` of those that lie on this node."""

    blobs: int = 0
    size_bytes: int = 0
    new_bytes: int = 0
    missing: int = 0
    reasons: list[str] = field(default_factory=list)


class _Outcome(NamedTuple):
    is_kept: bool
    size_bytes: int = 0
    new_bytes: int = 0
    inside: Sequence[Named] = ()
    reason: str | None = None


class Sending:
    """One thing that an event names, and all that this names, on its way; for one thread."""

    def __init__(self, named: Named) -> None:
        """`named`: what the event says."""
        self.named = named
        self.report = StoredReport()
        self._waiting = deque([named])
        self._seen = {named}

    @property
    def has_waiting(self) -> bool:
        """Whether something can be taken up now; more may come of what is under way."""
        return bool(self._waiting)

    def next(self) -> Named:
        """Take up the next; `done` or `put_back` must follow."""
        return self._waiting.popleft()

    def put_back(self, item: Named) -> None:
        """It came to nothing; it is the next again."""
        self._waiting.appendleft(item)

    def done(self, outcome: _Outcome) -> None:
        """Count what became of one, and take in what it names."""
        report = self.report
        report.blobs += outcome.is_kept
        report.missing += not outcome.is_kept
        report.size_bytes += outcome.size_bytes
        report.new_bytes += outcome.new_bytes
        if outcome.reason is not None and len(report.reasons) < REASONS_MAX:
            report.reasons.append(outcome.reason)
        for item in outcome.inside:
            if item not in self._seen:
                self._seen.add(item)
                # Documents first: what waits stays short where folders are many.
                (self._waiting.appendleft if item.kind in DOCUMENTS else self._waiting.append)(item)


class BlobSender:
    """Sends to one store; used by one thread, ended by `close`. `stored_blobs`, `sent_bytes`: since it was made."""

    def __init__(
        self,
        local: UserBlobs,
        objects: Objects,
        *,
        settings: BlobSettings,
        clock: Clock,
        stopping: threading.Event,
    ) -> None:
        """`stopping`: when it is set, nothing more is taken up."""
        self.store = SharedBlobs(objects)
        self.stored_blobs = 0
        self.sent_bytes = 0
        self._local = local
        self._objects = objects
        self._stopping = stopping
        self._pace = CpuPace(settings.cpu_share_max, clock=clock, wait=stopping.wait)
        self._pool = DaemonPool[tuple[Sending, Named, _Outcome | Exception]](
            settings.at_once, "trainledger-blob"
        )
        # What is named in one event is mostly all new, or all there.
        self._are_new = True

    def marks(self) -> MarksLooked:
        """What is condemned, for events that are in the log by now."""
        return MarksLooked(self._objects)

    def send(self, work: Sequence[Sending], marks: MarksLooked) -> bool:
        """See that all is in the store; False where it was told to stop before. Blocks; raises the first trouble."""
        trouble: Exception | None = None
        left = deque(work)
        while True:
            while left and not (self._pool.is_busy or trouble or self._stopping.is_set()):
                if left[0].has_waiting:
                    self._pool.submit(partial(self._bring, left[0], left[0].next(), marks))
                else:
                    left.popleft()
            if not self._pool.under_way:
                break
            sending, item, outcome = self._pool.take()
            if isinstance(outcome, _Outcome):
                sending.done(outcome)
                self.stored_blobs += outcome.is_kept
                self.sent_bytes += outcome.new_bytes
                if outcome.inside:
                    left.append(sending)
            else:
                sending.put_back(item)
                trouble = trouble or outcome
        if trouble is not None:
            raise trouble
        return not any(sending.has_waiting for sending in work)

    def close(self) -> None:
        """Let the threads go; one that waits for the store ends later."""
        self._pool.close()

    def _bring(
        self, sending: Sending, item: Named, marks: MarksLooked
    ) -> tuple[Sending, Named, _Outcome | Exception]:
        begin_ns = thread_cpu_ns()
        try:
            outcome = self._store_one(item, marks)
        except Exception as error:  # raised by `send`, when the others have ended
            return sending, item, error
        if outcome.size_bytes <= SMALL_BYTES_MAX:
            self._pace.pay(thread_cpu_ns() - begin_ns)
        return sending, item, outcome

    def _store_one(self, item: Named, marks: MarksLooked) -> _Outcome:
        """Raises RetryableError."""
        size = sent = 0
        try:
            with self._local.path_to(item.sha256) as path:
                if path is None:
                    if not self.store.revive(item.sha256):
                        why = f"sha256:{item.sha256} is neither on this node nor in {self.store.place}"
                        return _Outcome(is_kept=False, reason=why)
                else:
                    size = path.stat().st_size
                    looks_first = size > SMALL_BYTES_MAX or not self._are_new
                    sent = self.store.keep(path, item.sha256, size, marks=marks, looks_first=looks_first)
                    self._are_new = sent > 0
        except CorruptDataError as error:
            return _Outcome(is_kept=False, reason=str(error))
        if item.kind not in DOCUMENTS:
            return _Outcome(True, size, sent)
        try:
            return _Outcome(True, size, sent, named_inside(item, self._read(item.sha256)))
        except (NotFoundError, CorruptDataError) as error:
            # What it names nobody can say.
            return _Outcome(
                True, size, sent, reason=f"sha256:{item.sha256} names what cannot be read: {error}"
            )

    def _read(self, sha256: str) -> bytes:
        try:
            return self._local.read(sha256)
        except (NotFoundError, CorruptDataError):
            return self.store.read(sha256)
