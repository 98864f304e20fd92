"""Node events for tests of cost: short builders, and Hypothesis strategies for whole histories of a node."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from trainledger_ingest.cost.node_events import (
    HOUR_US,
    Allocation,
    AllocationHolder,
    Device,
    DevicePlace,
    Devices,
    DeviceUse,
    Gap,
    Holder,
    Kind,
    NodeEvent,
    NodePresent,
    ProcessUsage,
)

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR = 490_000 * HOUR_US  # some whole UTC hour


def run(name: str, attempt: int = 1) -> Holder:
    """A run of user `ann`."""
    return Holder(Kind.RUN, name, attempt, "ann")


class Script:
    """Collects events of one node and numbers them as its spool would; times are seconds from HOUR."""

    def __init__(self, boot_id: str = "boot-1", cores: int = 4) -> None:
        self.events: list[NodeEvent] = []
        self._boot_id = boot_id
        self._cores = cores

    def _stamp(self, at_s: float) -> dict[str, Any]:
        return {"seq": len(self.events), "wall_us": at(at_s), "boot_id": self._boot_id}

    def present(self, *times_s: float, boot_wall_s: float = -86_400, leaving: bool = False) -> "Script":
        """A node event at each time; `boot_wall_s`: when the node booted."""
        for time_s in times_s:
            self.events.append(
                NodePresent(boot_us=at(time_s) - at(boot_wall_s), leaving=leaving, **self._stamp(time_s))
            )
        return self

    def alive(self, start_s: int, end_s: int, *, step_s: int = 30) -> "Script":
        """Node events from start to end."""
        return self.present(*range(start_s, end_s, step_s), end_s)

    def usage(self, start_s: float, end_s: float, *used: tuple[Holder, float]) -> "Script":
        """A usage window; CPU time in seconds."""
        self.events.append(
            ProcessUsage(
                start_us=at(start_s),
                end_us=at(end_s),
                cores=self._cores,
                holders=tuple(holder for holder, _ in used),
                cpu_us=tuple(round(cpu_s * SECOND_US) for _, cpu_s in used),
                **self._stamp(end_s),
            )
        )
        return self

    def windows(self, start_s: int, end_s: int, *rates: tuple[Holder, float], step_s: int = 10) -> "Script":
        """Usage windows side by side; each holder's rate in cores."""
        for second in range(start_s, end_s, step_s):
            stop = min(second + step_s, end_s)
            self.usage(second, stop, *((holder, rate * (stop - second)) for holder, rate in rates))
        return self

    def devices(self, at_s: float, *devices: Device) -> "Script":
        """The list of devices."""
        self.events.append(Devices(devices=devices, **self._stamp(at_s)))
        return self

    def allocation(self, at_s: float, *holders: AllocationHolder) -> "Script":
        """Who holds what from now on."""
        self.events.append(Allocation(holders=holders, **self._stamp(at_s)))
        return self

    def key_frames(self, start_s: int, end_s: int, *holders: AllocationHolder) -> "Script":
        """The same allocation, repeated each five minutes."""
        for second in range(start_s, end_s, 300):
            self.allocation(second, *holders)
        return self

    def gap(self, start_s: float, end_s: float) -> "Script":
        """A time that was not observed."""
        self.events.append(Gap(start_us=at(start_s), end_us=at(end_s), reason="test", **self._stamp(end_s)))
        return self

    def use(self, start_s: float, end_s: float, **busy_ppm: int) -> "Script":
        """Measured use of devices, in millionths of the window, by uuid."""
        self.events.append(
            DeviceUse(
                start_us=at(start_s),
                end_us=at(end_s),
                places=tuple(DevicePlace(uuid) for uuid in busy_ppm),
                busy_ppm=tuple(busy_ppm.values()),
                **self._stamp(end_s),
            )
        )
        return self


def at(second: float) -> int:
    """Microseconds since 1970 of a second counted from HOUR."""
    return HOUR + round(second * SECOND_US)


def claim(resource: str, holder: Holder, numerator: int = 1, denominator: int = 1) -> AllocationHolder:
    """A claim."""
    return AllocationHolder(
        resource=resource, holder=holder, numerator=numerator, denominator=denominator, evidence="claim"
    )


def seen_on(resource: str, holder: Holder) -> AllocationHolder:
    """Presence without a claim."""
    return AllocationHolder(resource=resource, holder=holder, evidence="process")


HOLDERS: Sequence[Holder] = (
    run("a"),
    run("a", 2),
    run("b"),
    run("c")._replace(account="account:red"),
    Holder(Kind.UNTRACKED, owner="bob"),
    Holder(Kind.UNTRACKED),
    Holder(Kind.UNTRACKED, owner="ann", account="account:red"),
    Holder(Kind.UNTRACKED, account="account:red"),
    Holder(Kind.SYSTEM),
)
GPUS = ("gpu-0", "gpu-1")


