"""The GPUs of this node through NVML: `GpuReader` with a list of devices that is read anew when it is asked for."""

from collections.abc import Sequence

from trainledger.node.gpu import GpuDevice, GpuError, GpuProcesses, GpuReading
from trainledger.node.nvml import LIBRARY, Nvml, open_nvml
from trainledger.node.nvml_devices import DeviceHandle, list_devices
from trainledger.node.nvml_events import XidLog
from trainledger.node.nvml_processes import ProcessMeter
from trainledger.node.nvml_readings import DeviceMeter
from trainledger_schemas.clock import Clock

__all__ = ["NvmlReader", "open_reader"]


class NvmlReader:
    """See `GpuReader`; raises NvmlGoneError when the library must be opened anew, and nothing else."""

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self._handles: dict[str, DeviceHandle] = {}
        self._meters: dict[str, DeviceMeter] = {}
        self._process_meters: dict[str, ProcessMeter] = {}
        self._xids = XidLog(nvml)

    def devices(self) -> Sequence[GpuDevice]:
        """All GPUs now; see `GpuReader`."""
        handles = {item.device.device_id: item for item in list_devices(self._nvml, self._handles)}
        for device_id, meter in list(self._meters.items()):
            if handles.get(device_id) is None or handles[device_id].device != self._handles[device_id].device:
                meter.close()
                del self._meters[device_id], self._process_meters[device_id]
                self._nvml.forget(device_id)
        for turn, (device_id, handle) in enumerate(handles.items()):
            # The same device and layout still has new handles of its parts.
            self._meters.setdefault(device_id, DeviceMeter(self._nvml, handle, turn)).place = handle
            self._process_meters.setdefault(device_id, ProcessMeter(self._nvml, handle)).place = handle
        self._handles = handles
        self._xids.listen(handles.values())
        return [item.device for item in handles.values()]

    def sample(self) -> Sequence[GpuReading]:
        """One reading a device and MIG instance; see `GpuReader`."""
        readings: list[GpuReading] = []
        self._xids.read()
        for device_id in self._handles:
            if not self._nvml.is_lost(device_id):
                readings += self._meters[device_id].read(xids=self._xids.counts.get(device_id))
        return readings

    def processes(self) -> Sequence[GpuProcesses]:
        """Who is on each device; see `GpuReader`."""
        return [
            GpuProcesses(device_id, None)
            if self._nvml.is_lost(device_id)
            else self._process_meters[device_id].read()
            for device_id in self._handles
        ]

    def errors(self) -> Sequence[GpuError]:
        """Xid errors since the call before; see `GpuReader`."""
        self._xids.read()
        return self._xids.take()

    def close(self) -> None:
        """End the session with the driver."""
        for meter in self._meters.values():
            meter.close()
        self._xids.close()
        self._nvml.close()


def open_reader(clock: Clock, *, library: str = LIBRARY) -> NvmlReader | str:
    """The reader, or why this node has none in a few words."""
    nvml = open_nvml(clock, library=library)
    return nvml if isinstance(nvml, str) else NvmlReader(nvml)
