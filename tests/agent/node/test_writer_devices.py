"""Which devices a process of a run was on, and which it was told to use."""

from pathlib import Path
from typing import Any

import pytest

from support.burners import WriterStandIn
from support.fake_proc import FakeProc
from trainledger.node.gpu import GpuDevice, GpuPart
from trainledger.node.gpu_account import Occupant, Place
from trainledger.node.holder import Holder
from trainledger.node.reservations import JobKey, Reservation, ReservedDevice
from trainledger.node.writer_devices import WriterDevices, named_devices
from trainledger_schemas.clock import ManualClock

PARTS = (GpuPart("MIG-a", "1g", 1, 1, 8), GpuPart("MIG-b", "1g", 1, 1, 8))
DEVICES = (
    GpuDevice("GPU-a", "m", 1),
    GpuDevice("GPU-b", "m", 1),
    GpuDevice("GPU-m", "m", 1, is_mig=True, parts=PARTS),
)
ONE, TWO = (WriterStandIn(bytes([n]) * 16, bytes([n, 1]) + bytes(14), 50 + n, 0, 50 + n) for n in (1, 2))


def on(place: Place, writer: WriterStandIn) -> Occupant:
    return Occupant(place, 1, 1, Holder("run", writer.run_id, writer.writer_id, 0), "process list")


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


class Teller:
    def __init__(self, proc: FakeProc) -> None:
        self.devices = WriterDevices(ManualClock(), proc=proc.proc)

    def told(
        self, writers: list[WriterStandIn], *occupants: Occupant, known: Any = DEVICES
    ) -> list[tuple[Any, ...]]:
        events = self.devices.observe(writers, occupants, known)
        return [(event["writer_id"], event["device_ids"], event["named_ids"]) for event in events]


def test_devices_are_told_when_there_are_more_and_stay_when_the_process_leaves_them(proc: FakeProc) -> None:
    teller = Teller(proc)
    assert teller.told([ONE, TWO]) == []
    assert teller.told([ONE, TWO], on(Place("GPU-b"), ONE)) == [(ONE.writer_id, ["GPU-b"], [])]
    assert teller.told([ONE, TWO], on(Place("GPU-b"), ONE)) == []
    assert teller.told([ONE, TWO], on(Place("GPU-m", "MIG-a"), ONE), on(Place("GPU-b"), TWO)) == [
        (ONE.writer_id, ["GPU-b", "MIG-a"], []), (TWO.writer_id, ["GPU-b"], [])
    ]  # fmt: skip
    assert teller.told([ONE]) == []


def test_what_a_process_was_told_to_use_is_told_before_it_does(proc: FakeProc) -> None:
    proc.put(ONE.pid, variables={"CUDA_VISIBLE_DEVICES": "1"})
    proc.put(TWO.pid, variables={"CUDA_VISIBLE_DEVICES": ""})
    teller = Teller(proc)
    # The driver has not answered yet: an index names nothing.
    assert teller.told([ONE, TWO], known=None) == []
    assert teller.told([ONE, TWO]) == [(ONE.writer_id, [], ["GPU-b"])]
    assert teller.told([ONE, TWO], on(Place("GPU-a"), ONE)) == [(ONE.writer_id, ["GPU-a"], ["GPU-b"])]


SLURM, DOCKER, UNIT = JobKey("slurm", "1"), JobKey("docker", "c"), JobKey("systemd", "/u.service")


def reserved(*places: tuple[str, str]) -> Reservation:
    return Reservation(SLURM, "slurm job 1", "e", devices=tuple(ReservedDevice(*place) for place in places))


@pytest.mark.parametrize(
    ("value", "job", "reservation", "names"),
    [
        (None, None, None, []),
        ("0,1", None, None, ["GPU-a", "GPU-b"]),
        ("MIG-b,MIG-a", None, None, ["MIG-b"]),
        ("0", UNIT, None, ["GPU-a"]),
        ("0", DOCKER, None, []),
        ("GPU-b", DOCKER, None, ["GPU-b"]),
        ("0", SLURM, reserved(("GPU-b", "")), ["GPU-b"]),
        ("", SLURM, reserved(("GPU-b", "")), []),
        ("0", SLURM, reserved(("GPU-m", "MIG-b")), ["MIG-b"]),
        ("0,1", SLURM, reserved(("GPU-a", ""), ("GPU-b", "")), []),
        ("GPU-a,GPU-b", SLURM, reserved(("GPU-b", ""), ("GPU-m", "MIG-a")), ["GPU-b"]),
    ],
)
def test_an_index_is_read_only_where_it_can_mean_one_device(
    value: str | None, job: JobKey | None, reservation: Reservation | None, names: list[str]
) -> None:
    assert named_devices(value, DEVICES, job=job, reservation=reservation) == names
