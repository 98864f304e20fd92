"""Which job a process is in, from texts of /proc/PID/cgroup as they are on real machines."""

import pytest

from trainledger.node.control_groups import parse
from trainledger.node.reservations import JobKey

CONTAINER = "4e3f" * 16
POD = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
SLURM_V1 = """\
11:pids:/user.slice
10:cpuset:/slurm_node-a/uid_1001/job_17/step_0
9:freezer:/slurm_node-a/uid_1001/job_17/step_0/task_0
8:devices:/slurm_node-a/uid_1001/job_17/step_0
4:cpu,cpuacct:/slurm_node-a/uid_1001/job_17/step_0/task_0
1:name=systemd:/system.slice/slurmd.service
0::/system.slice/slurmd.service
"""

# As SLURM 22.05 with task/cgroup and proctrack/cgroup made it on a machine with both versions.
SLURM_HYBRID = """\
9:name=systemd:/
8:pids:/
7:blkio:/
6:freezer:/slurm_node-a/uid_0/job_2/step_batch
5:devices:/slurm_node-a/uid_0/job_2/step_batch/task_0
4:memory:/slurm_node-a/uid_0/job_2/step_batch/task_0
3:cpuset:/slurm_node-a/uid_0/job_2/step_batch
2:cpuacct:/
1:cpu:/
0::/
"""

TEXTS = {
    "slurm v1 beside v2": (SLURM_HYBRID, JobKey("slurm", "2")),
    "slurm v1": (SLURM_V1, JobKey("slurm", "17")),
    "slurm v1, one node": ("8:memory:/slurm/uid_0/job_4711/step_batch/task_0\n0::/\n", JobKey("slurm", "4711")),
    "slurm v2": ("0::/system.slice/slurmstepd.scope/job_17/step_0/user/task_0\n", JobKey("slurm", "17")),
    "slurm v2, named node": (
        "0::/system.slice/node-a_slurmstepd.scope/job_9/step_batch/user/task_0\n", JobKey("slurm", "9")
    ),
    "slurm v2, extern step": (
        "0::/system.slice/slurmstepd.scope/job_17/step_extern/user/task_special\n", JobKey("slurm", "17")
    ),
    "slurm 26.05": (
        "0::/system.slice/slurmstepd.scope/sEKNKTV3WPV500/step_0/user/task_0\n", JobKey("slurm", "sEKNKTV3WPV500")
    ),
    "slurmstepd itself": ("0::/system.slice/slurmstepd.scope/system\n", JobKey(
        "systemd", "/system.slice/slurmstepd.scope")),
    "container in a job of slurm": (
        f"0::/system.slice/slurmstepd.scope/job_17/step_0/user/task_0/libpod-{CONTAINER}.scope\n",
        JobKey("slurm", "17"),
    ),
    "kubernetes, systemd driver, burstable": (
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"
        f"{POD.replace('-', '_')}.slice/cri-containerd-{CONTAINER}.scope\n",
        JobKey("kubernetes", POD),
    ),
    "kubernetes, systemd driver, guaranteed": (
        f"0::/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/crio-{CONTAINER}.scope\n",
        JobKey("kubernetes", POD),
    ),
    "kubernetes, cgroupfs driver": (
        f"3:cpu,cpuacct:/kubepods/burstable/pod{POD}/{CONTAINER}\n0::/\n", JobKey("kubernetes", POD)
    ),
    "kubernetes, static pod": (
        f"0::/kubepods/burstable/pod{'ab' * 16}/{CONTAINER}\n", JobKey("kubernetes", "ab" * 16)
    ),
    "kubernetes in a container of docker (kind)": (
        f"0::/docker/{CONTAINER}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"
        f"kubelet-kubepods-besteffort-pod{POD.replace('-', '_')}.slice/cri-containerd-{CONTAINER}.scope\n",
        JobKey("kubernetes", POD),
    ),
    "kubernetes, seen from a pod of the same class": (
        f"0::/../../kubepods-burstable-pod{POD.replace('-', '_')}.slice/cri-containerd-{CONTAINER}.scope\n",
        JobKey("kubernetes", POD),
    ),
    "kubernetes, seen from a pod, guaranteed": (
        f"0::/../../../kubepods-pod{POD.replace('-', '_')}.slice/cri-containerd-{CONTAINER}.scope\n",
        JobKey("kubernetes", POD),
    ),
    "kubernetes, seen from a pod, cgroupfs driver": (
        f"0::/../../pod{POD}/{CONTAINER}\n", JobKey("kubernetes", POD)
    ),
    "kubernetes in a pod of kubernetes": (
        f"0::/kubepods/burstable/pod{POD}/{CONTAINER}/kubepods/besteffort/pod{'ab' * 16}/{CONTAINER}\n",
        JobKey("kubernetes", POD),
    ),
    "docker, cgroupfs driver": (f"7:memory:/docker/{CONTAINER}\n0::/\n", JobKey("docker", CONTAINER)),
    "docker, systemd driver": (f"0::/system.slice/docker-{CONTAINER}.scope\n", JobKey("docker", CONTAINER)),
    "podman, rootless": (
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{CONTAINER}.scope/container\n",
        JobKey("docker", CONTAINER),
    ),
    "unit": ("0::/system.slice/train.service\n", JobKey("systemd", "/system.slice/train.service")),
    "unit of a user": (
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/train.service\n",
        JobKey("systemd", "/user.slice/user-1000.slice/user@1000.service/app.slice/train.service"),
    ),
    "scope of systemd-run": ("0::/system.slice/run-r1f.scope\n", JobKey("systemd", "/system.slice/run-r1f.scope")),
    "session": ("0::/user.slice/user-1000.slice/session-3.scope\n", None),
    "manager of a user": ("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", None),
    "kernel": ("0::/\n", None),
    "this container": ("9:name=systemd:/\n4:memory:/process_api/01cda21fd4a12039c651b6a26dab0803\n0::/\n", None),
    "cut off": ("0:", None),
    "nothing": ("", None),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_the_job_of_a_process_is_named_by_its_control_group(name: str) -> None:
    text, job = TEXTS[name]
    found = parse(text)
    assert (None if found is None else found.job) == job


def test_the_folders_of_a_job_are_known_by_controller_and_end_with_the_job() -> None:
    found = parse(SLURM_V1)
    assert found is not None
    folder = "/slurm_node-a/uid_1001/job_17"
    assert found.paths == dict.fromkeys(("cpuset", "freezer", "devices", "cpu", "cpuacct"), folder)
