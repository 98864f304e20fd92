"""The journals in volumes of pods, read beside those of the node's own folder.

    <kubelet>/pods/<uid>/volumes/kubernetes.io~empty-dir/trainledger-journals/<user id>/<journal>

A pod that mounts an emptyDir of that name at /var/lib/trainledger/journals needs no other right on the node. Each
volume is a folder of journals with a collector and a lock of its own; the cursors are those of the spool. The kubelet
removes the volume soon after the last container ended: what was written is read as long as it can be, and
TRAINLEDGER_FINISH_WAIT_S makes the training wait until it is.

Limits: pods with users of their own (`hostUsers: false`) are refused: their files belong to other users than their
folders say. Blobs in such a volume last as long as the pod, unless they are sent to a store (TRAINLEDGER_BLOBS).
"""

import logging
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from trainledger.node.collect_report import CollectReport
from trainledger.node.collector import Collector, CollectorSettings, LiveWriter
from trainledger.node.cursor import JournalCursors
from trainledger.node.identity import NodeIdentity
from trainledger.node.reader_lock import ReaderLock, acquire
from trainledger.node.spool import Spool
from trainledger.node.user_blobs import UserBlobs
from trainledger_schemas.clock import Clock
from trainledger_schemas.errors import HomeLockedError
from trainledger_schemas.structured_log import Repeats, say

__all__ = ["VOLUME", "PodJournals", "open_journals", "pod_volumes"]

VOLUME = "trainledger-journals"
_ABOVE = Path("volumes") / "kubernetes.io~empty-dir"
REPEAT_S = 3600.0


def open_journals(
    node_folder: Path,
    spool: Spool,
    *,
    clock: Clock,
    identity: NodeIdentity,
    pods: Path | None = None,
) -> "PodJournals":
    """What collects the journals of a node; `pods`: the kubelet's folder of pods, if theirs are read too."""
    cursors = JournalCursors(spool.folder)

    def make(folder: Path) -> Collector:
        settings = CollectorSettings()
        return Collector(folder, spool, clock=clock, settings=settings, identity=identity, cursors=cursors)

    def lock(folder: Path) -> ReaderLock:
        return acquire(folder, "agent", home=spool.folder.parent, wait_s=0, clock=clock)

    return PodJournals(make(node_folder), cursors, make=make, lock=lock, pods=pods, clock=clock)


def pod_volumes(pods: Path) -> list[Path]:
    """The volumes of journals that there are now; never raises."""
    try:
        found = sorted(pods.iterdir())
    except OSError:
        return []
    volumes = (pod / _ABOVE / VOLUME for pod in found)
    return [volume for volume in volumes if volume.is_dir() and not volume.is_symlink()]


class PodJournals:
    """Collects like a `Collector`: from the node's folder first, then from each pod's volume, if any are read."""

    def __init__(
        self,
        main: Collector,
        cursors: JournalCursors,
        *,
        make: Callable[[Path], Collector],
        lock: Callable[[Path], ReaderLock],
        pods: Path | None,
        clock: Clock,
    ) -> None:
        """Use `open_journals`."""
        self._main = main
        self._cursors = cursors
        self._make = make
        self._lock = lock
        self._folder = None if pods is None else pods.resolve()
        self._repeats = Repeats(clock, REPEAT_S)
        self._pods: dict[Path, tuple[Collector, ReaderLock | None]] = {}

    def collect(self, *, drain: bool = False) -> CollectReport:
        """As `Collector.collect`, over all folders."""
        report = self._main.collect(drain=drain)
        if self._folder is None:
            return report
        volumes = set(pod_volumes(self._folder))
        wanted = volumes | self._unfinished()
        for volume in sorted(wanted - self._pods.keys()):
            self._take(volume, is_there=volume in volumes)
        for collector, _ in list(self._pods.values()):
            _add(report, collector.collect(drain=drain))
        for volume in self._pods.keys() - volumes - self._unfinished():
            self._let_go(volume)
        return report

    def live_writers(self) -> list[LiveWriter]:
        """The writers that lived in the last pass, of all folders."""
        collectors = [self._main, *(collector for collector, _ in self._pods.values())]
        return [writer for collector in collectors for writer in collector.live_writers()]

    def folders(self) -> list[Path]:
        """The volumes that are read now; from any thread."""
        return sorted(self._pods)

    def blobs(self) -> UserBlobs:
        """The blobs beside all these journals."""
        return UserBlobs(self._main.node_folder, self.folders)

    def close(self) -> None:
        """As `Collector.close`, and let the volumes go."""
        for volume in list(self._pods):
            self._let_go(volume)
        self._main.close()

    def _unfinished(self) -> set[Path]:
        """Volumes of which a writer was seen whose end was not told; the pod may be gone meanwhile."""
        top = f"{self._folder}/"
        entries = list(self._cursors.entries.values())
        return {Path(item.folder) for item in entries if item.folder.startswith(top) and not item.finished}

    def _take(self, volume: Path, *, is_there: bool) -> None:
        try:
            # Of a volume that is gone there is nothing to lock: only what became of its writers is to be told.
            lock = self._lock(volume) if is_there else None
        except (HomeLockedError, OSError) as error:  # a pod that reads it itself, or one that ends just now
            if self._repeats.is_due(str(volume)):
                what = "the journals of a pod are left alone"
                say(logging.WARNING, what, {"folder": str(volume), "why": str(error)})
            return
        self._pods[volume] = (self._make(volume), lock)

    def _let_go(self, volume: Path) -> None:
        collector, lock = self._pods.pop(volume)
        collector.close()
        if lock is not None:
            lock.release()


def _add(total: CollectReport, more: CollectReport) -> None:
    for item in fields(CollectReport):
        old, new = getattr(total, item.name), getattr(more, item.name)
        setattr(total, item.name, old and new if isinstance(old, bool) else old + new)
