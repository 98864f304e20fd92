"""Which devices each process of a run was on so far, and which it was told to use: told when it becomes more.

What the driver lists is what counts. Before a process is on a device, `named` says what CUDA_VISIBLE_DEVICES names:
a wish, which is evidence for this and for nothing else. Its indexes are only read where they can mean but one thing:
outside of jobs and containers, which number what they see from 0, or where the job has one device.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from trainledger.node.gpu import GpuDevice
from trainledger.node.gpu_account import Occupant
from trainledger.node.processes import WriterProcess
from trainledger.node.reservations import JobKey, Reservation
from trainledger.node.slurm_jobs import read_environment
from trainledger.node.visible_devices import names_by_uuid, visible_devices
from trainledger_schemas.clock import Clock

__all__ = ["JobsOfWriters", "WriterDevices", "named_devices"]

Fields = Mapping[str, object]
VARIABLE = "CUDA_VISIBLE_DEVICES"


class JobsOfWriters(Protocol):
    """In which job a process is, (pid, start in ticks since boot), and what that reserved."""

    def job_of(self, mark: tuple[int, int]) -> JobKey | None: ...
    def reservation_of(self, mark: tuple[int, int]) -> Reservation | None: ...


@dataclass(slots=True)
class _Known:
    used: set[str] = field(default_factory=set)
    named: list[str] | None = None
    told: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))


class WriterDevices:
    """Makes `writer_devices` events."""

    def __init__(
        self, clock: Clock, jobs: JobsOfWriters | None = None, *, proc: Path = Path("/proc")
    ) -> None:
        self._clock = clock
        self._jobs = jobs
        self._proc = proc
        self._known: dict[bytes, _Known] = {}

    def observe(
        self,
        writers: Sequence[WriterProcess],
        occupants: Iterable[Occupant],
        devices: Sequence[GpuDevice] | None,
    ) -> list[Fields]:
        """Events of the live writers of which there is more to tell; `devices` None: not known yet."""
        if not devices:
            return []
        self._known = {writer.writer_id: self._known.get(writer.writer_id, _Known()) for writer in writers}
        for item in occupants:
            holder = item.holder
            known = self._known.get(holder.writer_id or b"") if holder is not None else None
            if known is not None:
                known.used.add(item.place.part_id or item.place.device_id)
        events: list[Fields] = []
        for writer in writers:
            known = self._known[writer.writer_id]
            if known.named is None:
                known.named = self._named(writer, devices)
            now = (sorted(known.used), known.named)
            if now != known.told:
                known.told = now
                ids = {"run_id": writer.run_id, "writer_id": writer.writer_id}
                at_us = self._clock.wall_ns() // 1000
                events.append(ids | {"at_us": at_us, "device_ids": now[0], "named_ids": now[1]})
        return events

    def _named(self, writer: WriterProcess, devices: Sequence[GpuDevice]) -> list[str]:
        if writer.pid <= 0:
            return []
        mark = (writer.pid, writer.start_ticks)
        value = read_environment(self._proc / str(writer.pid) / "environ").get(VARIABLE)
        job = None if self._jobs is None else self._jobs.job_of(mark)
        reservation = None if self._jobs is None else self._jobs.reservation_of(mark)
        return named_devices(value, devices, job=job, reservation=reservation)


def named_devices(
    value: str | None,
    devices: Sequence[GpuDevice],
    *,
    job: JobKey | None = None,
    reservation: Reservation | None = None,
) -> list[str]:
    """UUIDs of the devices and MIG instances that a value of CUDA_VISIBLE_DEVICES names; none where it may mean others.

    `job`: the process's, which may hide devices from it; `reservation`: what that job has. Pure."""
    if value is None:
        return []
    reserved = () if reservation is None else reservation.devices
    if not names_by_uuid(value):
        if len(reserved) == 1 and value.strip():
            return [reserved[0].part_id or reserved[0].device_id]
        if job is not None and job.scheduler != "systemd":
            return []
    places = visible_devices(value, devices)
    if reserved:
        mine = {(item.device_id, item.part_id) for item in reserved}
        places = [place for place in places if (place.device_id, place.part_id) in mine]
    return [place.part_id or place.device_id for place in places]
