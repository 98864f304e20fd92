"""Which GPUs there are, and how each is cut into MIG instances; with the handles that other calls need.

Handles of MIG instances die with the layout and are then used again for other instances, so they are taken
anew whenever the list is read. The size of an instance is its placement in memory slices (of 8; of 4 where the
GPU has four): that is what others can no longer have. Where the driver does not give the placement, the share of
the memory says it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainledger.node.gpu import GpuDevice, GpuPart
from trainledger.node.nvml import NOT_FOUND, Nvml

__all__ = ["DeviceHandle", "PartHandle", "list_devices", "text"]

NO_INSTANCE = 0xFFFFFFFF
MIG_DEVICES_MAX = 64
DEVICES_MAX = 1024


@dataclass(frozen=True, slots=True)
class PartHandle:
    """A MIG instance and how NVML calls it."""

    part: GpuPart
    handle: Any
    gpu_instance: int


@dataclass(frozen=True, slots=True)
class DeviceHandle:
    """A device and how NVML calls it; `handle` None: lost."""

    device: GpuDevice
    handle: Any | None
    parts: tuple[PartHandle, ...] = ()


def list_devices(nvml: Nvml, known: Mapping[str, DeviceHandle]) -> list[DeviceHandle]:
    """All devices now, in the driver's order; of `known` the lost ones too."""
    driver = text(nvml.ask("", "nvmlSystemGetDriverVersion"))
    count = nvml.ask("", "nvmlDeviceGetCount") or 0
    found: dict[str, DeviceHandle] = {}
    missing = 0
    for index in range(min(count, DEVICES_MAX)):
        handle = nvml.ask("", "nvmlDeviceGetHandleByIndex", index)
        device_id = text(nvml.ask("", "nvmlDeviceGetUUID", handle)) if handle is not None else None
        if device_id is None:
            missing += 1
        elif not nvml.is_lost(device_id):
            found[device_id] = _device(nvml, device_id, handle, driver)
    for device_id, before in known.items():
        # A device that was there and has lost its handle is lost; one that the driver no longer counts was removed.
        if device_id not in found and (nvml.is_lost(device_id) or missing > 0):
            nvml.lost.add(device_id)
            found[device_id] = _lost(before)
    return list(found.values())


def text(value: Any) -> str | None:
    """Text of NVML: older versions of pynvml give bytes."""
    if value is None:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _device(nvml: Nvml, device_id: str, handle: Any, driver: str | None) -> DeviceHandle:
    memory = nvml.ask(device_id, "nvmlDeviceGetMemoryInfo", handle)
    pci = nvml.ask(device_id, "nvmlDeviceGetPciInfo", handle)
    minor = nvml.ask(device_id, "nvmlDeviceGetMinorNumber", handle)
    mode = nvml.ask(device_id, "nvmlDeviceGetMigMode", handle)
    is_mig = mode is not None and mode[0] == 1
    memory_bytes = None if memory is None else int(memory.total)
    parts = _parts(nvml, device_id, handle, memory_bytes) if is_mig else ()
    device = GpuDevice(
        device_id=device_id,
        model=text(nvml.ask(device_id, "nvmlDeviceGetName", handle)) or "GPU",
        memory_bytes=memory_bytes,
        pci_bus_id=None if pci is None else text(pci.busId),
        driver=driver,
        is_mig=is_mig,
        parts=tuple(item.part for item in parts),
        minor=None if minor is None else int(minor),
    )
    return DeviceHandle(device, handle, parts)


def _lost(before: DeviceHandle) -> DeviceHandle:
    old = before.device
    device = GpuDevice(old.device_id, old.model, old.memory_bytes, old.pci_bus_id, old.driver, problem="lost")
    return DeviceHandle(device, None)


def _parts(nvml: Nvml, device_id: str, handle: Any, total_bytes: int | None) -> tuple[PartHandle, ...]:
    """The MIG instances of a device; gaps among the indexes are normal."""
    count = nvml.ask(device_id, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0
    parts: list[PartHandle] = []
    for index in range(min(count, MIG_DEVICES_MAX)):
        code, part = nvml.outcome("", "nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        if code == NOT_FOUND or part is None:
            continue
        made = _part(nvml, device_id, handle, part, total_bytes=total_bytes)
        if made is not None:
            parts.append(made)
    return tuple(parts)


def _part(
    nvml: Nvml, device_id: str, parent: Any, handle: Any, *, total_bytes: int | None
) -> PartHandle | None:
    part_id = text(nvml.ask("", "nvmlDeviceGetUUID", handle))
    if part_id is None:  # it was removed between the two calls
        return None
    attributes = nvml.ask("", "nvmlDeviceGetAttributes_v2", handle)
    memory = nvml.ask("", "nvmlDeviceGetMemoryInfo", handle)
    memory_bytes = None if memory is None else int(memory.total)
    instance = nvml.ask("", "nvmlDeviceGetGpuInstanceId", handle)
    start, slices = (None, None) if instance is None else _placement(nvml, device_id, parent, instance)
    of = _memory_slices(nvml, device_id, parent)
    if slices is None:
        slices = _slices_by_memory(memory_bytes, total_bytes, of)
    number = None if instance is None else int(instance)
    compute = nvml.ask("", "nvmlDeviceGetComputeInstanceId", handle)
    part = GpuPart(
        part_id,
        _profile(attributes, memory_bytes),
        memory_bytes,
        min(slices, of),
        of,
        instance=number,
        start=start,
        compute_instance=None if compute is None else int(compute),
    )
    return PartHandle(part, handle, NO_INSTANCE if number is None else number)


def _placement(nvml: Nvml, device_id: str, parent: Any, instance: int) -> tuple[int | None, int | None]:
    """The first memory slice of a GPU instance, and how many it has."""
    gpu_instance = nvml.ask(device_id, "nvmlDeviceGetGpuInstanceById", parent, instance)
    info = None if gpu_instance is None else nvml.ask(device_id, "nvmlGpuInstanceGetInfo", gpu_instance)
    if info is None or not info.placement.size:
        return None, None
    return int(info.placement.start), int(info.placement.size)


def _memory_slices(nvml: Nvml, device_id: str, parent: Any) -> int:
    # An A30 has 4 slices of each kind, all others 7 of compute and 8 of memory. Most instances a GPU can have: 4 or 7.
    most = nvml.ask(device_id, "nvmlDeviceGetMaxMigDeviceCount", parent) or 7
    return 4 if most <= 4 else 8


def _slices_by_memory(memory_bytes: int | None, total_bytes: int | None, of: int) -> int:
    if not memory_bytes or not total_bytes:
        return 1
    return max(1, min(of, round(of * memory_bytes / total_bytes)))


def _profile(attributes: Any | None, memory_bytes: int | None) -> str:
    """The profile as nvidia-smi writes it: compute slices and memory, `1c.` before it for a part of an instance."""
    if attributes is None:
        return "MIG"
    gpu_slices, compute = int(attributes.gpuInstanceSliceCount), int(attributes.computeInstanceSliceCount)
    megabytes = int(attributes.memorySizeMB) or (memory_bytes or 0) >> 20
    name = f"{gpu_slices}g.{-(-megabytes // 1024)}gb"
    return name if compute in (0, gpu_slices) else f"{compute}c.{name}"
