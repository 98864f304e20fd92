"""The host as a whole: CPU, memory, disks and network, read straight from /proc.

The files stay open and are read with `pread`: a sample costs about 0.1 ms and no import, where the bar for the
whole agent is 1 % of a core. Guarantees: counters (`busy_us`, bytes) never run backwards within one object; a
counter that was reset (a device that came back) counts as its new value, never as a negative one.

Where the agent watches a machine (it sees the first process id namespace) the numbers are the machine's. In a
container of its own they are the container's, as far as cgroup v2 tells: the limit is the memory, the quota
the cores, the container's own CPU time the busy time, its own bytes those of the disks. Memory in use leaves out
the page cache. Disks and network: physical devices where there are any, else all that are not loop-back.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainledger.node.host_files import OpenFile
from trainledger.node.host_pressure import HostPressure

__all__ = ["HOST_DEVICE", "Counters", "HostReader", "HostSampler", "StatWindow"]

HOST_DEVICE = "host"
SECTOR_BYTES = 512
READ_BYTES_MAX = 1 << 20
FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO of the kernel: the namespace of the machine itself
MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Counters:
    """What one reading of the host gives; byte counters and CPU times count since boot."""

    busy_us: int
    idle_us: int
    mem_used_bytes: int
    mem_total_bytes: int
    disk_read_bytes: int
    disk_write_bytes: int
    net_rx_bytes: int
    net_tx_bytes: int


class HostReader:
    """Reads the host's counters. `proc`, `sys` and `in_container` are there for tests on recorded folders."""

    def __init__(
        self, *, proc: Path = Path("/proc"), sys: Path = Path("/sys"), in_container: bool | None = None
    ) -> None:
        self._sys = sys
        self._stat = OpenFile(proc / "stat")
        self._meminfo = OpenFile(proc / "meminfo")
        self._disks = OpenFile(proc / "diskstats")
        self._net = OpenFile(proc / "self" / "net" / "dev")
        own = _is_container(proc) if in_container is None else in_container
        group = sys / "fs" / "cgroup"
        # The root of the machine's own hierarchy has no memory.max: where there is one, we are inside.
        self._group = group if own and (group / "memory.max").exists() else None
        self._group_cpu = OpenFile(group / "cpu.stat") if self._group else None
        self._group_memory = OpenFile(group / "memory.current") if self._group else None
        self._group_memory_stat = OpenFile(group / "memory.stat") if self._group else None
        self._group_io = OpenFile(group / "io.stat") if self._group else None
        self.pressure = HostPressure(proc, sys, group=self._group)
        self._tick_us = MICROSECONDS // os.sysconf("SC_CLK_TCK")
        self._physical: dict[tuple[str, str], bool] = {}
        self.cores = self._count_cores()

    def read(self) -> Counters:
        """One reading; does not block beyond the files themselves."""
        busy_us, idle_us = self.cpu_us()
        used, total = self._memory()
        disk_read, disk_write = self._disk_bytes()
        net_rx, net_tx = self._net_bytes()
        return Counters(busy_us, idle_us, used, total, disk_read, disk_write, net_rx, net_tx)

    def cpu_us(self) -> tuple[int, int]:
        """CPU time used and not used since boot (in a container: used by the container), microseconds."""
        fields = self._stat.read(READ_BYTES_MAX).partition(b"\n")[0].split()
        if len(fields) < 9 or fields[0] != b"cpu":
            return 0, 0
        user, nice, system, idle, iowait, irq, softirq, steal = (int(item) for item in fields[1:9])
        # Guest time is inside user already. Stolen time was used by others: not ours, and not free either.
        busy_us = (user + nice + system + irq + softirq) * self._tick_us
        idle_us = (idle + iowait + steal) * self._tick_us
        if self._group_cpu is not None:
            group = _numbers(self._group_cpu.read())
            busy_us = group.get(b"usage_usec", busy_us)
        return busy_us, idle_us

    def close(self) -> None:
        """Close the files."""
        for file in (self._stat, self._meminfo, self._disks, self._net):
            file.close()
        self.pressure.close()
        for group_file in (self._group_cpu, self._group_memory, self._group_memory_stat, self._group_io):
            if group_file is not None:
                group_file.close()

    @property
    def is_group(self) -> bool:
        """Whether the numbers are those of a container of its own."""
        return self._group is not None

    def memory_total_bytes(self) -> int:
        """Memory of the node: the machine's, or the container's limit."""
        return self._memory()[1]

    def _memory(self) -> tuple[int, int]:
        info = _numbers(self._meminfo.read())
        total = info.get(b"MemTotal:", 0) * 1024
        used = max(0, total - info.get(b"MemAvailable:", info.get(b"MemFree:", 0)) * 1024)
        if self._group is None or self._group_memory is None or self._group_memory_stat is None:
            return used, total
        limit = _number_of(self._group / "memory.max")
        stat = _numbers(self._group_memory_stat.read())
        current = int(self._group_memory.read() or b"0")
        used = max(0, current - stat.get(b"inactive_file", 0) - stat.get(b"active_file", 0))
        return used, min(total, limit) if limit is not None else total

    def _disk_bytes(self) -> tuple[int, int]:
        if self._group_io is not None and self._group_io.is_open:
            return _group_disk_bytes(self._group_io.read(READ_BYTES_MAX), self._sys / "dev" / "block")
        rows = [line.split() for line in self._disks.read(READ_BYTES_MAX).splitlines()]
        rows = [row for row in rows if len(row) >= 10]
        chosen = [row for row in rows if self._is_physical("block", row[2].decode())]
        if not chosen:
            # No sysfs for them (a container): whole devices by name, a partition being another name and digits.
            names = {row[2] for row in rows}
            chosen = [row for row in rows if _is_whole_disk(row[2], names)]
        return (
            sum(int(row[5]) for row in chosen) * SECTOR_BYTES,
            sum(int(row[9]) for row in chosen) * SECTOR_BYTES,
        )

    def _net_bytes(self) -> tuple[int, int]:
        rows: dict[str, list[bytes]] = {}
        for line in self._net.read(READ_BYTES_MAX).splitlines()[2:]:
            name, colon, rest = line.partition(b":")
            fields = rest.split()
            if colon and len(fields) >= 9:
                rows[name.strip().decode()] = fields
        chosen = [fields for name, fields in rows.items() if self._is_physical("class/net", name)]
        if not chosen:
            chosen = [fields for name, fields in rows.items() if name != "lo"]
        return sum(int(fields[0]) for fields in chosen), sum(int(fields[8]) for fields in chosen)

    def _is_physical(self, kind: str, name: str) -> bool:
        # Bridges, veth pairs, loop, dm and md devices have no `device` link; their bytes are counted below them.
        known = self._physical.get((kind, name))
        if known is None:
            known = (self._sys / kind / name / "device").exists()
            if len(self._physical) > 4096:  # containers come and go, and each brings a veth of a new name
                self._physical.clear()
            self._physical[kind, name] = known
        return known

    def _count_cores(self) -> int:
        cores = os.cpu_count() or 1
        if self._group is None:
            return cores
        cores = min(cores, len(os.sched_getaffinity(0)))
        try:
            quota, period = (self._group / "cpu.max").read_text(encoding="ascii").split()[:2]
            return max(1, min(cores, -(-int(quota) // int(period))))
        except (OSError, ValueError):  # no file, or the word max
            return cores


class StatWindow:
    """Minimum, mean, maximum and last of each (device, name) over a window."""

    def __init__(self) -> None:
        self._stats: dict[tuple[str, str], list[float]] = {}
        self._estimated: set[tuple[str, str]] = set()

    def add(self, device: str, name: str, value: float, *, is_estimated: bool = False) -> None:
        """Count one sample; one that was estimated makes the whole window an estimate."""
        if is_estimated:
            self._estimated.add((device, name))
        stat = self._stats.get((device, name))
        if stat is None:
            self._stats[device, name] = [value, value, value, value, 1]
            return
        stat[0] = min(stat[0], value)
        stat[1] = max(stat[1], value)
        stat[2] += value
        stat[3] = value
        stat[4] += 1

    def take(self) -> list[dict[str, object]]:
        """The stats of the window as fields of a `hardware` event; the next window begins empty."""
        taken: list[dict[str, object]] = [
            {
                "device": device,
                "name": name,
                "minimum": lowest,
                "mean": total / count,
                "maximum": highest,
                "last": last,
                "samples": int(count),
                "quality": "estimated" if (device, name) in self._estimated else "measured",
            }
            for (device, name), (lowest, highest, total, last, count) in self._stats.items()
        ]
        self._stats.clear()
        self._estimated.clear()
        return taken


class HostSampler:
    """Turns readings into samples: CPU in percent of all cores, bytes since the sample before."""

    def __init__(self, reader: HostReader) -> None:
        self._read: Callable[[], Counters] = reader.read
        self._pressure = reader.pressure
        self._cores = reader.cores
        self._is_group = reader.is_group
        self._before: tuple[int, Counters] | None = None

    def sample(self, now_ns: int, window: StatWindow) -> Counters:
        """Add one sample to `window`. The first one has no rates: nothing is known before it."""
        now = self._read()
        for name, value in self._pressure.sample(now_ns).items():
            window.add(HOST_DEVICE, name, value)
        window.add(HOST_DEVICE, "mem_used_bytes", now.mem_used_bytes)
        window.add(HOST_DEVICE, "mem_total_bytes", now.mem_total_bytes)
        if self._before is not None:
            before_ns, before = self._before
            percent = self._percent(before, now, now_ns - before_ns)
            if percent is not None:
                window.add(HOST_DEVICE, "cpu_pct", percent)
            for name in ("disk_read_bytes", "disk_write_bytes", "net_rx_bytes", "net_tx_bytes"):
                window.add(HOST_DEVICE, name, _grown(getattr(before, name), getattr(now, name)))
        self._before = (now_ns, now)
        return now

    def _percent(self, before: Counters, now: Counters, elapsed_ns: int) -> float | None:
        busy_us = max(0, now.busy_us - before.busy_us)
        all_us = busy_us + max(0, now.idle_us - before.idle_us)
        if self._is_group:  # idle time is the machine's: a container has its cores alone
            all_us = self._cores * elapsed_ns // 1000
        return min(100.0, 100.0 * busy_us / all_us) if all_us > 0 else None


def _grown(before: int, now: int) -> int:
    return now - before if now >= before else now


def _numbers(text: bytes) -> Mapping[bytes, int]:
    """Lines `name number ...` as a mapping; others are left out."""
    found: dict[bytes, int] = {}
    for line in text.splitlines():
        fields = line.split(None, 2)
        if len(fields) >= 2 and fields[1].isdigit():
            found[fields[0]] = int(fields[1])
    return found


def _group_disk_bytes(text: bytes, devices: Path) -> tuple[int, int]:
    """Bytes that a control group read and wrote: of physical devices where there are any, else of all."""
    rows: dict[str, dict[bytes, int]] = {}
    for line in text.splitlines():
        device, *pairs = line.split()
        known = (pair.partition(b"=") for pair in pairs)
        rows[device.decode()] = {name: int(value) for name, _, value in known if value.isdigit()}
    physical = [row for name, row in rows.items() if (devices / name / "device").exists()]
    chosen = physical or list(rows.values())
    return (sum(row.get(b"rbytes", 0) for row in chosen), sum(row.get(b"wbytes", 0) for row in chosen))


def _number_of(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _is_container(proc: Path) -> bool:
    try:
        return (proc / "self" / "ns" / "pid").stat().st_ino != FIRST_PID_NAMESPACE
    except OSError:
        return False


def _is_whole_disk(name: bytes, names: set[bytes]) -> bool:
    if name.startswith((b"loop", b"ram", b"zram", b"dm-", b"md", b"sr", b"fd")):
        return False
    stem = name.rstrip(b"0123456789")
    if stem == name:
        return True
    return not (stem in names or (stem.endswith(b"p") and stem[:-1] in names))
