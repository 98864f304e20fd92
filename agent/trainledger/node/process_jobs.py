"""Which job each process of the node is in: by its control group, or below which daemon of SLURM it runs.

A process is looked at when it is new and LOOKS - 1 times more: a scheduler moves it into its group before it starts
the job, and sshd and others become somebody later. What was found stays: a process does not leave its job.

Where SLURM tracks processes without control groups (proctrack/linuxproc), a job's processes are those below a
`slurmstepd` of root, which has the job's number in its title. A user can name a process so, but not own it as root.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from trainledger.node.control_groups import JobGroup, parse
from trainledger.node.process_table import ProcessTable, Reading
from trainledger.node.reservations import JobKey

__all__ = ["Mark", "ProcessJobs"]

Mark = tuple[int, int]
LOOKS = 3
STEP_DAEMON = b"slurmstepd"
_TITLE = re.compile(rb"^slurmstepd: \[(\d+)[.+]")
_BYTES_MAX = 64 * 1024


class ProcessJobs:
    """The jobs of the processes seen last; `look` brings it up to date with a table of processes."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = str(proc)
        self._looks: dict[Mark, int] = {}
        self._groups: dict[Mark, JobGroup] = {}
        # Daemons of SLURM that run the steps of jobs, by what they are.
        self._daemons: dict[Mark, JobKey] = {}

    def look(self, table: ProcessTable) -> None:
        """See which job each process of the table is in."""
        readings = {(reading.pid, reading.start_ticks): reading for reading in table.known.values()}
        self._looks = {mark: count for mark, count in self._looks.items() if mark in readings}
        self._groups = {mark: group for mark, group in self._groups.items() if mark in readings}
        self._daemons = {mark: job for mark, job in self._daemons.items() if mark in readings}
        new = [mark for mark in readings if self._looks.get(mark, 0) < LOOKS]
        for mark in new:
            self._looks[mark] = self._looks.get(mark, 0) + 1
            self._look_at(mark, table)
        if self._daemons:
            self._follow_daemons((readings[mark] for mark in new), table)

    def job_of(self, mark: Mark) -> JobKey | None:
        """The job of a process, (pid, start in ticks since boot)."""
        group = self._groups.get(mark)
        return None if group is None else group.job

    def is_daemon(self, mark: Mark) -> bool:
        """Whether a process only runs a job for its scheduler: it is the system's."""
        return mark in self._daemons

    def by_job(self) -> dict[JobKey, list[Mark]]:
        """Processes by job, oldest first; a job of SLURM whose daemon runs is there with no process too."""
        found: dict[JobKey, list[Mark]] = {job: [] for job in self._daemons.values()}
        for mark, group in sorted(self._groups.items(), key=lambda item: (item[0][1], item[0][0])):
            if mark not in self._daemons:
                found.setdefault(group.job, []).append(mark)
        return found

    def groups(self) -> Mapping[JobKey, Mapping[str, str]]:
        """The folders of each job's control groups, by controller."""
        return {group.job: group.paths for group in self._groups.values()}

    def _look_at(self, mark: Mark, table: ProcessTable) -> None:
        pid = mark[0]
        group = parse(self._read(pid, "cgroup").decode("utf-8", "replace"))
        if table.name_of(pid) == STEP_DAEMON and table.owner_of(pid) == 0:
            title = _TITLE.match(self._read(pid, "cmdline"))
            job = JobKey("slurm", title[1].decode()) if title is not None else None
            if group is not None and group.job.scheduler == "slurm":
                job = group.job
            if job is not None:
                self._daemons[mark] = job
        elif group is not None:
            known = self._groups.get(mark)
            if known is None or known.job.scheduler != "slurm":
                self._groups[mark] = group

    def _follow_daemons(self, new: Iterable[Reading], table: ProcessTable) -> None:
        for reading in new:
            mark = (reading.pid, reading.start_ticks)
            known = self._groups.get(mark)
            if mark in self._daemons or (
                known is not None and known.job.scheduler in ("slurm", "kubernetes")
            ):
                continue
            for ancestor in table.ancestors(reading):
                above = (ancestor.pid, ancestor.start_ticks)
                inherited = self._groups.get(above)
                job = self._daemons.get(above)
                if job is None and inherited is not None and inherited.job.scheduler == "slurm":
                    job = inherited.job
                if job is not None:
                    self._groups[mark] = JobGroup(job, {})
                    break

    def _read(self, pid: int, name: str) -> bytes:
        try:
            with open(f"{self._proc}/{pid}/{name}", "rb") as file:
                return file.read(_BYTES_MAX)
        except OSError:  # it is gone
            return b""
