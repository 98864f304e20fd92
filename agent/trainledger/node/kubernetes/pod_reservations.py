"""What pods reserve on this node: their GPUs and the cores that they have for themselves, as the kubelet gave them out.

A whole GPU is 1, a MIG instance its memory slices of the device's, a replica (time-sliced, or shared by MPS) 1/N, where
N is how many of that device the node gives away; a device of a ResourceClaim that several pods use is theirs in equal
parts. Cores are reserved by the kubelet's static CPU policy alone. A request of CPU or memory is no reservation here:
the node does not know it (a control group has a weight, which is a share of what is wanted, and a limit), so that a pod
without cores of its own pays for the CPU time that it used.

The payer is the pod's namespace, whether the pod holds something or not; but pods of the cluster itself (namespaces
`kube-...`, `openshift-...`) that hold nothing are the node's system. A pod that has ended holds nothing, although
kubelets before 1.34 list it until it is deleted.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from trainledger.node.kubernetes.device_names import (
    GpuNames,
    Place,
    looks_like_gpu,
    replica_counts,
    shared_base,
)
from trainledger.node.kubernetes.kubelet_watch import KubeletLook
from trainledger.node.kubernetes.pod_holdings import NodeResources, PodHolding
from trainledger.node.kubernetes.pods import Pod
from trainledger.node.reservations import JobKey, NodeView, Reservation, ReservedDevice

__all__ = ["SCHEDULER", "PodReservations", "count_replicas", "reserve", "unknown_devices"]

SCHEDULER = "kubernetes"
EVIDENCE = "kubelet"
_DYNAMIC_DRIVER = "gpu.nvidia.com"
# Kubernetes and OpenShift keep these beginnings of names to themselves.
_OF_THE_CLUSTER = ("kube-", "openshift-")


@dataclass(frozen=True, slots=True)
class PodReservations:
    """`strangers`: names of GPUs that are given away and that the agent does not see, with the pod."""

    reservations: tuple[Reservation, ...] = ()
    strangers: tuple[str, ...] = ()


@dataclass(slots=True)
class _Dealer:
    """Turns names of devices into parts of the node's GPUs."""

    names: GpuNames
    replicas: Mapping[str, int]
    users: Mapping[str, int]
    strangers: list[str] = field(default_factory=list)

    def devices_of(self, pod: PodHolding) -> tuple[ReservedDevice, ...]:
        """The parts that a pod holds, each place once."""
        shares: Counter[tuple[Place, int]] = Counter()
        for held in sorted(pod.devices):
            base, is_shared = shared_base(held.device_id)
            place = self.names.place_of(base)
            if place is not None:
                shares[place, max(1, self.replicas.get(base, 1)) if is_shared else 1] += 1
            elif looks_like_gpu(held.resource, held.device_id):
                self.strangers.append(f"{held.device_id} ({held.resource}) of {pod.namespace}/{pod.name}")
        for dynamic in sorted(pod.dynamic):
            # Another driver's gpu-0 is another device.
            place = self.names.place_of(dynamic.device) if dynamic.driver == _DYNAMIC_DRIVER else None
            if place is not None:
                shares[place, self.users[dynamic.claim]] += 1
        return tuple(_part(place, count, of) for (place, of), count in sorted(shares.items()))


def reserve(
    holdings: Sequence[PodHolding], look: KubeletLook, view: NodeView, replicas: Mapping[str, int]
) -> PodReservations:
    """What pods reserve: those with `holdings`, and all others of the node. `replicas`: see `count_replicas`."""
    dealer = _Dealer(GpuNames(view.devices), replicas, _users(holdings))
    pods = {(pod.namespace, pod.name): pod for pod in _newest_living_last(look, view)}
    held = {(item.namespace, item.name): item for item in _with_own_cores(holdings)}
    reservations: list[Reservation] = []
    for name in sorted({*pods, *held}):
        pod, holding = pods.get(name), held.get(name, PodHolding(*name))
        if pod is None or not has_ended(pod, look, view):
            reservations.append(_reservation(holding, pod, dealer.devices_of(holding)))
    return PodReservations(tuple(reservations), tuple(dealer.strangers))


