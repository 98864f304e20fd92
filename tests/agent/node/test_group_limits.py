"""Containers and units that are limited to some cores, from a made-up /proc and /sys/fs/cgroup."""

from pathlib import Path

import pytest

from support.fake_proc import FakeProc
from trainledger.node.group_files import GroupFiles, parse_cpu_list
from trainledger.node.group_limits import GroupLimits
from trainledger.node.job_book import JobBook
from trainledger.node.process_jobs import ProcessJobs

ID = "4e3f" * 16
V1 = f"7:cpu,cpuacct:/docker/{ID}\n6:cpuset:/docker/{ID}\n0::/\n"
V2 = f"0::/system.slice/docker-{ID}.scope\n"
UNIT = "0::/system.slice/train.service\n"
IN_V2 = f"system.slice/docker-{ID}.scope"

# The text of /proc/PID/cgroup, files of the group, and (label, evidence, millicores) of 64 cores; None: no limit.
LIMITS: dict[str, tuple[str, dict[str, str], tuple[str, str, int] | None]] = {
    "v2 quota": (V2, {f"{IN_V2}/cpu.max": "150000 100000\n"}, ("container 4e3f4e3f4e3f", "CPU quota", 1500)),
    "v2 no quota": (V2, {f"{IN_V2}/cpu.max": "max 100000\n", f"{IN_V2}/cpuset.cpus": "\n"}, None),
    "v2 cpuset": (V2, {f"{IN_V2}/cpuset.cpus": "0-3,8\n"}, ("container 4e3f4e3f4e3f", "CPU cpuset", 5000)),
    "the lower of both": (
        V2,
        {f"{IN_V2}/cpuset.cpus": "0-3\n", f"{IN_V2}/cpu.max": "100000 100000\n"},
        ("container 4e3f4e3f4e3f", "CPU quota", 1000),
    ),
    "all cores": (V2, {f"{IN_V2}/cpuset.cpus": "0-63\n"}, None),
    "v1 quota": (
        V1,
        {f"cpu/docker/{ID}/cpu.cfs_quota_us": "50000\n", f"cpu/docker/{ID}/cpu.cfs_period_us": "100000\n"},
        ("container 4e3f4e3f4e3f", "CPU quota", 500),
    ),
    "v1 none": (
        V1,
        {
            f"cpu/docker/{ID}/cpu.cfs_quota_us": "-1\n",
            f"cpu/docker/{ID}/cpu.cfs_period_us": "100000\n",
            f"cpuset/docker/{ID}/cpuset.cpus": "0-63\n",
        },
        None,
    ),
    "a unit": (UNIT, {"system.slice/train.service/cpu.max": "400000 100000\n"}, ("unit train.service", "CPU quota", 4000)),
    "hybrid": (
        UNIT, {"unified/system.slice/train.service/cpu.max": "400000 100000\n"}, ("unit train.service", "CPU quota", 4000)
    ),
    "no files": (V2, {}, None),
    "no number": (V2, {f"{IN_V2}/cpu.max": "a lot\n", f"{IN_V2}/cpuset.cpus": "3-1\n"}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_of_cores_is_held_by_the_run_in_it(tmp_path: Path, name: str) -> None:
    text, files, expected = LIMITS[name]
    node = FakeProc(tmp_path)
    for path, content in files.items():
        node.file(path, content)
    node.put(50, cgroup=text)
    book = JobBook(ProcessJobs(node.proc), [GroupLimits(64, GroupFiles(node.cgroup))])
    node.table.look()
    book.look(node.table, ())
    found = [(item.label, item.evidence, item.millicores) for item in book.reservations]
    assert found == ([expected] if expected else [])
    assert all(item.only_for_runs and item.memory_bytes is None for item in book.reservations)


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 1), ("0-3", 4), ("0-1,4,8-9", 5), ("", None), ("a", None), ("3-1", None), ("0-999999999", None)],
)
def test_lists_of_cpus(text: str, count: int | None) -> None:
    assert parse_cpu_list(text) == count
