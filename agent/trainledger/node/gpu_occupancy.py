"""Who is on which GPU, from the driver's lists of processes and from whom the processes belong to.

A process that nobody can see (the agent does not share its process id namespace), a device that is lost, and one that
is busy without a process are `unknown`: the time is not idle, and it is nobody's.

Whose the use of a device was is told by lists at both ends of a span (`Shares.between`). Where the driver measured the
processes, the list at the end says how the span was divided, those included that ended in it. Else there is only
who was there: the same at both ends; whoever came to, or left, an empty device; or half by the one and half by the
other.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from trainledger.node.gpu import GpuDevice, GpuProcess, GpuProcesses, Quality
from trainledger.node.processes import Holder

__all__ = ["HolderOf", "Occupancy", "Occupant", "Place", "Shares"]

# After so long without a list, nobody knows any more who is there.
LIST_AGE_NS_MAX = 30_000_000_000
# An H100 without processes shows 0 bytes in use. Displays and daemons may hold some.
IDLE_BYTES_MAX = 256 << 20

HolderOf = Callable[[GpuProcess], Holder | None]


class Place(NamedTuple):
    """A device, or a MIG instance of it."""

    device_id: str
    part_id: str = ""


@dataclass(frozen=True, slots=True)
class Occupant:
    """Somebody on a place; `holder` None: nobody can say who, and `evidence` says why."""

    place: Place
    part_numerator: int
    part_denominator: int
    holder: Holder | None
    evidence: str


@dataclass(frozen=True, slots=True)
class Shares:
    """Which part of a place's use is whose; sums to 1 unless there are strangers, or nobody."""

    of: Mapping[Holder, float]
    quality: Quality = Quality.EXCLUSIVE
    has_strangers: bool = False
    # Somebody was there for a part of the span, and nobody else: what is idle of it is nobody's.
    busy_only: bool = False

    @property
    def is_empty(self) -> bool:
        """Nobody is there."""
        return not self.of and not self.has_strangers

    def between(self, end: "Shares") -> "Shares":
        """Of a span that begins with these and ends with `end`."""
        if end.quality == Quality.SHARED_MEASURED or end == self:
            return end
        if self.is_empty or end.is_empty:
            return replace(end if self.is_empty else self, busy_only=True)
        if self.of.keys() == end.of.keys():  # one end was measured, or strangers came or went
            return end
        half = {holder: share / 2 for holder, share in self.of.items()}
        for holder, share in end.of.items():
            half[holder] = half.get(holder, 0.0) + share / 2
        return Shares(half, Quality.ESTIMATED, self.has_strangers or end.has_strangers)


NOBODY = Shares({})


