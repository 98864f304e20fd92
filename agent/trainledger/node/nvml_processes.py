"""Who is on a device, with how much memory and which share of its time.

The lists of compute, graphics and MPS processes are merged by pid. Under MIG the driver measures no process, and the
lists come from the instances.

The use of a process is asked for only where there are several: it costs 2 ms a call. Seen on an H100 with driver
580: five times a second the driver looks which process is running and gives it the whole fifth, and a call answers
with one row a process, the mean of its fifths since `last`. So a share is a count of looks (two equal processes
showed 33 and 66 in a half second, 49 and 50 in fourteen), and a process that works in step with the looks is
counted too much or too little. An idle process has a row with 0, or none.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from trainledger.node.gpu import GpuProcess, GpuProcesses
from trainledger.node.nvml import NOT_FOUND, SUCCESS, Nvml
from trainledger.node.nvml_devices import DeviceHandle

__all__ = ["ProcessMeter"]

# Several of the driver's samples: it takes one about each fifth of a second.
FIRST_SPAN_US = 2_000_000
GRAPHICS = "nvmlDeviceGetGraphicsRunningProcesses_v3"
LISTS = (
    "nvmlDeviceGetComputeRunningProcesses_v3",
    GRAPHICS,
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
)


@dataclass(slots=True)
class ProcessMeter:
    """Looks at the processes of one device again and again."""

    nvml: Nvml
    place: DeviceHandle
    # The driver's own stamp up to which the use is known, and when the device was looked at last (wall time).
    _newest_us: int = 0
    _looked_us: int = 0
    _before: frozenset[int] = frozenset()

    def read(self) -> GpuProcesses:
        """The processes now, and their use since the call before."""
        device_id = self.place.device.device_id
        if self.place.handle is None:
            return GpuProcesses(device_id, None)
        if self.place.device.is_mig:
            return GpuProcesses(device_id, self._of_parts())
        listed = self._list(device_id, self.place.handle)
        if listed is None or self.nvml.is_lost(device_id):
            return GpuProcesses(device_id, None)
        now = frozenset(process.pid for process in listed)
        gone, self._before = self._before - now, now
        # Also when all but one have ended: what each used until then is still to be told apart.
        was_shared = len(now) + len(gone) > 1
        busy = self._busy_since(device_id, self.place.handle) if was_shared else None
        if len(now) < 2:
            self._newest_us = 0
        self._looked_us = self.nvml.wall_us()
        if busy is None:
            return GpuProcesses(device_id, tuple(listed))
        ended = [GpuProcess(pid, is_gone=True) for pid in sorted(gone) if pid in busy]
        return GpuProcesses(device_id, tuple(_with_busy([*listed, *ended], busy)))

    def _of_parts(self) -> tuple[GpuProcess, ...] | None:
        found: list[GpuProcess] = []
        for item in self.place.parts:
            listed = self._list(item.part.part_id, item.handle)
            if listed is None:
                return None
            found += [replace(process, part_id=item.part.part_id) for process in listed]
        return tuple(found)

    def _list(self, place: str, handle: Any) -> list[GpuProcess] | None:
        """Processes of all lists; None when the driver gave not even the compute processes."""
        found: dict[int, GpuProcess] = {}
        for name in LISTS:
            code, rows = self.nvml.outcome(place, name, handle)
            if code != SUCCESS:
                if name == LISTS[0]:
                    return None
                continue
            for row in rows or ():
                memory = None if row.usedGpuMemory is None else int(row.usedGpuMemory)
                old = found.get(int(row.pid))
                is_compute = name != GRAPHICS or (old is not None and old.is_compute)
                if old is not None and (old.memory_bytes or 0) >= (memory or 0):
                    memory = old.memory_bytes
                found[int(row.pid)] = GpuProcess(int(row.pid), memory_bytes=memory, is_compute=is_compute)
        return list(found.values())

    def _busy_since(self, place: str, handle: Any) -> dict[int, float] | None:
        """Percent of the device's time by pid since the call before; None when the driver does not measure it."""
        since_us = self._newest_us
        if not since_us:
            # It was not shared until now: what the driver kept from before the last call is about others. The
            # driver stamps its samples with the wall clock.
            first_us = self.nvml.wall_us() - FIRST_SPAN_US
            since_us = min(self._looked_us or first_us, first_us)
        code, samples = self.nvml.outcome(place, "nvmlDeviceGetProcessUtilization", handle, since_us)
        if code not in (SUCCESS, NOT_FOUND):
            return None
        rows = list(samples or ())
        self._newest_us = max([since_us, *(int(row.timeStamp) for row in rows)])
        return _mean_busy(rows)


def _mean_busy(rows: Iterable[Any]) -> dict[int, float]:
    sums: dict[int, list[float]] = {}
    for row in rows:
        sums.setdefault(int(row.pid), []).append(float(row.smUtil))
    # A process has a row for each of the driver's samples in which it used the device: one with fewer used less.
    samples = max((len(values) for values in sums.values()), default=1)
    return {pid: sum(values) / samples for pid, values in sums.items()}


def _with_busy(listed: Iterable[GpuProcess], busy: dict[int, float]) -> list[GpuProcess]:
    return [replace(process, busy_pct=busy.get(process.pid, 0.0)) for process in listed]
