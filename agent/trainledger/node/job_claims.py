"""Who holds what a job reserved: claims for `allocation` events, from reservations and who is where. Pure.

A run in the job holds what the job reserved, whether it uses it or not. Of several runs in one job each holds the
devices that it is on, and all of them equally the devices that none is on, the cores and the memory. While no run is
in the job, and on devices where only the job's other processes are, the job's user does, `untracked`, with its account.

The host is claimed by the larger of cores / all cores and memory / all memory: who takes all memory leaves cores
that nobody else can use.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from trainledger.node.gpu import resource_of
from trainledger.node.gpu_account import Occupant, Place
from trainledger.node.holder import Holder
from trainledger.node.host import HOST_DEVICE
from trainledger.node.reservations import JobKey, Reservation, ReservedDevice

__all__ = ["Claim", "HostSize", "job_claims"]


@dataclass(frozen=True, slots=True)
class Claim:
    """`numerator / denominator` of a resource, or of its part `part_id`, is held by somebody."""

    resource: str
    holder: Holder
    numerator: int
    denominator: int
    evidence: str
    part_id: str = ""
    part_numerator: int = 1
    part_denominator: int = 1


@dataclass(frozen=True, slots=True)
class HostSize:
    """Logical CPUs and bytes of memory of the node."""

    cores: int
    memory_bytes: int


def job_claims(
    reservations: Iterable[Reservation],
    runs: Mapping[JobKey, Sequence[Holder]],
    occupants: Sequence[Occupant],
    host: HostSize,
) -> list[Claim]:
    """The claims of all jobs; `runs`: the live runs in each job, one holder a process of a run."""
    on_place: dict[Place, list[Holder]] = {}
    for item in occupants:
        if item.holder is not None:
            on_place.setdefault(item.place, []).append(item.holder)
    claims: list[Claim] = []
    for reservation in reservations:
        if not reservation.is_known:
            claims += _unknown(reservation)
            continue
        members = _one_a_run(runs.get(reservation.job, ()))
        if not members and reservation.only_for_runs:
            continue
        others = Holder("untracked", uid=reservation.uid, account=reservation.account)
        evidence = f"{reservation.label}, {reservation.evidence}"
        share = _host_share(reservation, host)
        if share:
            for holder in members or [others]:
                part = share / len(members or [others])
                claims.append(_claim_of_host(holder, part, evidence))
        for device in reservation.devices:
            there = on_place.get(Place(device.device_id, device.part_id), ())
            claims += _device_claims(device, members, others, there=there, evidence=evidence)
    return claims


def _device_claims(
    device: ReservedDevice,
    members: Sequence[Holder],
    others: Holder,
    *,
    there: Sequence[Holder],
    evidence: str,
) -> list[Claim]:
    run_ids = {holder.run_id for holder in members}
    holders = _one_a_run(holder for holder in there if holder.kind == "run" and holder.run_id in run_ids)
    if not holders:
        holders = list(members) if members and others not in there else [others]
    return [
        Claim(
            resource_of(device.device_id),
            holder,
            device.numerator,
            device.denominator * len(holders),
            evidence,
            device.part_id,
            device.part_numerator,
            device.part_denominator,
        )
        for holder in holders
    ]


def _unknown(reservation: Reservation) -> list[Claim]:
    """Rows that say of devices that nobody can tell who holds them; they hold nothing themselves."""
    evidence = f"{reservation.label}, {reservation.evidence}"
    return [
        Claim(resource_of(device_id), Holder("unknown"), 0, 0, evidence)
        for device_id in sorted({device.device_id for device in reservation.devices})
    ]


def _one_a_run(holders: Iterable[Holder]) -> list[Holder]:
    """One process for each run, the same one each time."""
    found: dict[bytes | None, Holder] = {}
    for holder in sorted(holders, key=Holder.order):
        found.setdefault(holder.run_id, holder)
    return list(found.values())


def _host_share(reservation: Reservation, host: HostSize) -> Fraction:
    cores = Fraction(reservation.millicores or 0, 1000 * host.cores)
    memory = Fraction(reservation.memory_bytes or 0, host.memory_bytes) if host.memory_bytes else Fraction(0)
    return min(Fraction(1), max(cores, memory))


def _claim_of_host(holder: Holder, part: Fraction, evidence: str) -> Claim:
    return Claim(HOST_DEVICE, holder, part.numerator, part.denominator, evidence)
