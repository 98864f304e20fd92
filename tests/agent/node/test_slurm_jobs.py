"""What SLURM reserved, from a made-up /proc and /sys/fs/cgroup with texts as real nodes have them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.fake_proc import FakeProc
from trainledger.node.gpu import GpuDevice, GpuPart
from trainledger.node.group_files import GroupFiles
from trainledger.node.job_book import JobBook
from trainledger.node.process_jobs import ProcessJobs
from trainledger.node.reservations import JobKey, Reservation, ReservedDevice
from trainledger.node.slurm_jobs import SlurmJobs, SlurmVariables, reserved_devices

PARTS = (GpuPart("MIG-a", "4g", 1, 4, 8), GpuPart("MIG-b", "1g", 1, 1, 8))
# The driver's order is not that of the device files.
DEVICES = (
    GpuDevice("GPU-one", "H100", 1, minor=1),
    GpuDevice("GPU-zero", "H100", 1, minor=0),
    GpuDevice("GPU-mig", "H100", 1, minor=2, is_mig=True, parts=PARTS),
)
V2 = "0::/system.slice/slurmstepd.scope/job_{job}/step_{step}/user/task_0\n"
V1 = (
    "9:cpuset:/slurm/uid_1001/job_{job}/step_{step}\n8:memory:/slurm/uid_1001/job_{job}/step_{step}/task_0\n"
    "1:name=systemd:/system.slice/slurmd.service\n0::/system.slice/slurmd.service\n"
)
BATCH = {"SLURM_JOB_ID": "17", "SLURM_JOB_ACCOUNT": "physics", "SLURM_CPUS_ON_NODE": "4"}
TASK = BATCH | {"SLURM_STEP_ID": "0"}


class Node(FakeProc):
    """A node with the agent's book of jobs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        files = GroupFiles(self.cgroup)
        self.jobs = ProcessJobs(self.proc)
        self.book = JobBook(self.jobs, [SlurmJobs(self.proc, files)])

    def reservations(self, devices: Sequence[GpuDevice] = DEVICES) -> list[Reservation]:
        self.table.look()
        self.book.look(self.table, devices)
        return list(self.book.reservations)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_job_holds_the_devices_of_its_batch_script_by_minor_number(node: Node) -> None:
    node.put(50, cgroup=V2.format(job=17, step="batch"), variables=BATCH | {"SLURM_JOB_GPUS": "0,1"})
    # A task sees its devices numbered from 0, and a variable of the node that the job began on.
    node.put(60, parent=50, cgroup=V2.format(job=17, step=0), variables=TASK | {"CUDA_VISIBLE_DEVICES": "0"})
    (found,) = node.reservations()
    assert found == Reservation(
        job=JobKey("slurm", "17"),
        label="slurm job 17",
        evidence="SLURM_JOB_GPUS",
        account="account:physics",
        uid=os.getuid(),
        devices=(ReservedDevice("GPU-one"), ReservedDevice("GPU-zero")),
        millicores=4000,
    )


def test_on_another_node_of_the_job_the_steps_devices_count_not_those_inherited(node: Node) -> None:
    node.put(
        60, cgroup=V2.format(job=17, step=0), variables=TASK | {"SLURM_JOB_GPUS": "1", "SLURM_STEP_GPUS": "0"}
    )
    (found,) = node.reservations()
    assert (found.evidence, found.devices) == ("SLURM_STEP_GPUS", (ReservedDevice("GPU-zero"),))


@pytest.mark.parametrize("text", [V1, V2], ids=["v1", "v2"])
def test_cores_and_memory_are_those_of_the_jobs_group(node: Node, text: str) -> None:
    variables = BATCH | {"SLURM_MEM_PER_NODE": "1024"}
    node.put(50, cgroup=text.format(job=17, step="batch"), variables=variables)
    v2 = "system.slice/slurmstepd.scope/job_17"
    node.file(f"{v2}/cpuset.cpus", "0-5,8,10\n")
    node.file(f"{v2}/memory.max", "17179869184\n")
    node.file("cpuset/slurm/uid_1001/job_17/cpuset.cpus", "0-5,8,10\n")
    node.file("memory/slurm/uid_1001/job_17/memory.limit_in_bytes", "17179869184\n")
    (found,) = node.reservations()
    assert (found.millicores, found.memory_bytes) == (8000, 16 << 30)


