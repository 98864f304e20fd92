"""Containers and units of systemd that are limited to some cores: what a run in one of them holds of the host.

Docker, Podman and systemd reserve nothing: a limit is what somebody asked for, and all that such a run can use. So a
run in a container with `--cpus 4` or `--cpuset-cpus 0-3`, or in a unit with CPUQuota or AllowedCPUs, pays for that part
of the host, used or not; without a limit it pays by its CPU time. A limit of memory keeps no memory from others and
counts for nothing, and so does a GPU that NVIDIA_VISIBLE_DEVICES or `--gpus` names: it is kept for nobody.

Only while a run is in it: a service of the system that is limited is not somebody's work.
Limits: those of the container or unit itself, not of the slices around it.
"""

from collections.abc import Mapping

from trainledger.node.group_files import GroupFiles
from trainledger.node.reservations import JobKey, NodeView, Reservation

__all__ = ["GroupLimits"]

_LIMITED = ("docker", "systemd")
_ID_CHARACTERS = 12


class GroupLimits:
    """A `ReservationSource`; `cores`: logical CPUs of the machine, and as many are no limit."""

    def __init__(self, cores: int, files: GroupFiles | None = None) -> None:
        self._millicores = 1000 * cores
        self._files = files or GroupFiles()

    def read(self, view: NodeView) -> list[Reservation]:
        """See the protocol."""
        jobs = sorted(job for job in view.processes if job.scheduler in _LIMITED)
        found = (self._reservation(job, view.groups.get(job, {})) for job in jobs)
        return [item for item in found if item is not None]

    def close(self) -> None:
        """Nothing is held."""

    def _reservation(self, job: JobKey, paths: Mapping[str, str]) -> Reservation | None:
        cpus = self._files.cpus(paths)
        limits = {
            "cpuset": None if cpus is None else 1000 * cpus,
            "quota": self._files.quota_millicores(paths),
        }
        known = {name: limit for name, limit in limits.items() if limit and limit < self._millicores}
        if not known:
            return None
        lowest = min(known, key=lambda name: known[name])
        return Reservation(
            job=job, label=_label(job), evidence=f"CPU {lowest}", millicores=known[lowest], only_for_runs=True
        )


def _label(job: JobKey) -> str:
    if job.scheduler == "docker":
        return f"container {job.name[:_ID_CHARACTERS]}"
    return f"unit {job.name.rpartition('/')[2]}"