def unknown_devices(look: KubeletLook, view: NodeView) -> Reservation:
    """The devices that the kubelet gives away, when it does not say any more to whom."""
    names = GpuNames(view.devices)
    told = look.resources or NodeResources(())
    held = {device for pod in told.pods for device in pod.devices} | told.allocatable
    bases = {shared_base(device.device_id)[0] for device in held}
    dynamic = {device for pod in told.pods for device in pod.dynamic}
    bases |= {device.device for device in dynamic if device.driver == _DYNAMIC_DRIVER}
    places = {place.device_id for base in bases if (place := names.place_of(base)) is not None}
    return Reservation(
        job=JobKey(SCHEDULER, ""),
        label="kubelet",
        evidence="does not answer",
        devices=tuple(ReservedDevice(device_id) for device_id in sorted(places)),
        is_known=False,
    )


def count_replicas(resources: NodeResources, known: Mapping[str, int]) -> dict[str, int]:
    """Into how many replicas each shared device is cut: those that are given away, or as many as were `known`.

    A device that is not well is not in the list of what can be given away, and its pods go on."""
    names = [device.device_id for device in resources.allocatable]
    given_away = replica_counts(names)
    held = replica_counts(device.device_id for pod in resources.pods for device in pod.devices)
    return {
        base: given_away[base] if base in given_away else max(held.get(base, 0), known.get(base, 0))
        for base in {*given_away, *held, *known}
    }


def has_ended(pod: Pod, look: KubeletLook, view: NodeView) -> bool:
    """Whether a pod that is still listed is over."""
    if JobKey(SCHEDULER, pod.uid) in view.processes:
        return False
    if look.living is not None:
        return pod.uid not in look.living
    # Control groups are not visible. Where processes of no pod at all are, nothing can be said.
    return pod.began and any(job.scheduler == SCHEDULER for job in view.processes)


def _newest_living_last(look: KubeletLook, view: NodeView) -> Iterator[Pod]:
    """Of pods of one name the one that lives, else the newest, comes last."""
    yield from sorted(look.pods, key=lambda pod: not has_ended(pod, look, view))


def _with_own_cores(holdings: Sequence[PodHolding]) -> list[PodHolding]:
    """The same with cores that only one pod has: kubelets before 1.22 list the shared ones for all others."""
    pods = Counter(core for pod in holdings for core in pod.cores)
    return [replace(pod, cores=frozenset(core for core in pod.cores if pods[core] == 1)) for pod in holdings]


def _users(pods: Sequence[PodHolding]) -> Counter[str]:
    """How many pods use each ResourceClaim."""
    return Counter(claim for pod in pods for claim in {device.claim for device in pod.dynamic})


def _part(place: Place, count: int, of: int) -> ReservedDevice:
    return ReservedDevice(
        device_id=place.device_id,
        part_id=place.part_id,
        part_numerator=place.size,
        part_denominator=place.of,
        numerator=min(count, of),
        denominator=of,
    )


def _reservation(holding: PodHolding, pod: Pod | None, devices: Sequence[ReservedDevice]) -> Reservation:
    holds_something = bool(devices or holding.cores or holding.memory_bytes)
    name = f"{holding.namespace}/{holding.name}"
    return Reservation(
        # Without its uid no process can be found to be in the pod; its namespace pays all the same.
        job=JobKey(SCHEDULER, name if pod is None else pod.uid),
        label=f"pod {name}",
        evidence=EVIDENCE,
        account=f"namespace:{holding.namespace}",
        devices=tuple(devices),
        only_for_runs=not holds_something and holding.namespace.startswith(_OF_THE_CLUSTER),
        millicores=1000 * len(holding.cores) or None,
        memory_bytes=holding.memory_bytes or None,
    )
