"""Which job a process belongs to, by the path of its control group: SLURM, Kubernetes, containers, units of systemd.

The kernel names the group, not the process: a user cannot put a process into another job's group, and a process that
left its parents is still in it. Pure: `parse` takes the text of /proc/PID/cgroup as the host sees it.

    SLURM       v1  <controller>:/slurm[_NODE]/uid_U/job_J/step_S/task_T
                v2  /system.slice/[NODE_]slurmstepd.scope/job_J/step_S/...; from 26.05 the SLUID in place of job_J
    Kubernetes  .../kubepods[...]/...pod<uid>.../<container>; with the driver of systemd `_` stands for `-`, and a
                static pod's uid has no dashes
    containers  /docker/ID, docker-ID.scope, libpod-ID.scope and others that end in 64 hexadecimal digits
    systemd     the innermost .service or .scope; a session and a user's own manager are no jobs

Where groups are nested the first of these four counts: a container inside a job of SLURM is that job's, and a pod on a
node that is itself a container is the pod.
An agent in a pod has a cgroup namespace of its own and sees other pods from there, often with no `kubepods` above them:
`/../../kubepods-pod<uid>.slice/...`, `/../../pod<uid>/...`.
Limits: with a private cgroup namespace /proc/self/cgroup reads `0::/`; an agent in a container must see the host's
processes (hostPID).
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from trainledger.node.reservations import JobKey

__all__ = ["JobGroup", "parse"]

_SLURM_V1 = re.compile(r"^(.*/slurm(?:_[^/]+)?/uid_\d+/job_(\d+))(?=/|$)")
_SLURM_V2 = re.compile(r"^(.*/(?:[^/]+_)?slurmstepd\.scope/(?:job_(\d+)|(s[0-9A-Z]{13})))(?=/|$)")
_POD = re.compile(
    r"^((?:.*?/(?:[^/]*-)?kubepods[^/]*|(?:/\.\.)+)(?:/[^/]+)*?/(?:[^/]*-)?pod"
    r"([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?)(?=/|$)"
)
_CONTAINER = re.compile(r"^(.*?/(?:[a-z-]+-)?([0-9a-f]{64})(?:\.scope)?)(?=/|$)")
_UNIT = re.compile(r"^(.*/([^/]+\.(?:service|scope)))(?=/|$)")
_NO_JOB = re.compile(r"session-|user@|init\.scope")


class JobGroup(NamedTuple):
    """A job's control group. `paths` are the job's folders by controller; of version 2 it is the one named ""."""

    job: JobKey
    paths: dict[str, str]


def parse(text: str) -> JobGroup | None:
    """The job that these lines of /proc/PID/cgroup name, None when it is none."""
    lines = [line.split(":", 2) for line in text.splitlines()]
    places = [(fields[1], fields[2]) for fields in lines if len(fields) == 3]
    for find in (_slurm, _pod, _container, _unit):
        found = [(controllers, match) for controllers, path in places if (match := find(path)) is not None]
        if found:
            job = found[0][1][1]
            paths = {
                controller: match[0]
                for controllers, match in found
                for controller in controllers.split(",")
                if match[1] == job
            }
            return JobGroup(job, paths)
    return None


# The job's folder, and the job.
_Match = tuple[str, JobKey]
_Finder = Callable[[str], _Match | None]


def _slurm(path: str) -> _Match | None:
    old = _SLURM_V1.match(path)
    if old is not None:
        return old[1], JobKey("slurm", old[2])
    new = _SLURM_V2.match(path)
    return None if new is None else (new[1], JobKey("slurm", new[2] or new[3]))


def _pod(path: str) -> _Match | None:
    found = _POD.match(path)
    return None if found is None else (found[1], JobKey("kubernetes", found[2].replace("_", "-")))


def _container(path: str) -> _Match | None:
    found = _CONTAINER.match(path)
    return None if found is None else (found[1], JobKey("docker", found[2]))


def _unit(path: str) -> _Match | None:
    found = _UNIT.match(path)
    if found is None or _NO_JOB.match(found[2]):
        return None
    return found[1], JobKey("systemd", found[1])
