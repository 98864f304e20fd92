"""Names of devices in Kubernetes, by every form that plugins and drivers give."""

from dataclasses import replace

import pytest

from trainledger.node.gpu import GpuDevice, GpuPart
from trainledger.node.kubernetes.device_names import (
    GpuNames,
    Place,
    looks_like_gpu,
    replica_counts,
    shared_base,
)

PARTS = (
    GpuPart("MIG-m", "3g.40gb", 40 << 30, 4, 8, instance=2, start=0),
    GpuPart("MIG-n", "1g.10gb", 10 << 30, 1, 8, instance=9, start=4),
)
DEVICES = [
    GpuDevice("GPU-a", "H100", None, pci_bus_id="00000000:3B:00.0", minor=1),
    GpuDevice("GPU-b", "H100", None, pci_bus_id="00000000:5E:00.0", is_mig=True, parts=PARTS, minor=0),
]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("GPU-a", Place("GPU-a")),
        ("MIG-m", Place("GPU-b", "MIG-m", 4, 8)),
        ("nvidia1", Place("GPU-a")),
        ("0000:3b:00.0", Place("GPU-a")),
        ("nvidia0/gi9", Place("GPU-b", "MIG-n", 1, 8)),
        ("gpu-1", Place("GPU-a")),
        ("gpu-0-mig-1g10gb-19-4", Place("GPU-b", "MIG-n", 1, 8)),
        ("gpu-0-mig-3g40gb-9-0", Place("GPU-b", "MIG-m", 4, 8)),
        ("gpu-0-mig-1g10gb-19-6", None),
        ("nvidia0/gi3", None),
        ("nvidia7", None),
        ("GPU-other", None),
        ("", None),
    ],
)
def test_name_means_a_device_or_a_part_of_one(name: str, place: Place | None) -> None:
    assert GpuNames(DEVICES).place_of(name) == place


def test_without_minor_numbers_names_by_number_mean_nothing() -> None:
    names = GpuNames([replace(device, minor=None) for device in DEVICES])
    assert names.place_of("nvidia0") is None and names.place_of("GPU-a") == Place("GPU-a")


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("GPU-a", ("GPU-a", False)),
        ("GPU-a::0", ("GPU-a", True)),
        ("MIG-m::12", ("MIG-m", True)),
        ("nvidia0/vgpu1", ("nvidia0", True)),
        ("nvidia0/gi9/vgpu0", ("nvidia0/gi9", True)),
    ],
)
def test_replica_has_the_name_of_what_it_is_a_part_of(name: str, base: tuple[str, bool]) -> None:
    assert shared_base(name) == base


def test_replicas_are_counted_by_device() -> None:
    names = [*(f"GPU-a::{n}" for n in range(4)), "GPU-a::3", "MIG-m::0", "GPU-b"]
    assert replica_counts(names) == {"GPU-a": 4, "MIG-m": 1}


def test_devices_that_are_no_gpus_are_not_missed() -> None:
    assert looks_like_gpu("nvidia.com/gpu", "GPU-x") and looks_like_gpu("example.com/shared", "GPU-x::1")
    assert not looks_like_gpu("rdma/hca", "mlx5_0")
