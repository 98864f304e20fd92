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
    """See `GpuReader`."""

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self._handles: dict[str, DeviceHandle] = {}
        self._meters: dict[str, DeviceMeter] = {}
        self._process_meters: dict[str, ProcessMeter] = {}
        # Meters of a layout that is gone: closed by the thread that reads the device, which may be inside one now.
        self._retired: dict[str, list[DeviceMeter]] = {}
        self._xids = XidLog(nvml)

    def devices(self) -> Sequence[GpuDevice]:
        """All GPUs now; see `GpuReader`."""
        handles = {item.device.device_id: item for item in list_devices(self._nvml, self._handles)}
        for device_id in list(self._meters):
            if handles.get(device_id) is None or handles[device_id].device != self._handles[device_id].device:
                self._retired.setdefault(device_id, []).append(self._meters.pop(device_id))
                del self._process_meters[device_id]
                self._nvml.forget(device_id)
        for turn, (device_id, handle) in enumerate(handles.items()):
            # The same device and layout still has new handles of its parts.
            self._meters.setdefault(device_id, DeviceMeter(self._nvml, handle, turn)).place = handle
            self._process_meters.setdefault(device_id, ProcessMeter(self._nvml, handle)).place = handle
        self._handles = handles
        self._xids.listen(handles.values())
        return [item.device for item in handles.values()]

    def sample(self, device_id: str) -> Sequence[GpuReading]:
        """One reading of the device and of each MIG instance; see `GpuReader`."""
        for old in self._retired.pop(device_id, ()):
            old.close()
        meter = self._meters.get(device_id)
        if meter is None or self._nvml.is_lost(device_id):
            return []
        return meter.read(xids=self._xids.counts.get(device_id))

    def processes(self, device_id: str) -> GpuProcesses:
        """Who is on the device; see `GpuReader`."""
        meter = self._process_meters.get(device_id)
        if meter is None or self._nvml.is_lost(device_id):
            return GpuProcesses(device_id, None)
        return meter.read()

    def errors(self) -> Sequence[GpuError]:
        """Xid errors since the call before; see `GpuReader`."""
        self._xids.read()
        return self._xids.take()

    def close(self) -> None:
        """End the session with the driver."""
        for meter in (*self._meters.values(), *(old for olds in self._retired.values() for old in olds)):
            meter.close()
        self._xids.close()
        self._nvml.close()


def open_reader(clock: Clock, *, library: str = LIBRARY) -> NvmlReader | str:
    """The reader, or why this node has none in a few words."""
    nvml = open_nvml(clock, library=library)
    return nvml if isinstance(nvml, str) else NvmlReader(nvml)