class Occupancy:
    """Remembers the newest list of each device, and whose the processes on it are."""

    def __init__(self, holder_of: HolderOf) -> None:
        self._holder_of = holder_of
        self._lists: dict[str, tuple[int, GpuProcesses]] = {}
        self._holders: dict[int, Holder] = {}
        self._strangers: dict[int, int] = {}
        self._busy_alone: dict[str, int] = {}

    def note(self, at_ns: int, listed: GpuProcesses, gauges: Mapping[str, float]) -> None:
        """A new list; `gauges`: what the device told of itself at that time."""
        self._lists[listed.device_id] = (at_ns, listed)
        for process in listed.processes or ():
            holder = self._holder_of(process)
            if holder is not None:
                self._holders[process.pid] = holder
                self._strangers.pop(process.pid, None)
            elif process.pid not in self._holders and not process.is_gone:
                self._strangers[process.pid] = self._strangers.get(process.pid, 0) + 1
        is_used = gauges.get("gpu_util_pct", 0) > 0 or gauges.get("mem_used_bytes", 0) > IDLE_BYTES_MAX
        alone = listed.processes == () and is_used
        self._busy_alone[listed.device_id] = self._busy_alone.get(listed.device_id, 0) + 1 if alone else 0
        pids = {process.pid for _, item in self._lists.values() for process in item.processes or ()}
        if len(self._holders) + len(self._strangers) > len(pids):
            self._holders = {pid: holder for pid, holder in self._holders.items() if pid in pids}
            self._strangers = {pid: count for pid, count in self._strangers.items() if pid in pids}

    def forget(self, device_ids: Iterable[str]) -> None:
        """Devices that are not on the node any more."""
        for device_id in device_ids:
            self._lists.pop(device_id, None)
            self._busy_alone.pop(device_id, None)

    def shares(self, place: Place) -> Shares:
        """By the newest list."""
        _, listed = self._lists.get(place.device_id, (0, None))
        here = [
            item for item in (listed.processes if listed else None) or () if item.part_id == place.part_id
        ]
        if not here:
            return NOBODY
        known = [(self._holders.get(item.pid), item.busy_pct) for item in here]
        owners = {holder for holder, _ in known if holder is not None and holder.kind != "system"}
        strangers = any(holder is None for holder, _ in known)
        if len(owners) == 1 and not strangers:
            return Shares(dict.fromkeys(owners, 1.0))
        total = sum(busy or 0.0 for _, busy in known)
        if total > 0 and all(busy is not None for _, busy in known):
            shares = dict.fromkeys(owners, 0.0)
            for holder, busy in known:
                if holder in shares and holder is not None:
                    shares[holder] += (busy or 0.0) / total
            return Shares(shares, Quality.SHARED_MEASURED, strangers)
        if not owners:
            return Shares({}, Quality.ESTIMATED, strangers)
        return Shares(dict.fromkeys(owners, 1 / (len(owners) + strangers)), Quality.ESTIMATED, strangers)

    def memory_bytes(self, device_id: str) -> dict[tuple[Place, Holder], int]:
        """Device memory of each holder, as far as the driver tells it."""
        sums: dict[tuple[Place, Holder], int] = {}
        _, listed = self._lists.get(device_id, (0, None))
        for process in (listed.processes if listed else None) or ():
            holder = self._holders.get(process.pid)
            if holder is not None and process.memory_bytes is not None:
                key = (Place(device_id, process.part_id), holder)
                sums[key] = sums.get(key, 0) + process.memory_bytes
        return sums

    def occupants(self, devices: Iterable[GpuDevice], now_ns: int) -> list[Occupant]:
        """Who is on each device and MIG instance now; places where nobody is are left out."""
        found: list[Occupant] = []
        for device in devices:
            why = self._why_unknown(device, now_ns)
            if why is not None:
                found.append(Occupant(Place(device.device_id), 1, 1, None, why))
                continue
            sizes = {part.part_id: (part.size, part.of) for part in device.parts}
            holders = {
                (process.part_id, holder)
                for process in self._lists[device.device_id][1].processes or ()
                if (holder := self._holders.get(process.pid)) is not None
                and holder.kind != "system"
                and not process.is_gone
            }
            for part_id, holder in sorted(holders, key=lambda item: (item[0], *item[1].order())):
                place = Place(device.device_id, part_id)
                found.append(Occupant(place, *sizes.get(part_id, (1, 1)), holder, "process list"))
        return found

    def has_strangers(self) -> bool:
        """Whether a process is on a device of which it is not known whose it is."""
        return bool(self._strangers)

    def _why_unknown(self, device: GpuDevice, now_ns: int) -> str | None:
        if device.problem is not None:
            return f"device {device.problem}"
        at_ns, listed = self._lists.get(device.device_id, (None, None))
        if at_ns is None or listed is None or now_ns - at_ns > LIST_AGE_NS_MAX:
            return "no answer from the driver"
        if listed.processes is None:
            return "the driver does not list processes"
        # Twice: once is a process that ended or began between two looks.
        if any(self._strangers.get(process.pid, 0) >= 2 for process in listed.processes):
            return "process not visible to the agent"
        if self._busy_alone.get(device.device_id, 0) >= 2:
            return "used without a visible process"
        return None
