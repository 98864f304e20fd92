"""Processes of jobs: whose CPU time they are, with which account, and what changes when a run begins and the job ends."""

import os
from pathlib import Path
from typing import Any

import pytest

from support.burners import WriterStandIn
from support.fake_proc import FakeProc
from trainledger.node.group_files import GroupFiles
from trainledger.node.holder import Holder
from trainledger.node.job_book import JobBook
from trainledger.node.process_jobs import ProcessJobs
from trainledger.node.processes import ProcessSampler
from trainledger.node.reservations import JobKey
from trainledger.node.slurm_jobs import SlurmJobs

GROUP = "0::/system.slice/slurmstepd.scope/job_17/step_batch/user/task_0\n"
VARIABLES = {"SLURM_JOB_ID": "17", "SLURM_JOB_ACCOUNT": "physics", "SLURM_CPUS_ON_NODE": "2"}
RUN, WRITER = bytes([1]) * 16, bytes([2]) * 16
UID = os.getuid()
ACCOUNT = "account:physics"


class Node(FakeProc):
    """A node with a script (50) and a training (60) in a job, and a shell (70) outside of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.put(50, cgroup=GROUP, variables=VARIABLES)
        self.put(60, parent=50, cgroup=GROUP, variables=VARIABLES)
        self.put(70, cgroup="0::/user.slice/user-0.slice/session-1.scope\n")
        book = JobBook(ProcessJobs(self.proc), [SlurmJobs(self.proc, GroupFiles(self.cgroup))])
        self.sampler = ProcessSampler(self.table, name_of=str, jobs=book)
        self.writer = WriterStandIn(RUN, WRITER, 60, UID, 60)

    def work(self, ticks: int, *pids: int) -> None:
        """Each process uses so much CPU time."""
        for pid in pids:
            path = self.proc / str(pid) / "stat"
            head, _, tail = path.read_text().rpartition(") ")
            fields = tail.split()
            fields[11] = str(int(fields[11]) + ticks)
            path.write_text(f"{head}) {' '.join(fields)}\n")

    def used(self, *writers: WriterStandIn) -> list[tuple[Any, ...]]:
        self.sampler.look(writers)
        return [
            (row["kind"], row["owner"], row["account"], row["cpu_us"])
            for row in self.sampler.take(0)
            if row["cpu_us"]
        ]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_work_in_a_job_has_its_account_with_and_without_a_run(node: Node) -> None:
    node.work(10, 50, 60)
    assert node.used() == [("untracked", str(UID), ACCOUNT, 200_000)]
    node.used(node.writer)
    node.work(10, 50, 60)
    assert node.used(node.writer) == [
        ("run", str(UID), ACCOUNT, 100_000), ("untracked", str(UID), ACCOUNT, 100_000)
    ]  # fmt: skip
    assert node.sampler.runs_by_job() == {JobKey("slurm", "17"): [Holder("run", RUN, WRITER, UID, ACCOUNT)]}
    # The run is over and the training lives on: it is the job's again.
    node.used()
    node.work(10, 60)
    assert node.used() == [("untracked", str(UID), ACCOUNT, 100_000)]
    assert node.sampler.runs_by_job() == {}


def test_a_process_of_a_job_is_never_the_systems_on_a_gpu(node: Node) -> None:
    assert node.sampler.holder_on_device(60, computes=False) == Holder("untracked", uid=UID, account=ACCOUNT)
    assert node.sampler.holder_on_device(70, computes=True) == Holder("untracked", uid=UID)


def test_when_the_job_has_ended_nothing_is_held(node: Node) -> None:
    assert [item.label for item in node.sampler.reservations()] == ["slurm job 17"]
    node.end(50)
    node.end(60)
    node.sampler.look([])
    assert node.sampler.reservations() == []
