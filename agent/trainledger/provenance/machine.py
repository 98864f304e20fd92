"""The machine as a training sees it: processor, C library, system release, limits of its control group and of itself.

Read from files of the kernel in the process beside the training, which has the same limits; what is not there is left
out. `root` is where files are read from: / but for tests.
"""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

__all__ = ["describe_machine"]

FLAGS_CHARS_MAX = 4000
VALUE_CHARS_MAX = 300
# In /proc/cpuinfo, by its own names: x86, then ARM.
_CPU = {
    "model name": "cpu.model",
    "CPU part": "cpu.model",
    "microcode": "cpu.microcode",
    "flags": "cpu.flags",
    "Features": "cpu.flags",
}
_RELEASE = {"ID": "os.id", "VERSION_ID": "os.version"}
_LIMITS = {
    "open_files": resource.RLIMIT_NOFILE,
    "stack_bytes": resource.RLIMIT_STACK,
    "locked_bytes": resource.RLIMIT_MEMLOCK,
    "memory_bytes": resource.RLIMIT_AS,
}
_V1 = {
    "cpu.cfs_quota_us": "cgroup.cpu_quota_us",
    "cpu.cfs_period_us": "cgroup.cpu_period_us",
    "memory.limit_in_bytes": "cgroup.memory_bytes",
}
_V2 = {
    "cpu.max": "cgroup.cpu_max_us",
    "memory.max": "cgroup.memory_bytes",
    "cpuset.cpus.effective": "cgroup.cpus",
}
# What version 1 has where there is no limit: the largest whole number of pages.
_NO_LIMIT_FROM = 1 << 60


def describe_machine(root: Path = Path("/")) -> dict[str, str]:
    """Facts by name; units are the last word of a name."""
    system = os.uname()
    found = {"kernel": f"{system.release} {system.version}", "cpu.architecture": system.machine}
    found |= _processor(root)
    found |= dict(_release(root))
    try:
        found["glibc"] = str(os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ")
    except (ValueError, OSError):
        pass  # another C library
    found |= _memory(root)
    found |= _control_group(root)
    for name, number in _LIMITS.items():
        soft, _ = resource.getrlimit(number)
        found[f"limit.{name}"] = "none" if soft == resource.RLIM_INFINITY else str(soft)
    return {
        name: value[: FLAGS_CHARS_MAX if name == "cpu.flags" else VALUE_CHARS_MAX]
        for name, value in found.items()
        if value
    }


def _processor(root: Path) -> dict[str, str]:
    found = {"cpu.count": str(os.cpu_count() or 0), "cpu.usable": str(len(os.sched_getaffinity(0)))}
    # Of the first core: a list that differs between cores is a machine that nobody trains on.
    for line in _text(root / "proc/cpuinfo").split("\n\n", 1)[0].splitlines():
        name, _, value = line.partition(":")
        if name.strip() in _CPU:
            found.setdefault(_CPU[name.strip()], value.strip())
    nodes = root / "sys/devices/system/node"
    if nodes.is_dir():
        found["cpu.numa_nodes"] = str(sum(entry.name[4:].isdigit() for entry in nodes.glob("node*")))
    pages = _text(root / "sys/kernel/mm/transparent_hugepage/enabled")
    if "[" in pages:
        found["memory.huge_pages"] = pages.partition("[")[2].partition("]")[0]
    return found


def _release(root: Path) -> Iterator[tuple[str, str]]:
    for line in (_text(root / "etc/os-release") or _text(root / "usr/lib/os-release")).splitlines():
        key, _, value = line.partition("=")
        if key in _RELEASE:
            yield _RELEASE[key], value.strip().strip("\"'")


def _memory(root: Path) -> dict[str, str]:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return {"memory.total_bytes": str(int(line.split()[1]) * 1024)}
    return {}


def _control_group(root: Path) -> dict[str, str]:
    """The limits of the group itself, or of the nearest one above it that has one."""
    found: dict[str, str] = {}
    mount = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        names = _V1 if controllers else _V2
        own = [mount / controllers / path.strip("/")] if controllers else [mount / path.strip("/")]
        places = [place for place in (*own, *own[0].parents) if place.is_relative_to(mount)]
        for name, key in names.items():
            if controllers and name.partition(".")[0] not in controllers.split(","):
                continue
            values = (_text(place / name).strip() for place in places)
            limit = next((value for value in values if _is_limit(value)), None)
            if limit is not None:
                found.setdefault(key, limit)
    return found


def _is_limit(value: str) -> bool:
    first = value.partition(" ")[0]
    is_none = first in ("", "max", "-1") or (first.isdigit() and int(first) >= _NO_LIMIT_FROM)
    return not is_none


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
