"""What pods reserve, from what a kubelet says."""

from collections.abc import Mapping

import pytest

from trainledger.node.gpu import GpuDevice, GpuPart
from trainledger.node.kubernetes.kubelet_watch import KubeletLook
from trainledger.node.kubernetes.pod_holdings import DynamicDevice, HeldDevice, NodeResources, PodHolding
from trainledger.node.kubernetes.pod_reservations import count_replicas, reserve, unknown_devices
from trainledger.node.kubernetes.pods import Pod
from trainledger.node.reservations import JobKey, NodeView, ReservedDevice

PARTS = (GpuPart("MIG-m", "3g.40gb", None, 4, 8, instance=2, start=0),)
DEVICES = (
    GpuDevice("GPU-a", "H100", None, pci_bus_id="0000:3b:00.0", minor=0),
    GpuDevice("GPU-b", "H100", None, pci_bus_id="0000:5e:00.0", parts=PARTS, minor=1),
)
UID, OTHER = "0a1b2c3d-1111-2222-3333-444455556666", "0a1b2c3d-1111-2222-3333-444455557777"


def gpus(*names: str) -> frozenset[HeldDevice]:
    return frozenset(HeldDevice("nvidia.com/gpu", name) for name in names)


def look(
    *pods: PodHolding,
    known: tuple[Pod, ...] = (),
    living: frozenset[str] | None = None,
    give: tuple[str, ...] = (),
) -> KubeletLook:
    return KubeletLook(0, NodeResources(pods, gpus(*give)), known, living)


def view(processes: Mapping[str, int] | None = None) -> NodeView:
    return NodeView(
        DEVICES, {JobKey("kubernetes", uid): [(pid, 1)] for uid, pid in (processes or {}).items()}
    )


def resources(told: KubeletLook) -> NodeResources:
    assert told.resources is not None
    return told.resources


def holdings(told: KubeletLook) -> tuple[PodHolding, ...]:
    return resources(told).pods


def parts_of(told: KubeletLook, node: NodeView | None = None) -> list[list[ReservedDevice]]:
    replicas = count_replicas(resources(told), {})
    return [
        list(item.devices) for item in reserve(holdings(told), told, node or view(), replicas).reservations
    ]


def test_pod_reserves_its_gpu_and_cores_and_its_namespace_pays() -> None:
    pod = PodHolding("ml", "train-0", gpus("GPU-a"), cores=frozenset({2, 3}), memory_bytes=1 << 30)
    told = look(pod, known=(Pod("ml", "train-0", UID, True),), living=frozenset({UID}))
    (found,) = reserve(holdings(told), told, view(), {}).reservations
    assert found.job == JobKey("kubernetes", UID)
    assert (found.label, found.account, found.uid) == ("pod ml/train-0", "namespace:ml", None)
    assert (found.millicores, found.memory_bytes) == (2000, 1 << 30)
    assert found.devices == (ReservedDevice("GPU-a"),)


@pytest.mark.parametrize(
    ("held", "part"),
    [
        pytest.param(("GPU-a",), ReservedDevice("GPU-a"), id="whole"),
        pytest.param(("GPU-a::1",), ReservedDevice("GPU-a", denominator=4), id="one replica"),
        pytest.param(("GPU-a::1", "GPU-a::3"), ReservedDevice("GPU-a", "", 1, 1, 2, 4), id="two replicas"),
        pytest.param(("MIG-m",), ReservedDevice("GPU-b", "MIG-m", 4, 8), id="MIG instance"),
        pytest.param(
            ("MIG-m::0",), ReservedDevice("GPU-b", "MIG-m", 4, 8, 1, 2), id="half of a MIG instance"
        ),
        pytest.param(("nvidia1/gi2/vgpu0",), ReservedDevice("GPU-b", "MIG-m", 4, 8, 1, 3), id="Google's"),
    ],
)
def test_share_of_a_device(held: tuple[str, ...], part: ReservedDevice) -> None:
    give = (
        *(f"GPU-a::{n}" for n in range(4)),
        "MIG-m::0",
        "MIG-m::1",
        *(f"nvidia1/gi2/vgpu{n}" for n in range(3)),
    )
    assert parts_of(look(PodHolding("ml", "a", gpus(*held)), give=give)) == [[part]]


def test_number_of_replicas_outlives_the_health_of_the_device() -> None:
    pod = PodHolding("ml", "a", gpus("GPU-a::1"))
    known = count_replicas(resources(look(pod, give=tuple(f"GPU-a::{n}" for n in range(4)))), {})
    assert count_replicas(resources(look(pod)), known) == {"GPU-a": 4}
    assert count_replicas(resources(look(pod, give=("GPU-a::0", "GPU-a::1"))), known) == {"GPU-a": 2}, (
        "cut anew"
    )


