"""The node agent: reads journals, measures the node, says that it is there, and publishes if it is told to.

The composition root of the agent's parts. `up` turns it by `step` between its other work, `trainledger agent`
by `run`; one-shot commands use `one_shot`, which writes what the journals say and never that anybody watched the
node: the time before `up` was started stays unobserved.

Guarantees: when `drain` returns, everything written to a journal before the call is in the spool and on disk,
with the measurements up to the call. A clean stop ends with a `node_present` that says so. Whatever the broker
does, collecting goes on. `step`, `drain` and `close` may be called from different threads.
Limits: one agent a spool and one reader a journal folder, each under its lock.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainledger.node.blob_upload import BlobUploader, make_uploader, runs_log
from trainledger.node.collector import CollectReport
from trainledger.node.driver_change import DriverChange
from trainledger.node.foreign_spool import mark_given_away
from trainledger.node.identity import NodeIdentity, load_identity
from trainledger.node.kubernetes.pod_journals import PodJournals, open_journals
from trainledger.node.node_settings import AgentSettings, KafkaSettings
from trainledger.node.node_watch import NodeWatch
from trainledger.node.reader_lock import ReaderKind, ReaderLock, acquire
from trainledger.node.sampler import NodeEvent
from trainledger.node.spool import Spool
from trainledger_schemas.clock import Clock, SystemClock
from trainledger_schemas.errors import FatalError, RetryableError
from trainledger_schemas.events import TOPIC_RUNS
from trainledger_schemas.structured_log import Repeats, say

if TYPE_CHECKING:
    from trainledger.node.publisher import Publisher

__all__ = ["AgentStatus", "NodeAgent", "spool_folder"]

SECOND_NS = 1_000_000_000
LEAVE_PUBLISH_S = 5.0
CONNECT_WAIT_S = 10.0
ERROR_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """Counts since the start, and what is so now."""

    live_writers: int
    journals_read: int
    points: int
    bytes_read: int
    events: int
    failures: int
    spool_bytes: int
    unpublished: int


class NodeAgent:
    """One agent on one spool and one journal folder; made by `open`, ended by `close`."""

    def __init__(
        self,
        *,
        spool: Spool,
        collector: PodJournals,
        watch: NodeWatch | None,
        clock: Clock,
        settings: AgentSettings,
        identity: NodeIdentity,
    ) -> None:
        """Use `open`; this is for it alone."""
        self.spool = spool
        self.identity = identity
        self.publisher: Publisher | None = None
        self.uploader: BlobUploader | None = None
        self._collector = collector
        self._watch = watch
        self._clock = clock
        self._settings = settings
        self._lock: ReaderLock | None = None
        self._turn = threading.RLock()
        self._key = identity.node_id.encode()
        self._polled_ns: int | None = None
        self._dropped_ns = 0
        self._drops_published = False
        self._repeats = Repeats(clock)
        self._counts = {"journals": 0, "points": 0, "bytes": 0, "events": 0, "failures": 0}
        self._is_closed = False
        self._leave_publish_s = LEAVE_PUBLISH_S

    @classmethod
    def open(
        cls,
        home: Path,
        node_folder: Path,
        *,
        kind: ReaderKind,
        settings: AgentSettings | None = None,
        clock: Clock | None = None,
    ) -> "NodeAgent":
        """Take the journal folder and the spool `<home>/spool`, and be ready for `step`.

        An agent that stays (`up`, `agent`) is seen from now on: it spools its first `node_present`. Raises
        HomeLockedError, which names the pid, when another process reads the folder or owns the spool;
        SettingsError; OSError when a folder cannot be used.
        """
        settings = settings or AgentSettings.from_env()
        clock = clock or SystemClock()
        node_folder.mkdir(parents=True, exist_ok=True)
        lock = acquire(node_folder, kind, home=home, wait_s=settings.lock_wait_s, clock=clock)
        try:
            identity = load_identity(home / "spool", node_id=settings.node_id)
            spool = Spool.open(
                spool_folder(home),
                identity=identity,
                clock=clock,
                settings=settings.spool,
                kind=kind,
                wait_s=settings.lock_wait_s,
            )
            try:
                agent = cls._assemble(
                    spool, identity, node_folder=node_folder, kind=kind, settings=settings, clock=clock
                )
            except BaseException:
                spool.close()
                raise
        except BaseException:
            # Also for KeyboardInterrupt: the folder must not stay locked in a process that lives on.
            lock.release()
            raise
        agent._lock = lock
        return agent

    @classmethod
    def _assemble(
        cls,
        spool: Spool,
        identity: NodeIdentity,
        *,
        node_folder: Path,
        kind: ReaderKind,
        settings: AgentSettings,
        clock: Clock,
    ) -> "NodeAgent":
        pods = settings.kubelet.pods if kind == "agent" else None
        collector = open_journals(node_folder, spool, clock=clock, identity=identity, pods=pods)
        stays = kind != "one-shot"
        agent = cls(
            spool=spool,
            collector=collector,
            watch=NodeWatch(identity=identity, clock=clock, settings=settings) if stays else None,
            clock=clock,
            settings=settings,
            identity=identity,
        )
        # Embedded, the spool is the log that `rebuild` reads: what is published stays there.
        agent._drops_published = kind == "agent"
        if settings.kafka is not None and kind == "agent":
            mark_given_away(spool.folder)
        if settings.kafka is not None and stays:
            agent.publisher = _make_publisher(spool, settings.kafka, clock)
        agent._arrive()
        if agent.publisher is not None:
            agent.publisher.start()
        if settings.blobs is not None:
            published = None if settings.kafka is None else agent._published_end
            log = runs_log(spool, published, agent._read_claims)
            agent.uploader = make_uploader(
                log, spool, collector.blobs(), settings=settings.blobs, clock=clock
            )
            if stays:
                agent.uploader.start()
        return agent

    def _published_end(self) -> int:
        return 0 if self.publisher is None else self.publisher.published().get(TOPIC_RUNS, 0)

    def _read_claims(self) -> None:
        with self._turn:
            if self._is_closed:
                raise RetryableError("the agent is ending")
            self._count(self._collector.collect(drain=True))
            self.spool.sync()

    def step(self) -> None:
        """Do what is due: read journals, sample, say. Returns soon; what was spooled is on disk then."""
        with self._turn:
            now_ns = self._clock.monotonic_ns()
            if (
                self._polled_ns is None
                or now_ns - self._polled_ns >= self._settings.poll_interval_s * SECOND_NS
            ):
                self._polled_ns = now_ns
                self._count(self._collector.collect())
                self._observe(now_ns)
            self.spool.sync()
            self._drop_published(now_ns)

    def run(self, stop: threading.Event, *, until: Callable[[], bool] = lambda: False) -> None:
        """Turn until `stop` is set or `until` says so. A round that fails is logged and tried again; FatalError is
        raised."""
        while not stop.wait(self._settings.loop_interval_s) and not until():
            try:
                self.step()
            except FatalError:
                raise
            except Exception as error:
                # The edge of a daemon that must outlive a full disk or a bad folder: say it, count it, go on.
                self._counts["failures"] += 1
                if self._repeats.is_due(repr(error)):
                    say(logging.ERROR, "a round failed; trying again", {"why": repr(error)}, error=error)
                stop.wait(ERROR_PAUSE_S)

    def drain(self) -> None:
        """Bring everything written before this call into the spool, with the node's measurements up to now."""
        with self._turn:
            self._count(self._collector.collect(drain=True))
            self._flush(leaving=False)
            self.spool.sync()

    def one_shot(self) -> CollectReport:
        """Read what the journals hold, once; says nothing about the node."""
        with self._turn:
            report = self._collector.collect(drain=True)
            self._count(report)
            self.spool.sync()
            return report

    def publish(self, timeout_s: float) -> bool:
        """Wait until the broker has everything that is spooled now; whether it has. True without Kafka.

        Gives up early when no broker is reached within CONNECT_WAIT_S. A one-shot begins to publish here: what it
        does else needs no broker."""
        if self.publisher is None:
            if self._settings.kafka is None:
                return True
            self.publisher = _make_publisher(self.spool, self._settings.kafka, self._clock)
            self.publisher.start()
        begin_ns = self._clock.monotonic_ns()
        self.publisher.wake()
        while not self.publisher.is_caught_up():
            passed_s = (self._clock.monotonic_ns() - begin_ns) / SECOND_NS
            is_hopeless = passed_s >= CONNECT_WAIT_S and not self.publisher.status().is_connected
            if self.publisher.failure is not None or passed_s >= timeout_s or is_hopeless:
                self._leave_publish_s = 0.0  # `close` need not try what was just tried in vain
                return False
            self._clock.sleep(0.05)
        return True

    def upload(self, timeout_s: float) -> bool:
        """Wait until the blobs that events name are in the store, where one is set; whether they are."""
        return self.uploader is None or self.uploader.finish(self.spool.synced_end(TOPIC_RUNS), timeout_s)

    def close(self, *, leaving: bool = True) -> None:
        """Read and measure a last time, say goodbye (`leaving`), let go of everything. A repeat does nothing."""
        with self._turn:
            if self._is_closed:
                return
            self._is_closed = True
            try:
                if self._watch is not None:
                    self._count(self._collector.collect(drain=True))
                    self._flush(leaving=leaving)
            finally:
                self._let_go()

    @property
    def failure(self) -> FatalError | None:
        """Why publishing stopped for good, if it did."""
        return None if self.publisher is None else self.publisher.failure

    def driver_change(self, restarted_for: str | None) -> DriverChange:
        """To ask whether this process must begin anew; `restarted_for`: what it was told of why it did before."""
        watch = self._watch
        return DriverChange(
            self._settings.nvidia_driver,
            self._clock,
            restarted_for=restarted_for,
            is_library_lost=lambda: watch is not None and watch.sampler.has_lost_gpu_library,
        )

    def status(self) -> AgentStatus:
        """Counts for metrics; from any thread."""
        published = self.publisher.published() if self.publisher is not None else {}
        return AgentStatus(
            live_writers=len(self._collector.live_writers()),
            journals_read=self._counts["journals"],
            points=self._counts["points"],
            bytes_read=self._counts["bytes"],
            events=self._counts["events"],
            failures=self._counts["failures"],
            spool_bytes=self.spool.used_bytes(),
            unpublished=sum(self.spool.synced_end(topic) - end for topic, end in published.items()),
        )

    def _arrive(self) -> None:
        if self._watch is None:
            return
        # The sampler began before this: the first usage window covers the node's presence from its first moment.
        # Where there are GPUs their list follows as soon as the driver gave it.
        self._append([("node_present", self._watch.presence.say([])), *self._watch.sampler.new_devices()])

    def _observe(self, now_ns: int) -> None:
        watch = self._watch
        if watch is None:
            return
        writers = self._collector.live_writers()
        events = list(watch.sampler.tick(now_ns, writers))
        events += watch.held(writers)
        if watch.presence.is_due(now_ns):
            events.append(("node_present", watch.presence.say(writers)))
        self._append(events)

    def _flush(self, *, leaving: bool) -> None:
        watch = self._watch
        if watch is None:
            return
        writers = self._collector.live_writers()
        now_ns, is_last = self._clock.monotonic_ns(), self._is_closed
        events = list(watch.sampler.flush(now_ns, writers, is_last=is_last))
        # Present up to where it was measured and no further: what lies behind would be billed as unknown.
        at_us = watch.sampler.window_end_us if events else None
        events += watch.held(writers)
        events.append(("node_present", watch.presence.say(writers, leaving=leaving, at_us=at_us)))
        self._append(events)

    def _append(self, events: Iterable[NodeEvent]) -> None:
        with self.spool.batch():
            for type_name, fields in events:
                run_id = fields.get("run_id")
                self.spool.append(type_name, fields, key=run_id if isinstance(run_id, bytes) else self._key)
                self._counts["events"] += 1

    def _count(self, report: CollectReport) -> None:
        self._counts["journals"] += report.journals_read
        self._counts["points"] += report.points
        self._counts["bytes"] += report.bytes
        for folder in report.removed:
            # The folder in the sentence too: `up` shows people nothing else.
            what = f"journal {folder} was removed by somebody else before its run ended: points may be lost"
            say(logging.WARNING, what, {"journal": str(folder)})
        if self.publisher is not None and report.bytes:
            self.publisher.wake()

    def _drop_published(self, now_ns: int) -> None:
        if self.publisher is None or not self._drops_published:
            return
        if now_ns - self._dropped_ns < self._settings.drop_interval_s * SECOND_NS:
            return
        self._dropped_ns = now_ns
        published: Mapping[str, int] = self.publisher.published()
        for topic, end in published.items():
            if topic == TOPIC_RUNS and self.uploader is not None:
                end = min(end, self.uploader.saved)
            self.spool.drop_read(topic, end)

    def _let_go(self) -> None:
        try:
            self.spool.sync()
            if self.publisher is not None:
                self.publisher.stop(self._leave_publish_s)
            if self.uploader is not None:
                self.uploader.stop()
        finally:
            if self._watch is not None:
                self._watch.close()
            self._collector.close()
            self.spool.close()
            if self._lock is not None:
                self._lock.release()


def spool_folder(home: Path) -> Path:
    """Where the spool of a home lies."""
    return home / "spool"


def _make_publisher(spool: Spool, settings: KafkaSettings, clock: Clock) -> "Publisher":
    # Loaded here: the Kafka client costs 0.3 s and 20 MB, and an embedded node never needs it.
    from trainledger.node.publisher import Publisher

    return Publisher(spool.folder, settings, synced_end=spool.synced_end, clock=clock)
