"""What SLURM reserved on this node: devices, cores and memory of each job, and the account that pays.

    which jobs      those whose control group, or daemon slurmstepd, has processes (`process_jobs`); a job that waits
                    or is allocated without anything running here (salloc without a step, no PrologFlags=Contain) is
                    not seen
    account, user   SLURM_JOB_ACCOUNT of the oldest process of the job, which SLURM itself started, kept for the job's
                    life; the user from the control group's path, else the owner of that process
    devices         SLURM_JOB_GPUS of the batch script: minor numbers, not CUDA's indexes. Steps inherit that variable
                    from the first node, so of steps SLURM_STEP_GPUS counts, which each node sets. On a device cut
                    by MIG, the instances that CUDA_VISIBLE_DEVICES names. Where none is set, the UUIDs in
                    CUDA_VISIBLE_DEVICES, else the device files that its processes have open, if they are as many as
                    SLURM_GPUS_ON_NODE.
    cores           cpuset.cpus of the job's group, else SLURM_CPUS_ON_NODE
    memory          where SLURM_MEM_PER_NODE or _PER_CPU say that memory was reserved (MiB): the limit of the job's
                    group, else that much. A limit alone is none: SLURM limits every job to the node's memory

A list of allowed devices cannot be read: control groups of version 2 keep it in a program of the kernel, and version 1
shows `a *:* rwm` when only some devices are denied, as SLURM denies them.

Limits: variables are those that a process was started with; needs root or CAP_SYS_PTRACE for other users' jobs. Who
replaces the first process of his job before the agent's first look can name another account. Reads /proc and
/sys/fs/cgroup alone, and asks no daemon.
"""

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from trainledger.node.gpu import GpuDevice
from trainledger.node.group_files import GroupFiles
from trainledger.node.process_jobs import Mark
from trainledger.node.reservations import JobKey, NodeView, Reservation, ReservedDevice
from trainledger.node.visible_devices import names_by_uuid, visible_devices
from trainledger_schemas.structured_log import say

__all__ = ["SlurmJobs", "SlurmVariables", "reserved_devices"]

_ENVIRONMENT_BYTES_MAX = 1 << 20
_NAME_CHARACTERS_MAX = 200
_GPU_FILE = re.compile(r"/dev/nvidia(\d{1,4})")
_FILES_MAX = 4096
_USER = re.compile(r"/uid_(\d+)/")


@dataclass(slots=True)
class SlurmVariables:
    """What the processes of a job were started with, and have open; filled as they are seen."""

    number: str | None = None
    account: str | None = None
    uid: int | None = None
    job_gpus: set[int] = field(default_factory=set)
    step_gpus: set[int] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    open_gpus: set[int] = field(default_factory=set)
    gpus_on_node: int = 0
    cpus_on_node: int = 0
    reserves_memory: bool = False
    memory_bytes: int = 0
    seen: set[Mark] = field(default_factory=set)

    def note(self, variables: Mapping[str, str]) -> None:
        """Count the environment of one more process of the job, older ones first."""
        self.number = self.number or variables.get("SLURM_JOB_ID")
        account = variables.get("SLURM_JOB_ACCOUNT", "").strip()
        if self.account is None and account and len(account) <= _NAME_CHARACTERS_MAX:
            self.account = account
        is_step = "SLURM_STEP_ID" in variables and variables.get("SLURM_JOB_NAME") != "interactive"
        if not is_step:
            self.job_gpus |= _numbers(variables.get("SLURM_JOB_GPUS", ""))
        self.step_gpus |= _numbers(variables.get("SLURM_STEP_GPUS", ""))
        visible = variables.get("CUDA_VISIBLE_DEVICES")
        if visible is not None and names_by_uuid(visible):
            self.named |= {entry.strip() for entry in visible.split(",")}
        self.gpus_on_node = max(self.gpus_on_node, _number(variables.get("SLURM_GPUS_ON_NODE")))
        cpus = _number(variables.get("SLURM_CPUS_ON_NODE"))
        self.cpus_on_node = max(self.cpus_on_node, cpus)
        for name, factor in (("SLURM_MEM_PER_NODE", 1), ("SLURM_MEM_PER_CPU", cpus)):
            if name in variables:
                self.reserves_memory = True
                self.memory_bytes = max(self.memory_bytes, factor * _number(variables[name]) << 20)