def test_claim_of_several_pods_is_theirs_in_equal_parts() -> None:
    claim = frozenset({DynamicDevice("ml/shared", "gpu.nvidia.com", "n1", "gpu-0")})
    alone = frozenset({DynamicDevice("ml/own", "gpu.nvidia.com", "n1", "gpu-1-mig-3g40gb-9-0")})
    told = look(
        PodHolding("ml", "a", dynamic=claim),
        PodHolding("ml", "b", dynamic=claim),
        PodHolding("ml", "c", dynamic=alone),
    )
    example = frozenset({DynamicDevice("ml/x", "gpu.example.com", "n1", "gpu-0")})
    assert parts_of(look(PodHolding("ml", "d", dynamic=example))) == [[]], "another driver's gpu-0"
    half = ReservedDevice("GPU-a", denominator=2)
    assert parts_of(told) == [[half], [half], [ReservedDevice("GPU-b", "MIG-m", 4, 8)]]


ENDED = Pod("ml", "a", UID, began=True)
NEW = Pod("ml", "a", UID, began=False)


@pytest.mark.parametrize(
    ("known", "living", "processes", "holds"),
    [
        pytest.param(ENDED, frozenset({UID}), {}, True, id="between two starts of its container"),
        pytest.param(ENDED, frozenset({OTHER}), {}, False, id="over"),
        pytest.param(ENDED, frozenset({OTHER}), {UID: 7}, True, id="a process of it is seen"),
        pytest.param(ENDED, None, {OTHER: 7}, False, id="groups unseen, others have processes"),
        pytest.param(NEW, None, {OTHER: 7}, True, id="groups unseen, its image is pulled"),
        pytest.param(ENDED, None, {}, True, id="nothing is seen"),
        pytest.param(None, frozenset(), {}, True, id="no folder yet"),
    ],
)
def test_pod_that_is_over_holds_nothing(
    known: Pod | None, living: frozenset[str] | None, processes: Mapping[str, int], holds: bool
) -> None:
    told = look(PodHolding("ml", "a", gpus("GPU-a")), known=(known,) if known else (), living=living)
    assert bool(reserve(holdings(told), told, view(processes), {}).reservations) is holds


def test_pod_that_holds_nothing_still_has_a_payer_but_for_the_clusters_own() -> None:
    uids = [UID, OTHER, UID.replace("0a", "0b")]
    names = [("ml", "cpu-only"), ("kube-system", "proxy"), ("openshift-dns", "dns")]
    known = tuple(Pod(*name, uid, True) for name, uid in zip(names, uids, strict=True))
    found = reserve((), look(known=known, living=frozenset(uids)), view(), {}).reservations
    assert {item.account: item.only_for_runs for item in found} == {
        "namespace:ml": False, "namespace:kube-system": True, "namespace:openshift-dns": True
    }  # fmt: skip
    gpu = PodHolding("kube-system", "proxy", gpus("GPU-a"))
    (held,) = [
        item for item in reserve((gpu,), look(gpu, known=known), view(), {}).reservations if item.devices
    ]
    assert held.only_for_runs is False, "who holds a device pays for it"


def test_devices_of_a_silent_kubelet_are_those_that_it_gives_away_or_gave() -> None:
    claim = frozenset({DynamicDevice("ml/own", "gpu.nvidia.com", "n1", "gpu-1-mig-3g40gb-9-0")})
    told = look(
        PodHolding("ml", "a", gpus("GPU-gone")), PodHolding("ml", "b", dynamic=claim), give=("GPU-a::0",)
    )
    found = unknown_devices(told, view())
    assert [part.device_id for part in found.devices] == ["GPU-a", "GPU-b"] and not found.is_known


def test_core_that_two_pods_have_is_nobodys_own() -> None:
    shared = (
        PodHolding("ml", "a", cores=frozenset({0, 1, 2})),
        PodHolding("ml", "b", cores=frozenset({1, 2, 3})),
    )
    found = reserve(shared, look(*shared), view(), {}).reservations
    assert [item.millicores for item in found] == [1000, 1000]


def test_of_two_pods_of_one_name_the_living_one_is_meant() -> None:
    known = (Pod("ml", "a", UID, True), Pod("ml", "a", OTHER, True))
    told = look(PodHolding("ml", "a", gpus("GPU-a")), known=known, living=frozenset({UID}))
    (found,) = reserve(holdings(told), told, view(), {}).reservations
    assert found.job.name == UID


def test_gpu_that_the_agent_does_not_see_is_named_and_other_devices_are_not() -> None:
    held = gpus("GPU-gone") | {HeldDevice("rdma/hca", "mlx5_0")}
    told = look(PodHolding("ml", "a", held))
    found = reserve(holdings(told), told, view(), {})
    assert found.reservations[0].devices == () and found.strangers == ("GPU-gone (nvidia.com/gpu) of ml/a",)
