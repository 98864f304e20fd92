"""Which AMD GPUs there are, and how each is cut into partitions (CPX and alike); with the handles of the library.

A partition is a processor of the library with a PCI function of its own on the same device. Of a device that is cut,
the first one has the device's power and energy; each has its own use, memory and processes. They are equal parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainledger.node.amdsmi import AmdSmi
from trainledger.node.gpu import GpuDevice, GpuPart

__all__ = ["AmdHandle", "list_devices", "memory_bytes"]

PARTITIONS_MAX = 64


@dataclass(frozen=True, slots=True)
class AmdHandle:
    """A device and how the library calls it (None: lost), and its partitions by their ids."""

    device: GpuDevice
    handle: Any | None
    parts: Mapping[str, Any]


def list_devices(smi: AmdSmi, before: Mapping[str, AmdHandle]) -> list[AmdHandle]:
    """All devices now, in the library's order; a device of `before` that does not answer any more is lost."""
    groups: dict[str, list[tuple[str, Any]]] = {}
    for handle in smi.ask("", "amdsmi_get_processor_handles") or ():
        uuid = smi.ask("", "amdsmi_get_gpu_device_uuid", handle)
        if not uuid:
            continue
        address = str(smi.ask("", "amdsmi_get_gpu_device_bdf", handle) or uuid)
        groups.setdefault(address.rsplit(".", 1)[0], []).append((str(uuid), handle))
    found: dict[str, AmdHandle] = {}
    for group in groups.values():
        made = _device(smi, group)
        found[made.device.device_id] = made
    for device_id, old in before.items():
        if device_id not in found:
            gone = GpuDevice(
                device_id, old.device.model, old.device.memory_bytes, old.device.pci_bus_id, old.device.driver,
                problem="lost",
            )  # fmt: skip
            found[device_id] = AmdHandle(gone, None, {})
    return list(found.values())


def memory_bytes(smi: AmdSmi, place: str, handle: Any, what: str) -> int | None:
    """`total` or `usage` of the device's memory. What tells both in MB is not asked: its unit is unclear."""
    value = smi.ask(place, f"amdsmi_get_gpu_memory_{what}", handle, smi.module.AmdSmiMemoryType.VRAM)
    return None if value is None else int(value)


def _device(smi: AmdSmi, group: list[tuple[str, Any]]) -> AmdHandle:
    device_id, handle = group[0]
    asic = smi.ask(device_id, "amdsmi_get_gpu_asic_info", handle) or {}
    driver = smi.ask(device_id, "amdsmi_get_gpu_driver_info", handle) or {}
    parts: dict[str, tuple[GpuPart, Any]] = {}
    if len(group) > 1:
        profile = smi.ask(device_id, "amdsmi_get_gpu_compute_partition", handle) or "partition"
        for number, (uuid, part) in enumerate(group[:PARTITIONS_MAX]):
            part_id = f"{uuid}/{number}"
            total = memory_bytes(smi, "", part, "total")
            parts[part_id] = (GpuPart(part_id, str(profile), total, 1, len(group)), part)
    device = GpuDevice(
        device_id=device_id,
        model=_text(asic.get("market_name")) or "AMD GPU",
        memory_bytes=memory_bytes(smi, device_id, handle, "total"),
        pci_bus_id=_text(smi.ask(device_id, "amdsmi_get_gpu_device_bdf", handle)),
        driver=_text(driver.get("driver_version")),
        is_mig=bool(parts),
        parts=tuple(part for part, _ in parts.values()),
    )
    return AmdHandle(device, handle, {part_id: part for part_id, (_, part) in parts.items()})


def _text(value: Any) -> str | None:
    return None if value in (None, "", "N/A") else str(value)
