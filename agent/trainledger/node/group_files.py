"""What a control group may use, as the kernel's files say it: CPUs, CPU time and memory, of version 1 and 2.

    v2  <root>/<path>/cpuset.cpus (as asked for; empty: all), cpu.max ("QUOTA PERIOD" or "max PERIOD"), memory.max
    v1  <root>/cpuset/<path>/cpuset.cpus, <root>/cpu/<path>/cpu.cfs_{quota,period}_us (quota -1: none),
        <root>/memory/<path>/memory.limit_in_bytes (nearly 2^63: none)
    both at once (hybrid)  controllers of version 1 have their folders, version 2 lies in <root>/unified

A file that is missing or says nothing is None: no limit is known.
"""

from collections.abc import Mapping
from pathlib import Path

__all__ = ["CGROUP_ROOT", "GroupFiles", "parse_cpu_list"]

CGROUP_ROOT = Path("/sys/fs/cgroup")
_BYTES_MAX = 64 * 1024
# Version 1 shows "no limit" as the highest multiple of a page.
_NO_LIMIT_BYTES = 1 << 60
_CPUS_MAX = 1 << 16


class GroupFiles:
    """Reads the files of groups; `paths` are a group's folders by controller, that of version 2 under ""."""

    def __init__(self, root: Path = CGROUP_ROOT) -> None:
        self._root = root

    def cpus(self, paths: Mapping[str, str]) -> int | None:
        """How many logical CPUs the group is confined to."""
        text = self._read(paths, "cpuset", "cpuset.cpus")
        return None if not text else parse_cpu_list(text)

    def quota_millicores(self, paths: Mapping[str, str]) -> int | None:
        """How much CPU time the group may use, in thousandths of a CPU."""
        text = self._read(paths, "cpu", "cpu.cfs_quota_us" if "cpu" in paths else "cpu.max")
        if not text:
            return None
        quota, _, period = text.partition(" ")
        if "cpu" in paths:
            period = self._read(paths, "cpu", "cpu.cfs_period_us") or ""
        if not (quota.isdigit() and period.isdigit()) or int(period) == 0:
            return None  # "max", -1, or no number
        return int(quota) * 1000 // int(period)

    def memory_bytes(self, paths: Mapping[str, str]) -> int | None:
        """How much memory the group may have."""
        text = self._read(paths, "memory", "memory.limit_in_bytes" if "memory" in paths else "memory.max")
        if not text or not text.isdigit() or int(text) >= _NO_LIMIT_BYTES:
            return None
        return int(text)

    def _read(self, paths: Mapping[str, str], controller: str, name: str) -> str | None:
        if controller in paths:
            folder = self._root / controller
        elif "" in paths:
            unified = self._root / "unified"
            folder, controller = (unified if unified.is_dir() else self._root), ""
        else:
            return None
        try:
            with (folder / paths[controller].lstrip("/") / name).open("rb") as file:
                return file.read(_BYTES_MAX).decode("ascii", "replace").strip()
        except OSError:  # it ended, or this kernel has no such file
            return None


def parse_cpu_list(text: str) -> int | None:
    """How many CPUs a list like `0-3,8` names; None when it is none."""
    count = 0
    for item in text.split(","):
        first, _, last = item.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            return None
        count += int(last or first) - int(first) + 1
        if not 0 < count <= _CPUS_MAX:
            return None
    return count
