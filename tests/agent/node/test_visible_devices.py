"""Every form of CUDA_VISIBLE_DEVICES, against three devices of which one is cut by MIG."""

import pytest

from trainledger.node.gpu import GpuDevice, GpuPart
from trainledger.node.visible_devices import names_by_uuid, visible_devices

A, B, C = "GPU-8f6a1111-0000", "GPU-8f6b2222-0000", "GPU-c0ffee33-0000"
M, N = "MIG-aaaa1111-0000", "MIG-aaaa2222-0000"
PARTS = (
    GpuPart(M, "3g.40gb", 1, 4, 8, instance=2, compute_instance=0),
    GpuPart(N, "1g.10gb", 1, 1, 8, instance=9, compute_instance=1),
)
DEVICES = [
    GpuDevice(A, "H100", 1), GpuDevice(B, "H100", 1, is_mig=True, parts=PARTS), GpuDevice(C, "H100", 1),
]  # fmt: skip

VALUES = {
    None: [A, B, C],
    "": [],
    " ": [],
    "0": [A],
    "2,0": [C, A],
    " 1 , 2 ": [B, C],
    "0,3,1": [A],
    "3": [],
    "-1": [],
    "0,-1,1": [A],
    "0,1,0": [],
    "1a,2b": [B, C],
    "none": [],
    "0,,1": [A],
    "0,GPU-c0ffee33-0000": [A],
    "99999999999999999999": [],
    C: [C],
    "GPU-c0": [C],
    "GPU-8f6b": [B],
    "GPU-8f6": [],
    "GPU-": [],
    f"{C},{A}": [C, A],
    f"{C},0": [C],
    f"{C},{C}": [],
    f"{C},GPU-c0": [],
    f"{C},GPU-nobody,{A}": [C],
    M: [M],
    "MIG-aaaa2": [N],
    "MIG-aaaa": [],
    f"{N},{M}": [N],
    f"MIG-{B}/2/0": [M],
    f"MIG-{B}/9/1": [N],
    f"MIG-{B}/9/0": [],
    f"MIG-{A}/2/0": [],
    f"{A},{M}": [A],
    "gpu-c0ffee33-0000": [],
}


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_names_devices_in_its_order_up_to_the_first_bad_entry(value: str | None) -> None:
    found = visible_devices(value, DEVICES)
    assert [place.part_id or place.device_id for place in found] == VALUES[value]
    assert all(place.device_id == B for place in found if place.part_id)


def test_only_a_uuid_means_the_same_device_to_everybody() -> None:
    known = {value: names_by_uuid(value) for value in VALUES}
    assert {value for value, is_known in known.items() if is_known} == {
        value for value in VALUES if value is not None and value.startswith(("GPU-", "MIG-"))
    }


def test_without_devices_nothing_is_named() -> None:
    assert [visible_devices(value, []) for value in (None, "0", "GPU-8f6a", M)] == [[], [], [], []]
