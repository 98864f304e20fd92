"""What the cost of a node is computed from: the events of one node, reduced to the fields that count.

Every event is identified by `(producer_id, seq)`: the same pair is the same event, however often it comes.
Times are microseconds since 1970 UTC, ranges half-open. Values that make no sense are refused when the event
is built (ValueError), so that the arithmetic behind it never meets them.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

__all__ = [
    "DEVICE_PREFIX",
    "HOST",
    "HOUR_US",
    "Allocation",
    "AllocationHolder",
    "Device",
    "DevicePlace",
    "DeviceUse",
    "Devices",
    "Gap",
    "Holder",
    "Kind",
    "NodeEvent",
    "NodePresent",
    "ProcessUsage",
    "Reservation",
    "device_resource",
    "hour_of",
]

HOUR_US = 3_600_000_000
HOST = "host"
DEVICE_PREFIX = "device:"


class Kind(StrEnum):
    """Who or what a part of a node was for."""

    RUN = "run"
    UNTRACKED = "untracked"  # a process without a run, billed to its owner
    IDLE = "idle"
    SYSTEM = "system"
    UNKNOWN = "unknown"  # present but not observed


class Holder(NamedTuple):
    """Who holds a part: a run's attempt, an owner's untracked processes, or the system. `account` is that of the job
    that it is in (`account:NAME`, `namespace:NAME`), None outside of one.

    A NamedTuple because it is hashed once for each holder of each usage window, in C.
    """

    kind: Kind
    run_id: str | None = None
    attempt: int | None = None
    owner: str | None = None
    account: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    seq: int
    wall_us: int
    boot_id: str
    producer_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePresent(_Event):
    """The node is there at `wall_us`, `boot_us` after its boot. The only event that makes presence.

    `cores`: its logical CPUs, 0 where it does not say."""

    boot_us: int
    leaving: bool = False
    cores: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessUsage(_Event):
    """The CPU time that each holder used inside `[start_us, end_us)` on a node of `cores` logical CPUs.

    In columns, `cpu_us` parallel to `holders`, because a node-hour has hundreds that name the same holders."""

    start_us: int
    end_us: int
    cores: int
    holders: tuple[Holder, ...] = ()
    cpu_us: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.end_us <= self.start_us or self.cores < 1:
            raise ValueError(
                f"usage window [{self.start_us}, {self.end_us}) on {self.cores} cores is empty; "
                "a window needs an end behind its start and a core"
            )
        if len(self.holders) != len(self.cpu_us):
            raise ValueError(f"{len(self.cpu_us)} CPU times for {len(self.holders)} holders")
        if self.cpu_us and min(self.cpu_us) < 0:
            raise ValueError(f"usage window at {self.start_us} has a holder with negative CPU time")

    @property
    def usage(self) -> tuple[tuple[Holder, int], ...]:
        """Each holder with its CPU time."""
        return tuple(zip(self.holders, self.cpu_us, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationHolder:
    """One holder of a resource (`host` or `device:<uuid>`), by claim or by presence alone.

    A claim is `numerator / denominator` of the resource: 1/1 a whole GPU, size/8 a MIG placement, r/N
    replicas, cores/C of the host. Denominator 0 is presence without a claim. `part_id` names a slice of a
    device (a MIG instance) that is `part_numerator / part_denominator` of it; claims and presence then count
    within that slice.
    """

    resource: str
    holder: Holder
    numerator: int = 0
    denominator: int = 0
    evidence: str = ""
    part_id: str = ""
    part_numerator: int = 1
    part_denominator: int = 1

    def __post_init__(self) -> None:
        if self.denominator < 0 or self.numerator < 0 or self.part_numerator < 0 or self.part_denominator < 1:
            raise ValueError(f"holder of {self.resource} has a negative share or an empty slice")
        if self.numerator > self.denominator or self.part_numerator > self.part_denominator:
            raise ValueError(
                f"holder of {self.resource} claims {self.numerator}/{self.denominator} of "
                f"{self.part_numerator}/{self.part_denominator}; a claim is at most the whole"
            )

    @property
    def is_claim(self) -> bool:
        """True for a claim, False for presence alone."""
        return self.denominator > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation(_Event):
    """Who holds what from `wall_us` on; replaces the allocation before it, all resources at once."""

    holders: tuple[AllocationHolder, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """One physical accelerator. `weight`: its part of the device pool against the node's other devices."""

    uuid: str
    model: str = ""
    weight: int = 1

    def __post_init__(self) -> None:
        if self.weight < 1:
            raise ValueError(f"device {self.uuid} has weight {self.weight}; weights are whole numbers from 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices(_Event):
    """The accelerators of the node from `wall_us` on (the first list of a boot counts from its start)."""

    devices: tuple[Device, ...] = ()

    def __post_init__(self) -> None:
        if len({device.uuid for device in self.devices}) != len(self.devices):
            raise ValueError("a list of devices names one device twice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(_Event):
    """Nothing is known about the node in `[start_us, end_us)`, although it may have been present."""

    start_us: int
    end_us: int
    reason: str = ""


class DevicePlace(NamedTuple):
    """A device (`part_id` empty), or one slice of it."""

    uuid: str
    part_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUse(_Event):
    """How busy each place was inside `[start_us, end_us)`, in millionths of it, parallel to `places`.

    Information: it never changes who pays. In columns, because a node-hour has hundreds that name the same places."""

    start_us: int
    end_us: int
    places: tuple[DevicePlace, ...] = ()
    busy_ppm: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.end_us <= self.start_us:
            raise ValueError(f"device use window [{self.start_us}, {self.end_us}) is empty")
        if len(self.places) != len(self.busy_ppm):
            raise ValueError(f"{len(self.busy_ppm)} numbers for {len(self.places)} devices")
        if self.busy_ppm and not 0 <= min(self.busy_ppm) <= max(self.busy_ppm) <= 1_000_000:
            raise ValueError(f"devices busy {self.busy_ppm} ppm; the range is 0 to 1000000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation(_Event):
    """What a scheduler's records say that one job had of the node in `[start_us, end_us)`.

    The same `reservation_id` comes again as the job goes on; see `current_reservations`. Amounts are thousandths of
    a core and of a device; `node_cores` and `node_devices`: how many the node has by the scheduler, None where it
    does not say: then those count that the node itself tells.
    Its `wall_us` is `end_us`, so that an owned node counts as there for as long as its jobs ran."""

    reservation_id: str
    start_us: int
    end_us: int
    is_over: bool
    read_us: int
    owner: str | None
    account: str | None = None
    evidence: str = ""
    cpu_milli: int = 0
    node_cores: int | None = None
    device_milli: int = 0
    node_devices: int | None = None

    def __post_init__(self) -> None:
        if self.end_us < self.start_us or self.cpu_milli < 0 or self.device_milli < 0:
            raise ValueError(f"{self.reservation_id} ends before it begins, or holds less than nothing")
        if min(self.node_cores or 1, self.node_devices or 1) < 1:
            raise ValueError(f"{self.reservation_id} is of a node with less than no cores or devices")


NodeEvent = NodePresent | ProcessUsage | Allocation | Devices | Gap | DeviceUse | Reservation


def device_resource(uuid: str) -> str:
    """The resource name of a device."""
    return DEVICE_PREFIX + uuid


def hour_of(wall_us: int) -> int:
    """The start of the UTC hour that holds `wall_us`."""
    return wall_us - wall_us % HOUR_US