@pytest.mark.parametrize(
    ("variables", "limit", "gib"),
    [
        ({}, 64, None), ({"SLURM_MEM_PER_NODE": "2048"}, None, 2), ({"SLURM_MEM_PER_CPU": "1024"}, None, 4),
        ({"SLURM_MEM_PER_NODE": "0"}, 64, 64), ({"SLURM_MEM_PER_NODE": "0"}, None, None),
        ({"SLURM_MEM_PER_NODE": "much"}, None, None),
    ],
)  # fmt: skip
def test_a_limit_of_memory_is_a_reservation_only_where_memory_was_reserved(
    node: Node, variables: dict[str, str], limit: int | None, gib: int | None
) -> None:
    # Without memory in its request, SLURM limits a job to all memory of the node.
    node.put(50, cgroup=V2.format(job=17, step="batch"), variables=BATCH | variables)
    if limit is not None:
        node.file("system.slice/slurmstepd.scope/job_17/memory.max", f"{limit << 30}\n")
    (found,) = node.reservations()
    assert found.memory_bytes == (None if gib is None else gib << 30)


def test_no_limit_is_no_reservation(node: Node) -> None:
    node.put(50, cgroup=V2.format(job=17, step="batch"), variables={"SLURM_JOB_ID": "17"})
    node.file("system.slice/slurmstepd.scope/job_17/cpuset.cpus", "\n")
    node.file("system.slice/slurmstepd.scope/job_17/memory.max", "max\n")
    (found,) = node.reservations()
    assert (found.millicores, found.memory_bytes, found.account, found.devices) == (None, None, None, ())


def test_a_job_is_there_until_its_last_process_went(node: Node) -> None:
    node.put(50, cgroup=V2.format(job=17, step="batch"), variables=BATCH)
    node.put(51, cgroup=V2.format(job=9, step="batch"), variables=BATCH | {"SLURM_JOB_ID": "9"})
    assert [item.label for item in node.reservations()] == ["slurm job 17", "slurm job 9"]
    node.end(50)
    assert [item.label for item in node.reservations()] == ["slurm job 9"]


NOBODY = """
import os, sys
from trainledger.node.reservations import JobKey, NodeView
from trainledger.node.slurm_jobs import SlurmJobs
pid = os.getppid()
os.setuid(65534)
source = SlurmJobs()
view = NodeView((), {JobKey("slurm", "17"): [(pid, 1)]}, {JobKey("slurm", "17"): {"cpuset": sys.argv[1]}})
print([(item.uid, item.account) for item in (*source.read(view), *source.read(view))])
"""