class SlurmJobs:
    """The source of SLURM's reservations on this node."""

    def __init__(self, proc: Path = Path("/proc"), files: GroupFiles | None = None) -> None:
        self._proc = proc
        self._files = files or GroupFiles()
        self._jobs: dict[JobKey, SlurmVariables] = {}
        self._has_complained = False

    def read(self, view: NodeView) -> list[Reservation]:
        """The jobs that are on the node now, by number."""
        present = sorted(job for job in view.processes if job.scheduler == "slurm")
        self._jobs = {job: self._jobs.get(job, SlurmVariables()) for job in present}
        return [self._reservation(job, view) for job in present]

    def close(self) -> None:
        """Nothing is held."""

    def _reservation(self, job: JobKey, view: NodeView) -> Reservation:
        facts = self._jobs[job]
        marks = view.processes[job]
        self._look_at_new(job, facts, marks)
        paths = view.groups.get(job, {})
        facts.uid = self._user(paths, marks) if facts.uid is None else facts.uid
        if not (facts.job_gpus or facts.step_gpus or facts.named) and facts.gpus_on_node:
            facts.open_gpus |= {number for pid, _ in marks for number in self._open_gpus(pid)}
        cpus = self._files.cpus(paths) or facts.cpus_on_node
        devices, source = reserved_devices(facts, view.devices)
        return Reservation(
            job=job,
            label=f"slurm job {facts.number or job.name}",
            evidence=source or "control group",
            account=None if facts.account is None else f"account:{facts.account}",
            uid=facts.uid,
            devices=tuple(devices),
            millicores=cpus * 1000 if cpus else None,
            memory_bytes=self._files.memory_bytes(paths) or facts.memory_bytes or None
            if facts.reserves_memory
            else None,
        )

    def _look_at_new(self, job: JobKey, facts: SlurmVariables, marks: Sequence[Mark]) -> None:
        for mark in marks:
            if mark in facts.seen:
                continue
            variables = read_environment(self._proc / str(mark[0]) / "environ")
            if not variables:
                continue  # not readable yet (it is being started), or not by us
            facts.seen.add(mark)
            number = variables.get("SLURM_JOB_ID")
            if number is None or (job.name.isdigit() and number != job.name):
                continue  # a login that was adopted into the job, or variables of another job
            facts.note(variables)
        facts.seen &= set(marks)
        if marks and not facts.seen and not self._has_complained and self._is_refused(marks[0][0]):
            self._has_complained = True
            what = "jobs of SLURM are here, but not what they reserved: run the agent as root or with CAP_SYS_PTRACE"
            say(logging.WARNING, what, {"job": job.name})

    def _is_refused(self, pid: int) -> bool:
        """Whether this process may not read what another one was started with."""
        try:
            (self._proc / str(pid) / "environ").open("rb").close()
        except PermissionError:
            return True
        except OSError:  # it is gone
            return False
        return False

    def _user(self, paths: Mapping[str, str], marks: Sequence[Mark]) -> int | None:
        """The job's user: by its control group, else by its oldest process."""
        for path in paths.values():
            match = _USER.search(path)
            if match is not None:
                return int(match[1])
        return next((uid for pid, _ in marks if (uid := _owner(self._proc / str(pid))) is not None), None)

    def _open_gpus(self, pid: int) -> set[int]:
        found: set[int] = set()
        try:
            names = os.listdir(self._proc / str(pid) / "fd")[:_FILES_MAX]
        except OSError:
            return found
        for name in names:
            try:
                match = _GPU_FILE.fullmatch(os.readlink(self._proc / str(pid) / "fd" / name))
            except OSError:
                continue
            if match is not None:
                found.add(int(match[1]))
        return found


def reserved_devices(facts: SlurmVariables, devices: Sequence[GpuDevice]) -> tuple[list[ReservedDevice], str]:
    """The devices that a job has, and the name of the variable that says so ("" without devices). Pure."""
    named = _named(facts.named, devices)
    for minors, source in ((facts.job_gpus, "SLURM_JOB_GPUS"), (facts.step_gpus, "SLURM_STEP_GPUS")):
        if minors:
            return _by_minor(minors, named, devices), source
    if named:
        return named, "CUDA_VISIBLE_DEVICES"
    if facts.open_gpus and len(facts.open_gpus) == facts.gpus_on_node:
        return _by_minor(facts.open_gpus, named, devices), "open device files"
    return [], ""


def read_environment(path: Path) -> dict[str, str]:
    """The variables of a /proc/PID/environ file; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_ENVIRONMENT_BYTES_MAX)
    except OSError:
        return {}
    pairs = (item.decode("utf-8", "replace").partition("=") for item in data.split(b"\0") if b"=" in item)
    return {name: value for name, _, value in pairs}


def _by_minor(
    minors: Set[int], named: Sequence[ReservedDevice], devices: Sequence[GpuDevice]
) -> list[ReservedDevice]:
    found: list[ReservedDevice] = []
    for device in devices:
        if device.minor is None or device.minor not in minors:
            continue
        if device.is_mig:
            # The number says on which device, not which instance of it: others have the rest.
            found += [item for item in named if item.device_id == device.device_id and item.part_id]
        else:
            found.append(ReservedDevice(device.device_id))
    return found


def _named(entries: Iterable[str], devices: Sequence[GpuDevice]) -> list[ReservedDevice]:
    places = {place for entry in entries for place in visible_devices(entry, devices) if names_by_uuid(entry)}
    sizes = {part.part_id: (part.size, part.of) for device in devices for part in device.parts}
    return [
        ReservedDevice(place.device_id, place.part_id, *sizes.get(place.part_id, (1, 1)))
        for place in sorted(places)
    ]


def _numbers(text: str) -> set[int]:
    """The numbers of a list like `0,2-3`; what is no number is left out."""
    found: set[int] = set()
    for item in text.split(","):
        first, _, last = item.strip().partition("-")
        if first.isdigit() and (last or first).isdigit():
            found |= set(range(int(first), min(int(last or first), int(first) + 1023) + 1))
    return found


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() and len(text) < 10 else 0


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None
