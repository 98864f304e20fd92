"""The AMD GPUs of this node through AMD SMI: `GpuReader`.

Who is on a device comes with memory and with the time that a process used the graphics and compute engine, in
nanoseconds; where several are on a device and that time grows for none of them, the driver does not count it, and the
use is not known by process. Other people's processes are listed for root alone.

A device that does not answer is lost until it does: unlike NVIDIA's, AMD's driver can bring one back by a reset.
"""

from collections.abc import Sequence
from typing import Any

from trainledger.node.amdsmi import SUCCESS, AmdSmi, known, open_amdsmi
from trainledger.node.amdsmi_devices import AmdHandle, list_devices
from trainledger.node.amdsmi_readings import AmdMeter
from trainledger.node.gpu import GpuDevice, GpuError, GpuProcess, GpuProcesses, GpuReading
from trainledger_schemas.clock import Clock

__all__ = ["AmdReader", "open_reader"]


class AmdReader:
    """See `GpuReader`."""

    def __init__(self, smi: AmdSmi) -> None:
        self._smi = smi
        self._handles: dict[str, AmdHandle] = {}
        self._meters: dict[str, AmdMeter] = {}
        self._engine_ns: dict[tuple[str, int], tuple[int, int]] = {}

    def devices(self) -> Sequence[GpuDevice]:
        """All GPUs now; see `GpuReader`."""
        handles = {item.device.device_id: item for item in list_devices(self._smi, self._handles)}
        for turn, (device_id, handle) in enumerate(handles.items()):
            old = self._handles.get(device_id)
            if old is not None and old.device != handle.device:
                self._meters.pop(device_id, None)
                self._smi.forget(device_id)
            self._meters.setdefault(device_id, AmdMeter(self._smi, handle, turn)).place = handle
        self._handles = handles
        return [item.device for item in handles.values()]

    def sample(self, device_id: str) -> Sequence[GpuReading]:
        """One reading of the device and of each partition; see `GpuReader`."""
        meter = self._meters.get(device_id)
        return [] if meter is None else meter.read()

    def processes(self, device_id: str) -> GpuProcesses:
        """Who is on the device; see `GpuReader`."""
        place = self._handles.get(device_id)
        if place is None or place.handle is None:
            return GpuProcesses(device_id, None)
        found: list[GpuProcess] = []
        for part_id, handle in (place.parts or {"": place.handle}).items():
            code, rows = self._smi.outcome(part_id or device_id, "amdsmi_get_gpu_process_list", handle)
            if code != SUCCESS:
                return GpuProcesses(device_id, None)
            found += self._with_use(device_id, part_id, rows or ())
        return GpuProcesses(device_id, tuple(found))

    def errors(self) -> Sequence[GpuError]:
        """The library has no messages of faults that wait to be read; counters tell them."""
        return []

    def close(self) -> None:
        """End the session with the driver."""
        self._smi.close()

    def _with_use(self, device_id: str, part_id: str, rows: Sequence[Any]) -> list[GpuProcess]:
        now_ns = self._smi.clock.monotonic_ns()
        place = part_id or device_id
        grown: dict[int, float | None] = {}
        for row in rows:
            key = (place, int(row["pid"]))
            used_ns = known(row["engine_usage"].get("gfx"))
            before_ns, before = self._engine_ns.get(key, (now_ns, 0))
            grown[key[1]] = None
            if used_ns is not None:
                if now_ns > before_ns and used_ns >= before:
                    grown[key[1]] = min(100.0, 100.0 * (used_ns - before) / (now_ns - before_ns))
                self._engine_ns[key] = (now_ns, int(used_ns))
        for key in [key for key in list(self._engine_ns) if key[0] == place and key[1] not in grown]:
            self._engine_ns.pop(key, None)
        is_counted = any(grown.values())
        return [
            GpuProcess(
                pid=int(row["pid"]),
                part_id=part_id,
                memory_bytes=_memory(row),
                busy_pct=grown[int(row["pid"])] if is_counted else None,
            )
            for row in rows
        ]


def _memory(row: Any) -> int | None:
    memory = known(row["memory_usage"].get("vram_mem"))
    told = memory or known(row.get("mem"))
    return None if told is None else int(told)


def open_reader(clock: Clock) -> AmdReader | str:
    """The reader, or why this node has none in a few words."""
    smi = open_amdsmi(clock)
    return smi if isinstance(smi, str) else AmdReader(smi)
