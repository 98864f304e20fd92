"""Which GPU, or which part of one, a name means that a device plugin or a driver of Kubernetes gave it.

    GPU-<uuid>  MIG-<uuid>             NVIDIA's device plugin
    GPU-<uuid>::3  MIG-<uuid>::0       a replica: time-sliced, or shared by MPS
    nvidia0  nvidia0/gi2  .../vgpu1    Google's plugin: minor number of the device, GPU instance, replica
    gpu-0  gpu-0-mig-1g10gb-19-4       NVIDIA's driver for ResourceClaims: minor number; profile, its id, first slice
    0000:c1:00.0                       AMD's device plugin: the PCI address

Pure.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from trainledger.node.gpu import GpuDevice

__all__ = ["GpuNames", "Place", "looks_like_gpu", "replica_counts", "shared_base"]

_GOOGLE = re.compile(r"nvidia(\d+)(?:/gi(\d+))?")
_DYNAMIC = re.compile(r"gpu-(\d+)(?:-mig-.+-\d+-(\d+))?")


class Place(NamedTuple):
    """A device, or a MIG instance of it, which is `size / of` of the device."""

    device_id: str
    part_id: str = ""
    size: int = 1
    of: int = 1


def shared_base(device_id: str) -> tuple[str, bool]:
    """The name without the number of a replica, and whether it had one."""
    for mark in ("::", "/vgpu"):
        base, found, _ = device_id.partition(mark)
        if found:
            return base, True
    return device_id, False


def replica_counts(device_ids: Iterable[str]) -> dict[str, int]:
    """How many replicas each shared device is cut into, from the names of all of them."""
    counts: dict[str, int] = {}
    for device_id in set(device_ids):
        base, is_shared = shared_base(device_id)
        if is_shared:
            counts[base] = counts.get(base, 0) + 1
    return counts


class GpuNames:
    """The node's GPUs by the names that they may be given away under."""

    def __init__(self, devices: Iterable[GpuDevice]) -> None:
        self._places: dict[str, Place] = {}
        for device in devices:
            whole = Place(device.device_id)
            minor = device.minor
            named = [device.device_id, *([] if minor is None else [f"nvidia{minor}", f"gpu-{minor}"])]
            self._places |= dict.fromkeys(named, whole)
            if device.pci_bus_id is not None:
                self._places[pci_address(device.pci_bus_id)] = whole
            for part in device.parts:
                place = Place(device.device_id, part.part_id, part.size, part.of)
                self._places[part.part_id] = place
                if minor is not None:
                    self._places[f"nvidia{minor}/gi{part.instance}"] = place
                    self._places[f"gpu-{minor}-mig-{part.start}"] = place

    def place_of(self, base: str) -> Place | None:
        """What a name without its replica means; None: no GPU of this node that the agent sees."""
        found = _DYNAMIC.fullmatch(base)
        if found is not None and found[2] is not None:
            base = f"gpu-{found[1]}-mig-{found[2]}"
        return self._places.get(base)


def looks_like_gpu(resource: str, device_id: str) -> bool:
    """Whether a device that is not among the GPUs should be: it has a GPU's name, or its resource says so."""
    base, _ = shared_base(device_id)
    is_gpu = base.startswith(("GPU-", "MIG-")) or _GOOGLE.fullmatch(base) is not None
    return is_gpu or resource.startswith(("nvidia.com/", "amd.com/gpu"))


def pci_address(bus_id: str) -> str:
    """A PCI address in the short form of the kernel: NVML writes the domain with eight digits."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{domain[-4:]}:{rest}"
