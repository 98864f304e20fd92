"""What a scheduler holds on this node for a job: a reservation, and where it is read from. Values and one protocol.

    process -> control group -> JobKey (`control_groups`) -> the reservation of that job (a `ReservationSource`)

A reservation holds its devices, cores and memory from its job's begin to its end, whether anybody uses them or not. A
run that is in the job pays for them; while no run is, whoever the job belongs to does (`job_claims`).

`slurm_jobs` reads what SLURM reserved, `group_limits` what containers and units of systemd are limited to. What a pod
reserved is read from the kubelet (package `kubernetes`). A source says what it knows now: a reservation that is no
longer in its answer has ended.

`account` names who pays as `admin owner set` does: `account:NAME` is an account of SLURM, `namespace:NAME` a namespace
of Kubernetes; None where the scheduler has no such thing, or it could not be read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from trainledger.node.gpu import GpuDevice

__all__ = ["JobKey", "NodeView", "Reservation", "ReservationSource", "ReservedDevice"]


class JobKey(NamedTuple):
    """Which job, as the control groups of its processes name it.

    `scheduler` is slurm, kubernetes, docker (Podman too) or systemd; `name` the number or SLUID of a job of SLURM, the
    uid of a pod (with dashes), the id of a container, the path of a unit.
    """

    scheduler: str
    name: str


@dataclass(frozen=True, slots=True)
class ReservedDevice:
    """A part of a GPU: `numerator / denominator` of the device, or of its MIG instance `part_id`.

    `part_numerator / part_denominator` is the instance's part of the device, in memory slices. A whole device is
    1/1 of 1/1, a replica of a time-sliced device 1/N.
    """

    device_id: str
    part_id: str = ""
    part_numerator: int = 1
    part_denominator: int = 1
    numerator: int = 1
    denominator: int = 1


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one job holds on this node.

    `label` is what people call the job (`slurm job 17`), `evidence` where it is known from; both stand in the bill.
    `uid` is the job's user on this node, None where it has none (a pod: its namespace pays). `millicores`: thousandths
    of a logical CPU that are kept for the job, None: none are. `memory_bytes`: memory kept for it, None: none is.
    `only_for_runs`: it counts only while a run is in the job; without one its processes are whose they would be
    without a reservation. `is_known` False: nobody can tell any more who holds these devices; whoever is seen on one
    shares it, and what is left of it is `unknown`.
    """

    job: JobKey
    label: str
    evidence: str
    account: str | None = None
    uid: int | None = None
    devices: tuple[ReservedDevice, ...] = ()
    millicores: int | None = None
    memory_bytes: int | None = None
    only_for_runs: bool = False
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class NodeView:
    """What a source may need to know of the node.

    `devices`: its GPUs, empty while they are not known. `processes`: the processes of each job as (host pid, start in
    ticks since boot), oldest first. `groups`: the control groups of the jobs that have processes.
    """

    devices: Sequence[GpuDevice] = ()
    processes: Mapping[JobKey, Sequence[tuple[int, int]]] = field(default_factory=dict)
    groups: Mapping[JobKey, Mapping[str, str]] = field(default_factory=dict)


class ReservationSource(Protocol):
    """One scheduler's reservations on this node."""

    def read(self, view: NodeView) -> Sequence[Reservation]:
        """All reservations now, in a steady order. Called every few seconds from the agent's loop: never raises,
        and never waits for anybody. What must be waited for (a socket) is asked on a thread of its own, and the
        last answer counts until it is too old to be believed.
        """

    def close(self) -> None:
        """Let go of threads and sockets; a repeat is harmless."""