def _times(draw: st.DrawFn, count_max: int) -> list[int]:
    """Growing times that start before the hour and may end behind it."""
    steps = draw(
        st.lists(
            st.sampled_from(
                (1, 7_000_001, 10_000_000, 30_000_000, 90_000_000, 90_000_001, 700_000_000, 1_900_000_000)
            ),
            min_size=1,
            max_size=count_max,
        )
    )
    times = [HOUR + draw(st.integers(-1_800_000_000, 2_400_000_000))]
    for step in steps:
        times.append(times[-1] + step)
    return times


@st.composite
def _holders(draw: st.DrawFn) -> tuple[AllocationHolder, ...]:
    fractions = st.sampled_from(((0, 0), (0, 0), (1, 1), (1, 4), (2, 4), (3, 8), (16, 64), (5, 7)))
    items = draw(
        st.lists(
            st.tuples(
                st.sampled_from(("host", *(f"device:{gpu}" for gpu in GPUS), "device:gone")),
                st.sampled_from((*HOLDERS, Holder(Kind.UNKNOWN))),
                fractions,
            ),
            max_size=6,
        )
    )
    return tuple(
        AllocationHolder(
            resource=resource,
            holder=holder,
            numerator=n,
            denominator=d,
            evidence="e",
            **(draw(_slices) if resource != "host" else {}),
        )
        for resource, holder, (n, d) in items
        if resource != "host" or holder.kind is not Kind.UNKNOWN
    )


# Mostly the whole device, as most nodes have no slices.
_slices: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    (
        {},
        {},
        {},
        {"part_id": "mig-1", "part_numerator": 4, "part_denominator": 8},
        {"part_id": "mig-2", "part_numerator": 3, "part_denominator": 8},
        {"part_id": "mig-3", "part_numerator": 2, "part_denominator": 4},
    )
)
_PLACES = (*(DevicePlace(gpu) for gpu in GPUS), DevicePlace("gpu-0", "mig-1"), DevicePlace("gpu-1", "mig-2"))


@st.composite
def _use(draw: st.DrawFn) -> dict[str, Any]:
    """How busy some places were; now and then one is told twice."""
    busy = draw(st.lists(st.tuples(st.sampled_from(_PLACES), st.integers(0, 1_000_000)), max_size=4))
    return {"places": tuple(place for place, _ in busy), "busy_ppm": tuple(ppm for _, ppm in busy)}


@st.composite
def histories(draw: st.DrawFn) -> list[NodeEvent]:
    """A node's events around HOUR: boots, crashes, gaps, clock steps, claims, overuse, lists of devices."""
    events: list[NodeEvent] = []

    def stamp(wall_us: int, boot_id: str) -> dict[str, Any]:
        return {"seq": len(events), "wall_us": wall_us, "boot_id": boot_id, "producer_id": "p"}

    for boot in range(draw(st.integers(1, 2))):
        boot_id = f"boot-{boot}"
        times = _times(draw, 12)
        booted_us = times[0] - draw(st.integers(1, 4_000_000_000))
        step_at = draw(st.integers(0, 30))
        step_us = draw(st.sampled_from((-600_000_000, -5_000_000, 1_000_000, 300_000_000)))
        for index, time_us in enumerate(times):
            wall_us = time_us + (step_us if index > step_at else 0)
            events.append(NodePresent(boot_us=time_us - booted_us, **stamp(wall_us, boot_id)))
        for start_us in _times(draw, 8):
            usage = draw(
                st.lists(st.tuples(st.sampled_from(HOLDERS), st.integers(0, 60_000_000)), max_size=4)
            )
            length_us = draw(st.sampled_from((1, 3_333_333, 10_000_000, 61_000_000)))
            events.append(
                ProcessUsage(
                    start_us=start_us,
                    end_us=start_us + length_us,
                    cores=draw(st.sampled_from((1, 3, 64))),
                    holders=tuple(holder for holder, _ in usage),
                    cpu_us=tuple(cpu_us for _, cpu_us in usage),
                    **stamp(start_us + length_us, boot_id),
                )
            )
        for start_us in _times(draw, 6) if draw(st.booleans()) else ():
            end_us = start_us + draw(st.sampled_from((1, 3_333_333, 10_000_000, 61_000_000)))
            stamps = stamp(end_us, boot_id)
            events.append(DeviceUse(start_us=start_us, end_us=end_us, **draw(_use()), **stamps))
        for wall_us in _times(draw, 4) if draw(st.booleans()) else ():
            events.append(Allocation(holders=draw(_holders()), **stamp(wall_us, boot_id)))
        for wall_us in _times(draw, 2)[1:] if draw(st.booleans()) else ():
            found = draw(st.lists(st.sampled_from(GPUS), unique=True))
            devices = tuple(Device(uuid, "m", draw(st.integers(1, 3))) for uuid in found)
            events.append(Devices(devices=devices, **stamp(wall_us, boot_id)))
        if draw(st.booleans()):
            start_us, end_us = sorted(_times(draw, 1))
            events.append(Gap(start_us=start_us, end_us=end_us, **stamp(end_us, boot_id)))
    return events
