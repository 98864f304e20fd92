"""Which GPUs a value of CUDA_VISIBLE_DEVICES names, by the rules of the CUDA driver. Pure.

    not set                     all devices
    "", or a bad first entry    none
    0,2                         by index, in the driver's order; what follows the digits is ignored ("1a" is 1)
    GPU-8f6a                    the one device whose UUID begins so
    MIG-<uuid>                  the MIG instance with that UUID (a beginning that only one has will do)
    MIG-GPU-<uuid>/<gi>/<ci>    the old name of an instance: its GPU, its instance, its compute instance

The form of the first entry is that of all. An entry of another form, one that is no device, and one that could be
several ends the list: what stands before it counts. A device that is named twice makes the whole list empty. Of MIG
instances a process sees only one, the first. Indexes mean the driver's order only where nothing hides devices from
the process and CUDA_DEVICE_ORDER asks for no other: where it matters, use UUIDs.

Without a scheduler the variable is a wish: nobody keeps the devices for whoever set it. So it makes no claim and
nobody else pays less by it.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from trainledger.node.gpu import GpuDevice, GpuPart

__all__ = ["VisibleDevice", "names_by_uuid", "visible_devices"]

_DIGITS = re.compile(r"[0-9]{1,6}")


class VisibleDevice(NamedTuple):
    """A device, or a MIG instance of it."""

    device_id: str
    part_id: str = ""


def visible_devices(value: str | None, devices: Sequence[GpuDevice]) -> list[VisibleDevice]:
    """The devices that `value` names among `devices`, in the order of the value."""
    if value is None:
        return [VisibleDevice(device.device_id) for device in devices]
    entries = [entry.strip() for entry in value.split(",")]
    find = _finder(entries[0])
    found: list[VisibleDevice] = []
    for entry in entries:
        place = find(entry, devices)
        if place is None:
            break
        if place in found:
            return []
        found.append(place)
    return found[:1] if found and found[0].part_id else found


def names_by_uuid(value: str | None) -> bool:
    """Whether a value names devices by UUID, which means the same to everybody."""
    return value is not None and value.strip().startswith(("GPU-", "MIG-"))


_Find = Callable[[str, Sequence[GpuDevice]], VisibleDevice | None]


def _finder(first: str) -> _Find:
    if first.startswith("MIG-"):
        return _instance
    return _whole if first.startswith("GPU-") else _by_index


def _by_index(entry: str, devices: Sequence[GpuDevice]) -> VisibleDevice | None:
    digits = _DIGITS.match(entry)
    index = int(digits[0]) if digits is not None else len(devices)
    return VisibleDevice(devices[index].device_id) if index < len(devices) else None


def _whole(entry: str, devices: Sequence[GpuDevice]) -> VisibleDevice | None:
    found = [device.device_id for device in devices if device.device_id.startswith(entry)]
    return VisibleDevice(found[0]) if entry.startswith("GPU-") and len(found) == 1 else None


def _instance(entry: str, devices: Sequence[GpuDevice]) -> VisibleDevice | None:
    if not entry.startswith("MIG-"):
        return None
    found = [
        VisibleDevice(device.device_id, part.part_id)
        for device in devices
        for part in device.parts
        if part.part_id.startswith(entry) or entry == _old_name(device, part)
    ]
    return found[0] if len(found) == 1 else None


def _old_name(device: GpuDevice, part: GpuPart) -> str | None:
    """As drivers before 470 call the instance."""
    if part.instance is None or part.compute_instance is None:
        return None
    return f"MIG-{device.device_id}/{part.instance}/{part.compute_instance}"
