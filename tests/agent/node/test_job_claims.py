"""Who holds what jobs reserved, worked out by hand."""

import pytest

from trainledger.node.gpu_account import Occupant, Place
from trainledger.node.holder import Holder
from trainledger.node.job_claims import HostSize, job_claims
from trainledger.node.reservations import JobKey, Reservation, ReservedDevice

HOST = HostSize(cores=8, memory_bytes=64 << 30)
JOB, POD = JobKey("slurm", "17"), JobKey("kubernetes", "p")
ACCOUNT = "account:physics"


def run(number: int, writer: int = 1) -> Holder:
    return Holder("run", bytes([number]) * 16, bytes([number, writer]) + bytes(14), 1001, ACCOUNT)


A, A2, B = run(1), run(1, 2), run(2)
OTHERS = Holder("untracked", uid=1001, account=ACCOUNT)
STRANGER = run(9)


def job(*devices: str, millicores: int | None = None, memory_gib: int | None = None) -> Reservation:
    return Reservation(
        JOB, "slurm job 17", "SLURM_JOB_GPUS", ACCOUNT, 1001, tuple(map(ReservedDevice, devices)),
        millicores, None if memory_gib is None else memory_gib << 30,
    )  # fmt: skip


def on(device: str, *holders: Holder | None) -> list[Occupant]:
    return [Occupant(Place(device), 1, 1, holder, "process list") for holder in holders]


def held(
    reservation: Reservation, runs: list[Holder], occupants: list[Occupant] | None = None
) -> list[tuple[str, Holder, int, int]]:
    claims = job_claims([reservation], {reservation.job: runs}, occupants or [], HOST)
    assert {claim.evidence for claim in claims} <= {f"{reservation.label}, {reservation.evidence}"}
    return [(claim.resource, claim.holder, claim.numerator, claim.denominator) for claim in claims]


def test_without_a_run_the_jobs_user_and_account_hold_it() -> None:
    assert held(job("g0", millicores=2000), []) == [("host", OTHERS, 1, 4), ("device:g0", OTHERS, 1, 1)]


def test_a_run_holds_what_its_job_reserved_whether_it_is_there_or_not() -> None:
    everything = job("g0", "g1", millicores=2000)
    expected = [("host", A, 1, 4), ("device:g0", A, 1, 1), ("device:g1", A, 1, 1)]
    assert held(everything, [A]) == expected
    # As many processes as it has, it is one run; another's process on the device is no holder.
    assert held(everything, [A2, A], on("g0", A2, STRANGER))[0] == expected[0]
    assert held(everything, [A2, A], on("g0", A2, STRANGER))[1] == ("device:g0", A2, 1, 1)


def test_several_runs_hold_the_devices_that_they_are_on_and_share_the_rest() -> None:
    found = held(job("g0", "g1", "g2", millicores=4000), [B, A], [*on("g0", B), *on("g2", A, B)])
    assert found == [
        ("host", A, 1, 4), ("host", B, 1, 4),
        ("device:g0", B, 1, 1),
        ("device:g1", A, 1, 2), ("device:g1", B, 1, 2),
        ("device:g2", A, 1, 2), ("device:g2", B, 1, 2),
    ]  # fmt: skip


def test_a_device_on_which_only_other_processes_of_the_job_are_is_theirs() -> None:
    found = held(job("g0", "g1"), [A], on("g0", OTHERS, None))
    assert found == [("device:g0", OTHERS, 1, 1), ("device:g1", A, 1, 1)]


@pytest.mark.parametrize(
    ("millicores", "memory_gib", "part"),
    [
        (1000, None, (1, 8)), (1000, 8, (1, 8)), (1000, 32, (1, 2)), (None, 16, (1, 4)), (250, None, (1, 32)),
        (64_000, None, (1, 1)), (None, 128, (1, 1)),
    ],
)  # fmt: skip
def test_the_host_is_held_by_the_larger_of_cores_and_memory(
    millicores: int | None, memory_gib: int | None, part: tuple[int, int]
) -> None:
    assert held(job(millicores=millicores, memory_gib=memory_gib), [A]) == [("host", A, *part)]


def test_nothing_reserved_is_no_claim() -> None:
    assert held(job(), [A]) == []


def test_a_limit_counts_only_while_a_run_is_in_it() -> None:
    limit = Reservation(JOB, "container c", "CPU quota", millicores=2000, only_for_runs=True)
    assert held(limit, []) == []
    assert held(limit, [A]) == [("host", A, 1, 4)]


def test_a_replica_and_a_slice_keep_their_fractions() -> None:
    devices = (ReservedDevice("g0", numerator=1, denominator=4), ReservedDevice("g1", "MIG-a", 4, 8))
    reservation = Reservation(POD, "pod ml/train", "kubelet", "namespace:ml", devices=devices)
    claims = job_claims([reservation], {POD: [A, B]}, [Occupant(Place("g1", "MIG-a"), 4, 8, B, "")], HOST)
    found = [
        (c.resource, c.part_id, c.part_numerator, c.part_denominator, c.numerator, c.denominator)
        for c in claims
    ]
    assert found == [
        ("device:g0", "", 1, 1, 1, 8), ("device:g0", "", 1, 1, 1, 8), ("device:g1", "MIG-a", 4, 8, 1, 1)
    ]  # fmt: skip
    assert [claim.holder for claim in claims] == [A, B, B]
