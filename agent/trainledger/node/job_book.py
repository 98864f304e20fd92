"""The jobs of this node and what they reserved: processes and sources together, brought up to date by each look."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from trainledger.node.gpu import GpuDevice
from trainledger.node.group_limits import GroupLimits
from trainledger.node.kubernetes.places import KubeletPlaces
from trainledger.node.kubernetes.source import KubernetesReservations
from trainledger.node.process_jobs import Mark, ProcessJobs
from trainledger.node.process_table import ProcessTable
from trainledger.node.reservations import JobKey, NodeView, Reservation, ReservationSource
from trainledger.node.slurm_jobs import SlurmJobs
from trainledger_schemas.clock import Clock

__all__ = ["JobBook", "open_job_book"]


class JobBook:
    """Who is in which job, and what each job reserved, as of the last `look`."""

    def __init__(self, processes: ProcessJobs, sources: Sequence[ReservationSource]) -> None:
        self._processes = processes
        self._sources = tuple(sources)
        self._by_job: Mapping[JobKey, Reservation] = {}

    def look(self, table: ProcessTable, devices: Sequence[GpuDevice]) -> None:
        """See who is in which job and what is reserved."""
        if not self._sources:
            return
        self._processes.look(table)
        view = NodeView(devices, self._processes.by_job(), self._processes.groups())
        self._by_job = {item.job: item for source in self._sources for item in source.read(view)}

    @property
    def reservations(self) -> Iterable[Reservation]:
        """What is reserved now."""
        return self._by_job.values()

    def job_of(self, mark: Mark) -> JobKey | None:
        """The job of a process."""
        return self._processes.job_of(mark)

    def reservation_of(self, mark: Mark) -> Reservation | None:
        """What the job of a process reserved; None without a job, and for daemons of a scheduler."""
        job = self._processes.job_of(mark)
        return None if job is None or self._processes.is_daemon(mark) else self._by_job.get(job)

    def close(self) -> None:
        """Let go of the sources."""
        for source in self._sources:
            source.close()


def open_job_book(
    clock: Clock, schedulers: Collection[str], *, cores: int, kubelet: KubeletPlaces | None = None
) -> JobBook:
    """The book of this machine; `schedulers`: which are asked, of SCHEDULERS. `cores`: its logical CPUs."""
    sources: list[ReservationSource] = []
    if "slurm" in schedulers:
        sources.append(SlurmJobs())
    if "kubernetes" in schedulers:
        sources.append(KubernetesReservations(clock, kubelet))
    if "limits" in schedulers:
        sources.append(GroupLimits(cores))
    return JobBook(ProcessJobs(), sources)
