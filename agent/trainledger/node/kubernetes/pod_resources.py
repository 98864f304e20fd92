"""What the kubelet has given to the containers of this node: its podresources service, asked on its socket.

The service needs no credentials, only the right to connect to a socket of root. It knows devices, exclusive cores and
memory, by pod name and namespace; it does not know the pod's uid, nor what a pod asked for without having it for
itself (requests of CPU and memory).

Limits: a kubelet from 1.21 on (`GetAllocatableResources`); older ones tell no number of replicas, so that a
time-sliced GPU counts as cut into those that are held.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from trainledger.node.kubernetes.messages import message_class
from trainledger.node.kubernetes.pod_holdings import DynamicDevice, HeldDevice, NodeResources, PodHolding
from trainledger.node.kubernetes.unix_calls import CallError, call

__all__ = ["read_resources"]

ASK_S_MAX = 5.0
_SERVICE = "v1.PodResourcesLister"


def read_resources(socket: Path) -> NodeResources:
    """Ask the kubelet. Blocks up to twice ASK_S_MAX; raises CallError."""
    request = message_class("v1", "ListPodResourcesRequest")()
    answer = ("v1", "ListPodResourcesResponse")
    listed = call(socket, f"{_SERVICE}/List", request, answer, timeout_s=ASK_S_MAX)
    pods = sorted(map(_holding, listed.pod_resources), key=lambda pod: (pod.namespace, pod.name))
    return NodeResources(tuple(pod for pod in pods if _holds_something(pod)), _allocatable(socket))


def _allocatable(socket: Path) -> frozenset[HeldDevice]:
    request = message_class("v1", "AllocatableResourcesRequest")()
    answer = ("v1", "AllocatableResourcesResponse")
    try:
        told = call(socket, f"{_SERVICE}/GetAllocatableResources", request, answer, timeout_s=ASK_S_MAX)
    except CallError as error:
        if error.code != "unimplemented":
            raise
        return frozenset()
    return frozenset(_devices(told.devices))


def _holding(pod: Any) -> PodHolding:
    return PodHolding(
        namespace=pod.namespace,
        name=pod.name,
        devices=frozenset(device for container in pod.containers for device in _devices(container.devices)),
        dynamic=frozenset(device for container in pod.containers for device in _dynamic(container)),
        # Cores of the pod as a whole hold those of its containers again.
        cores=frozenset(pod.cpu_ids).union(*(container.cpu_ids for container in pod.containers)),
        memory_bytes=_memory_bytes(pod),
    )


def _holds_something(pod: PodHolding) -> bool:
    return bool(pod.devices or pod.dynamic or pod.cores or pod.memory_bytes)


def _devices(told: Iterable[Any]) -> Iterator[HeldDevice]:
    for item in told:
        for device_id in item.device_ids:
            yield HeldDevice(item.resource_name, device_id)


def _dynamic(container: Any) -> Iterator[DynamicDevice]:
    for item in container.dynamic_resources:
        claim = f"{item.claim_namespace}/{item.claim_name}"
        for device in item.claim_resources:
            yield DynamicDevice(claim, device.driver_name, device.pool_name, device.device_name)


def _memory_bytes(pod: Any) -> int:
    """Memory that only this pod may have (static memory manager), without huge pages."""
    own = sum(item.size for item in pod.memory if item.memory_type == "memory")
    parts = sum(item.size for each in pod.containers for item in each.memory if item.memory_type == "memory")
    return int(max(own, parts))
