"""What pods hold on a node, as values: what the kubelet says once it is read.

A module of its own, so that who counts with these needs no gRPC: most nodes have no kubelet, and many no gRPC.
"""

from dataclasses import dataclass

__all__ = ["DynamicDevice", "HeldDevice", "NodeResources", "PodHolding"]


@dataclass(frozen=True, slots=True, order=True)
class HeldDevice:
    """A device under the name that its plugin gave it."""

    resource: str
    device_id: str


@dataclass(frozen=True, slots=True, order=True)
class DynamicDevice:
    """A device of a ResourceClaim (dynamic resource allocation): named by driver, pool and device.

    `claim`: namespace/name; several pods may use one claim, and then its device together."""

    claim: str
    driver: str
    pool: str
    device: str


@dataclass(frozen=True, slots=True)
class PodHolding:
    """What the containers of one pod hold. `cores`: numbers of the CPUs that it has for itself."""

    namespace: str
    name: str
    devices: frozenset[HeldDevice] = frozenset()
    dynamic: frozenset[DynamicDevice] = frozenset()
    cores: frozenset[int] = frozenset()
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class NodeResources:
    """All pods of the node that hold something, and the devices that the kubelet can give away."""

    pods: tuple[PodHolding, ...]
    allocatable: frozenset[HeldDevice] = frozenset()