@pytest.mark.parametrize(("path", "uid"), [("/slurm/uid_1001/job_17", 1001), ("/job_17", os.getuid())])
def test_variables_that_may_not_be_read_are_told_once_and_the_user_is_known_all_the_same(
    path: str, uid: int
) -> None:
    done = subprocess.run([sys.executable, "-c", NOBODY, path], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{[(uid, None)] * 2}\n"
    assert done.stderr.count("CAP_SYS_PTRACE") == 1


def test_the_account_of_a_job_does_not_change_once_it_is_known(node: Node) -> None:
    group = V2.format(job=17, step="batch")
    node.put(50, cgroup=group, variables=BATCH)
    node.reservations()
    node.put(60, parent=50, cgroup=group, variables=BATCH | {"SLURM_JOB_ACCOUNT": "another"})
    node.end(50)
    (found,) = node.reservations()
    assert found.account == "account:physics"


def test_the_oldest_process_says_the_account(node: Node) -> None:
    group = V2.format(job=17, step="batch")
    node.put(50, cgroup=group, variables=BATCH | {"SLURM_JOB_ACCOUNT": "another"}, start=900)
    node.put(60, cgroup=group, variables=BATCH, start=800)
    (found,) = node.reservations()
    assert found.account == "account:physics"


def test_variables_of_another_job_say_nothing(node: Node) -> None:
    node.put(50, cgroup=V2.format(job=17, step="extern"), variables=BATCH | {"SLURM_JOB_ID": "9"})
    (found,) = node.reservations()
    assert (found.label, found.account) == ("slurm job 17", None)


def test_a_job_that_is_named_by_its_sluid_has_the_number_of_its_variables(node: Node) -> None:
    text = "0::/system.slice/slurmstepd.scope/sEKNKTV3WPV500/step_0/user/task_0\n"
    node.put(50, cgroup=text, variables=BATCH)
    (found,) = node.reservations()
    assert (found.job.name, found.label) == ("sEKNKTV3WPV500", "slurm job 17")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of other users")
def test_without_control_groups_a_job_is_what_runs_below_roots_slurmstepd(node: Node) -> None:
    node.put(40, name="slurmstepd", title="slurmstepd: [17.batch]\0", uid=0)
    node.put(50, parent=40, variables=BATCH, uid=1001)
    node.put(60, parent=50, variables=BATCH, uid=1001)
    node.put(70, name="slurmstepd", title="slurmstepd: [18.batch]\0", uid=1001)
    node.put(80, parent=70, variables=BATCH | {"SLURM_JOB_ID": "18"}, uid=1001)
    (found,) = node.reservations()
    assert (found.label, found.uid, found.account) == ("slurm job 17", 1001, "account:physics")
    assert node.jobs.by_job() == {JobKey("slurm", "17"): [(50, 50), (60, 60)]}
    # Left behind by its parents, it is still the job's; and the daemon alone keeps the job.
    node.end(50)
    node.put(60, parent=1, variables=BATCH, uid=1001)
    node.reservations()
    assert node.jobs.by_job() == {JobKey("slurm", "17"): [(60, 60)]}
    node.end(60)
    assert [item.label for item in node.reservations()] == ["slurm job 17"]
    node.end(40)
    assert node.reservations() == []


def test_a_process_that_is_moved_into_its_job_after_it_began_is_found(node: Node) -> None:
    node.put(50, cgroup="0::/system.slice/slurmd.service\n")
    assert node.reservations() == []
    node.put(50, cgroup=V2.format(job=17, step="batch"), variables=BATCH)
    assert [item.label for item in node.reservations()] == ["slurm job 17"]


def test_open_device_files_count_when_no_variable_names_devices(node: Node) -> None:
    node.put(50, cgroup=V2.format(job=17, step="batch"), variables=BATCH | {"SLURM_GPUS_ON_NODE": "1"})
    node.open_device(50, 3, "/dev/nvidiactl")
    node.open_device(50, 4, "/dev/nvidia1")
    (found,) = node.reservations()
    assert (found.evidence, found.devices) == ("open device files", (ReservedDevice("GPU-one"),))
    node.open_device(50, 5, "/dev/nvidia0")
    (found,) = node.reservations()
    assert found.devices == ()


FACTS = {
    "a device cut by MIG, by the instances that are named": (
        SlurmVariables(job_gpus={0, 2}, named={"MIG-a", "MIG-b"}),
        [ReservedDevice("GPU-zero"), ReservedDevice("GPU-mig", "MIG-a", 4, 8), ReservedDevice("GPU-mig", "MIG-b", 1, 8)],
    ),
    "a device cut by MIG of which no instance is named": (SlurmVariables(job_gpus={2}), []),
    "by UUID alone": (SlurmVariables(named={"GPU-zero", "MIG-b"}), [
        ReservedDevice("GPU-mig", "MIG-b", 1, 8), ReservedDevice("GPU-zero")]),
    "of no device of this node": (SlurmVariables(job_gpus={7}), []),
    "nothing": (SlurmVariables(), []),
}  # fmt: skip


@pytest.mark.parametrize("name", FACTS)
def test_reserved_devices(name: str) -> None:
    facts, expected = FACTS[name]
    assert reserved_devices(facts, DEVICES)[0] == expected


def test_before_the_driver_answered_no_device_is_held(node: Node) -> None:
    node.put(50, cgroup=V2.format(job=17, step="batch"), variables=BATCH | {"SLURM_JOB_GPUS": "0"})
    (found,) = node.reservations(())
    assert found.devices == ()
    (found,) = node.reservations()
    assert found.devices == (ReservedDevice("GPU-zero"),)
