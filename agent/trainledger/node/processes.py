"""Who used the CPU: each run's processes, other people's processes, and the system, by window.

A run's process is a live writer of the collector or a descendant of one; a descendant that has a writer of its
own belongs to that. A process that its parent left behind (a daemon that forked twice) stays with the writer it
was seen under. All other processes of people are `untracked`, by owner; what is left of the node's busy time is
`system`: kernel, daemons, and processes of root that belong to no run. What is in a job that reserved something is
never `system`: it is a run's or the job's user's, and has the job's account.

Guarantees: a microsecond is counted for one holder; a holder's time never shrinks; a run gets no time of a process
that nobody saw, unless the process that waited for it is the run's. Limits: 10 ms clock ticks; memory is the sum of
resident sizes, in which pages that processes share count more than once; what a process used between its last look
and its end is known only when its parent waits for it, and cannot be told from what the parent's other children
used. So the last moments of a run whose parent is no run's (a shell) are untracked time of its owner: at most the
second between two looks.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from trainledger.node.gpu import GpuDevice
from trainledger.node.holder import Holder
from trainledger.node.job_book import JobBook
from trainledger.node.process_table import ProcessTable, Spent
from trainledger.node.reservations import JobKey, Reservation
from trainledger.node.writer_state import owner_name

__all__ = ["Holder", "ProcessSampler", "WriterProcess", "is_person", "owner_name"]

MICROSECONDS = 1_000_000
NOBODY = 65534
# How often a process's owner is asked for again: sshd and su start as root and then become somebody.
OWNER_LOOKS = 3
# The server of NVIDIA's process sharing holds the device for its clients, which are listed themselves.
DEVICE_SERVERS = {b"nvidia-cuda-mps"}


class WriterProcess(Protocol):
    """What is needed of a live writer; pid 0 is a process that was not found."""

    @property
    def run_id(self) -> bytes: ...
    @property
    def writer_id(self) -> bytes: ...
    @property
    def pid(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def start_ticks(self) -> int: ...


_SYSTEM = Holder("system")


def is_person(uid: int, also: Iterable[int] = ()) -> bool:
    """Whether a user id is somebody's, not a service's; `also`: ids that ran a writer (root never counts)."""
    # 61184 to 65535 are systemd's dynamic service users, nobody, and ids that are none.
    ordinary = 1000 <= uid < 61184 or uid > 65535
    return uid != 0 and (ordinary or uid in also)


class ProcessSampler:
    """Adds up CPU time and peak memory of holders; `take` ends a window."""

    def __init__(
        self,
        table: ProcessTable,
        *,
        name_of: Callable[[int], str] = owner_name,
        jobs: JobBook | None = None,
    ) -> None:
        """`jobs`: None on a machine of which no scheduler is asked."""
        self._table = table
        self._jobs = jobs
        self._name_of = name_of
        self._tick_us = MICROSECONDS // os.sysconf("SC_CLK_TCK")
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._holders: dict[tuple[int, int], Holder] = {}
        self._writers: dict[tuple[int, int], Holder] = {}
        self._owners: dict[tuple[int, int], tuple[int, int]] = {}
        self._writer_uids: set[int] = set()
        self._cpu_ticks: dict[Holder, int] = {}
        self._peak_pages: dict[Holder, int] = {}
        self._watched: list[int] = []
        self._looked_for: set[tuple[int, bytes]] = set()
        table.look()
        self._look_at_jobs(())
        self._assign({})

    def has_changed(self, writers: Sequence[WriterProcess]) -> bool:
        """Whether writers came or went since the last `look`: the next one is due at once.

        Also when one went: its process may live on, and what it does from now on is not the run's."""
        return {(writer.pid, writer.writer_id) for writer in writers} != self._looked_for

    def look(self, writers: Sequence[WriterProcess], devices: Sequence[GpuDevice] = ()) -> None:
        """Look at all processes: finds new ones, who belongs to whom, and what jobs reserved of `devices`."""
        before = self._holders
        self._looked_for = {(writer.pid, writer.writer_id) for writer in writers}
        spent = self._table.look()
        self._look_at_jobs(devices)
        self._assign(self._by_process(writers))
        self._count(spent, before)
        self._weigh()

    def look_at_runs(self) -> None:
        """Look only at the known processes of runs: cheap enough for each second."""
        self._count(self._table.look_at(self._watched), self._holders)
        self._weigh(only_runs=True)

    def holder_on_device(self, pid: int, *, computes: bool) -> Holder | None:
        """Who a process on a GPU belongs to; None when it is not among the processes seen last.

        Who computes on a GPU is never the system, not even as root: that time would look idle."""
        reading = self._table.known.get(pid)
        mark = (pid, reading.start_ticks) if reading is not None else (pid, -1)
        holder = self._holders.get(mark)
        if holder == _SYSTEM and computes and self._table.name_of(pid) not in DEVICE_SERVERS:
            return Holder("untracked", uid=self._owners[mark][0])
        return holder

    def reservations(self) -> list[Reservation]:
        """What jobs hold on this node, as of the last look."""
        return [] if self._jobs is None else list(self._jobs.reservations)

    def runs_by_job(self) -> dict[JobKey, list[Holder]]:
        """The runs whose processes are in each job, as of the last look."""
        found: dict[JobKey, list[Holder]] = {}
        for mark, holder in self._writers.items():
            job = self._jobs.job_of(mark) if self._jobs is not None and mark in self._holders else None
            if job is not None:
                found.setdefault(job, []).append(holder)
        return found

    def close(self) -> None:
        """Let go of what tells of jobs."""
        if self._jobs is not None:
            self._jobs.close()

    def take(self, busy_us: int) -> list[dict[str, object]]:
        """The usage of the window as fields of a `process_usage` event; `busy_us`: CPU time of the node in it."""
        holders = {holder for holder in self._holders.values() if holder.kind == "run"} | set(self._cpu_ticks)
        holders.discard(_SYSTEM)
        usage = [self._usage(holder, self._cpu_ticks.get(holder, 0) * self._tick_us) for holder in holders]
        usage.sort(key=_usage_order)
        used_us = sum(ticks for holder, ticks in self._cpu_ticks.items() if holder != _SYSTEM) * self._tick_us
        usage.append(self._usage(_SYSTEM, max(0, busy_us - used_us)))
        self._cpu_ticks.clear()
        self._peak_pages.clear()
        return usage

    def _look_at_jobs(self, devices: Sequence[GpuDevice]) -> None:
        if self._jobs is not None:
            self._jobs.look(self._table, devices)

    def _assign(self, writers: dict[tuple[int, int], Holder]) -> None:
        self._writers = writers
        self._writer_uids.update(holder.uid for holder in writers.values() if holder.uid)
        live = set(writers.values())
        # A process left behind by its parent: the chain above it no longer leads to the writer it belongs to.
        left_behind = {mark: holder for mark, holder in self._holders.items() if holder in live}
        assigned: dict[tuple[int, int], Holder] = {}
        owners: dict[tuple[int, int], tuple[int, int]] = {}
        for reading in self._table.known.values():
            mark = (reading.pid, reading.start_ticks)
            uid, looks = self._owners.get(mark, (0, 0))
            if looks < OWNER_LOOKS:
                uid = self._table.owner_of(reading.pid) or 0
            owners[mark] = (uid, looks + 1)
            holder = None
            if writers:
                chain = [(item.pid, item.start_ticks) for item in (reading, *self._table.ancestors(reading))]
                holder = _first(chain, writers) or _first(chain, left_behind)
            assigned[mark] = holder or self._holder_without_run(mark, uid)
        self._holders = assigned
        self._owners = owners
        self._watched = self._choose_watched()

    def _holder_without_run(self, mark: tuple[int, int], uid: int) -> Holder:
        reservation = None if self._jobs is None else self._jobs.reservation_of(mark)
        if reservation is not None and not reservation.only_for_runs:
            return Holder("untracked", uid=reservation.uid, account=reservation.account)
        return Holder("untracked", uid=uid) if is_person(uid, self._writer_uids) else _SYSTEM

    def _by_process(self, writers: Sequence[WriterProcess]) -> dict[tuple[int, int], Holder]:
        """Live writers by process; of two journals of one process, the one that was opened last."""
        found: dict[tuple[int, int], Holder] = {}
        for writer in writers:
            if writer.pid > 0:
                mark = (writer.pid, writer.start_ticks)
                reservation = None if self._jobs is None else self._jobs.reservation_of(mark)
                account = None if reservation is None else reservation.account
                found[mark] = Holder("run", writer.run_id, writer.writer_id, writer.uid, account)
        return found

    def _choose_watched(self) -> list[int]:
        """Processes of runs, and the parents that will wait for them."""
        watched = {pid for (pid, _), holder in self._holders.items() if holder.kind == "run"}
        parents = {self._table.known[pid].parent for pid in watched}
        return sorted(watched | (parents & self._table.known.keys()))

    def _count(self, spent: list[Spent], before: dict[tuple[int, int], Holder]) -> None:
        for item in spent:
            mark = (item.pid, item.start_ticks)
            now, old = self._holders.get(mark), before.get(mark)
            # A process that was a run's at either end was a run's in between: it begins with its first look,
            # and what it used up to the moment when its journal closed is still the run's.
            holder = now if now and now.kind == "run" and not (old and old.kind == "run") else old or now
            if item.unseen_of is not None:
                waiter = before.get(item.unseen_of) or self._holders.get(item.unseen_of)
                holder = self._holder_of_unseen(holder, waiter)
            if holder is not None:
                self._cpu_ticks[holder] = self._cpu_ticks.get(holder, 0) + item.ticks

    def _holder_of_unseen(self, dead: Holder | None, waiter: Holder | None) -> Holder | None:
        """Who gets what either the dead process or unseen children of `waiter` used: a run only if all of it is
        inside that run's tree, else the owner."""
        if waiter is not None and waiter.kind == "run":
            return waiter
        if dead is None:
            return waiter  # it died before the last look, and was waited for since
        if dead.kind != "run":
            return dead
        is_somebodys = dead.uid is not None and is_person(dead.uid, self._writer_uids)
        is_in_job = dead.account is not None
        return (
            Holder("untracked", uid=dead.uid, account=dead.account) if is_somebodys or is_in_job else _SYSTEM
        )

    def _weigh(self, *, only_runs: bool = False) -> None:
        sums: dict[Holder, int] = {}
        for mark, holder in self._holders.items():
            reading = self._table.known.get(mark[0])
            if reading is None or reading.start_ticks != mark[1] or (only_runs and holder.kind != "run"):
                continue
            sums[holder] = sums.get(holder, 0) + reading.resident
        for holder, pages in sums.items():
            self._peak_pages[holder] = max(self._peak_pages.get(holder, 0), pages)

    def _usage(self, holder: Holder, cpu_us: int) -> dict[str, object]:
        return {
            "kind": holder.kind,
            "run_id": holder.run_id,
            "writer_id": holder.writer_id,
            "owner": None if holder.uid is None else self._name_of(holder.uid),
            "cpu_us": cpu_us,
            "memory_peak_bytes": self._peak_pages.get(holder, 0) * self._page_bytes,
            "account": holder.account,
        }


def _first(chain: Iterable[tuple[int, int]], holders: Mapping[tuple[int, int], Holder]) -> Holder | None:
    return next((found for mark in chain if (found := holders.get(mark))), None)


def _usage_order(item: Mapping[str, object]) -> tuple[str, str, object, str]:
    return (str(item["kind"]), str(item["owner"]), item["writer_id"] or b"", str(item["account"]))
