"""Xid errors: what the driver reports of a GPU's faults, with their numbers, counted by device since the agent began.

Asked for without waiting, at 10 us a look; what happened before the agent began is not known. A GPU that refuses to
register, or a driver that has no events, counts nothing.
"""

import ctypes
from collections.abc import Iterable
from typing import Any

from trainledger.node.gpu import GpuError
from trainledger.node.nvml import SUCCESS, Nvml
from trainledger.node.nvml_devices import DeviceHandle

__all__ = ["XidLog"]

XID_EVENT = 8
EVENTS_MAX = 64


class XidLog:
    """Counts errors of all devices; `listen` once a device, `read` as often as wanted."""

    def __init__(self, nvml: Nvml) -> None:
        self.counts: dict[str, int] = {}
        self._new: dict[tuple[str, int], int] = {}
        self._nvml = nvml
        self._events: Any | None = None
        self._ids: dict[int | None, str] = {}

    def listen(self, devices: Iterable[DeviceHandle]) -> None:
        """Register devices that are not registered yet."""
        for item in devices:
            device_id = item.device.device_id
            if item.handle is None or device_id in self.counts:
                continue
            if self._events is None:
                self._events = self._nvml.ask("events", "nvmlEventSetCreate")
            if self._events is None:
                return
            code, _ = self._nvml.outcome(
                device_id, "nvmlDeviceRegisterEvents", item.handle, XID_EVENT, self._events
            )
            if code == SUCCESS:
                self.counts[device_id] = 0
                self._ids[_address(item.handle)] = device_id

    def read(self) -> None:
        """Count what was reported since the last call; does not wait."""
        for _ in range(EVENTS_MAX if self.counts else 0):
            event = self._nvml.ask("", "nvmlEventSetWait_v2", self._events, 0)
            if event is None:  # nothing more
                return
            device_id = self._ids.get(_address(event.device))
            if device_id is not None and event.eventType == XID_EVENT:
                self.counts[device_id] += 1
                error = (device_id, int(event.eventData))
                self._new[error] = self._new.get(error, 0) + 1

    def take(self) -> list[GpuError]:
        """What `read` found since the last call."""
        new, self._new = self._new, {}
        return [GpuError(device_id, "xid", code, count) for (device_id, code), count in new.items()]

    def close(self) -> None:
        """Stop listening."""
        if self._events is not None:
            self._nvml.ask("", "nvmlEventSetFree", self._events)
            self._events = None


def _address(handle: Any) -> int | None:
    # Handles are opaque pointers: the same device has the same address in one session.
    return ctypes.cast(handle, ctypes.c_void_p).value
