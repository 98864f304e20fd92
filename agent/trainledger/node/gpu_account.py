"""Who used how much of which GPU, from looks at it: pure arithmetic on what `gpu_watch` brought.

The time between two readings of a place belongs to the second one; a longer hole than STEP_NS_MAX belongs to
nobody and is not known. A device's busy time goes to the one holder that is on it (`exclusive`); among several by
what the driver measured of each process (`shared-measured`), else by equal shares (`estimated`).

Counters are read less often. What the energy counter grew by is divided by the power of each look since it was
read before, and by who was on the device then; it comes to the window in which the counter was read. Where there is
no counter, power times time stands in for it. A counter that became smaller began anew: the difference is not
known, never negative.

Who is on a device is said by the driver's list and by who the processes belong to. A process that nobody can see
(the agent does not share its process id namespace), a device that is lost, and one that is busy without a process
are `unknown`: the time is not idle, and it is nobody's.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from trainledger.node.gpu import GpuDevice, GpuProcess, GpuProcesses, GpuReading, Quality
from trainledger.node.gpu_watch import GpuLook
from trainledger.node.host import StatWindow
from trainledger.node.processes import Holder

__all__ = ["GpuAccount", "Occupant", "Place"]

# Of a device there is a reading each second, of a MIG instance each ten.
STEP_NS_MAX = 5_000_000_000
SLOW_STEP_NS_MAX = 35_000_000_000
# After so long without a list, nobody knows any more who is there.
LIST_AGE_NS_MAX = 30_000_000_000
# An H100 without processes shows 0 bytes in use. Displays and daemons may hold some.
IDLE_BYTES_MAX = 256 << 20
THROTTLED = ("throttled_power", "throttled_thermal", "throttled_other")
TOTALS = (
    "ecc_corrected", "ecc_uncorrected", "remapped_rows", "row_remap_pending", "row_remap_failed", "xid_errors",
)  # fmt: skip
THROTTLE_BITS = 0x4 | 0x80 | 0x20 | 0x40 | 0x8 | 0x10
_RANK = {quality: rank for rank, quality in enumerate(Quality)}

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


@dataclass(slots=True)
class _Use:
    seen_us: int = 0
    known_us: int = 0
    busy_us: float | None = None
    energy_mj: float | None = None
    memory_peak_bytes: int | None = None
    quality: Quality = Quality.EXCLUSIVE

    def add(self, dt_us: float, busy_us: float | None, quality: Quality = Quality.EXCLUSIVE) -> None:
        self.seen_us += round(dt_us)
        if busy_us is not None:
            self.known_us += round(dt_us)
            self.busy_us = (self.busy_us or 0.0) + busy_us
        self.quality = max(self.quality, quality, key=_RANK.__getitem__)

    def add_energy(self, energy_mj: float) -> None:
        self.energy_mj = (self.energy_mj or 0.0) + energy_mj

    def fields(self, place: Place) -> dict[str, object]:
        observed_us = self.known_us or self.seen_us
        return {
            "device_id": place.device_id,
            "part_id": place.part_id,
            "observed_us": observed_us,
            "busy_us": None if self.busy_us is None else min(observed_us, round(self.busy_us)),
            "energy_mj": None if self.energy_mj is None else round(self.energy_mj),
        }


@dataclass(slots=True)
class _Before:
    # The last reading of a place, and for each counter when it was read last and what it was.
    at_ns: int
    counters: dict[str, tuple[int, int]] = field(default_factory=dict)
    # Power times share since the energy counter was read, by holder; None: nobody's.
    weights: dict[Holder | None, float] = field(default_factory=dict)


class GpuAccount:
    """Adds up looks; `take` ends a window, `occupants` says who is where now."""

    def __init__(self, holder_of: HolderOf) -> None:
        self._holder_of = holder_of
        self.devices: tuple[GpuDevice, ...] | None = None
        self._before: dict[str, _Before] = {}
        self._places: dict[str, Place] = {}
        self._lists: dict[str, tuple[int, GpuProcesses]] = {}
        self._holders: dict[int, Holder] = {}
        self._strangers: dict[int, int] = {}
        self._busy_alone: dict[str, int] = {}
        self._whole: dict[Place, _Use] = {}
        self._uses: dict[tuple[Place, Holder], _Use] = {}
        self._gauges: dict[str, Mapping[str, float]] = {}

    def add(self, look: GpuLook, stats: StatWindow) -> None:
        """Count one look; what was measured goes to `stats` too, by device or MIG instance."""
        if look.devices is not None and look.devices != self.devices:
            self.devices = look.devices
            self._places = {item.device_id: Place(item.device_id) for item in look.devices}
            for item in look.devices:
                self._places |= {part.part_id: Place(item.device_id, part.part_id) for part in item.parts}
        if look.processes is not None:
            self._note_processes(look.at_ns, look.processes)
        for reading in look.readings:
            place = self._places.get(reading.place_id)
            if place is not None:
                self._note_reading(look.at_ns, place, reading, stats=stats)
        if look.processes is not None:
            self._weigh()

    def take(self) -> tuple[list[dict[str, object]], dict[Holder, list[dict[str, object]]]]:
        """The window's devices as a whole, and what each run used of them; the next window begins empty."""
        whole = [use.fields(place) for place, use in sorted(self._whole.items())]
        runs: dict[Holder, list[dict[str, object]]] = {}
        for (place, holder), use in sorted(self._uses.items(), key=lambda item: item[0][0]):
            if holder.kind == "run":
                quality = Quality.UNKNOWN if use.busy_us is None else use.quality
                more = {"memory_peak_bytes": use.memory_peak_bytes, "quality": str(quality)}
                runs.setdefault(holder, []).append(use.fields(place) | more)
        self._whole, self._uses = {}, {}
        return whole, runs

    def occupants(self, now_ns: int) -> list[Occupant]:
        """Who is on each device and MIG instance now; places where nobody is are left out."""
        found: list[Occupant] = []
        for device in self.devices or ():
            why = self._why_unknown(device, now_ns)
            if why is not None:
                found.append(Occupant(Place(device.device_id), 1, 1, None, why))
                continue
            sizes = {part.part_id: (part.size, part.of) for part in device.parts}
            holders = {
                (process.part_id, holder)
                for process in self._lists[device.device_id][1].processes or ()
                if (holder := self._holders.get(process.pid)) is not None and holder.kind != "system"
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

    def _note_processes(self, at_ns: int, lists: Iterable[GpuProcesses]) -> None:
        pids: set[int] = set()
        for listed in lists:
            self._lists[listed.device_id] = (at_ns, listed)
            for process in listed.processes or ():
                pids.add(process.pid)
                holder = self._holder_of(process)
                if holder is not None:
                    self._holders[process.pid] = holder
                    self._strangers.pop(process.pid, None)
                elif process.pid not in self._holders:
                    self._strangers[process.pid] = self._strangers.get(process.pid, 0) + 1
            gauges = self._gauges.get(listed.device_id, {})
            is_used = gauges.get("gpu_util_pct", 0) > 0 or gauges.get("mem_used_bytes", 0) > IDLE_BYTES_MAX
            alone = listed.processes == () and is_used
            self._busy_alone[listed.device_id] = self._busy_alone.get(listed.device_id, 0) + 1 if alone else 0
        self._holders = {pid: holder for pid, holder in self._holders.items() if pid in pids}
        self._strangers = {pid: count for pid, count in self._strangers.items() if pid in pids}

    def _note_reading(self, at_ns: int, place: Place, reading: GpuReading, *, stats: StatWindow) -> None:
        before = self._before.setdefault(reading.place_id, _Before(at_ns))
        dt_ns, before.at_ns = at_ns - before.at_ns, at_ns
        if not place.part_id:
            self._gauges[place.device_id] = reading.gauges
        for name, value in reading.gauges.items():
            if name != "throttle_reasons":
                stats.add(reading.place_id, name, value, is_estimated=name in reading.estimated)
        if 0 < dt_ns <= (SLOW_STEP_NS_MAX if place.part_id else STEP_NS_MAX):
            self._attribute(place, reading, dt_s=dt_ns / 1e9, stats=stats)
        grown: dict[str, tuple[int, float]] = {}
        for name, value in reading.counters.items():
            old_ns, old = before.counters.get(name, (at_ns, value + 1))
            before.counters[name] = (at_ns, value)
            if value >= old:
                grown[name] = (value - old, (at_ns - old_ns) / 1e9)
        _add_growth(stats, reading, grown)
        if "energy_mj" in reading.counters:
            self._divide_energy(place, before, grown.get("energy_mj"), stats=stats)

    def _attribute(self, place: Place, reading: GpuReading, *, dt_s: float, stats: StatWindow) -> None:
        """Count the time since the reading before, and how busy the place was in it."""
        stats.add(reading.place_id, "observed_s", dt_s)
        if "throttle_reasons" in reading.gauges:
            is_throttled = int(reading.gauges["throttle_reasons"]) & THROTTLE_BITS
            stats.add(reading.place_id, "throttled_s", dt_s if is_throttled else 0.0, is_estimated=True)
        busy = _busy_part(place, reading.gauges)
        busy_us = None if busy is None else busy * dt_s * 1e6
        self._whole.setdefault(place, _Use()).add(dt_s * 1e6, busy_us)
        shares, quality = self._shares(place)
        for holder, share in shares.items():
            use = self._uses.setdefault((place, holder), _Use())
            if busy_us is None:
                use.add(dt_s * 1e6, None, Quality.UNKNOWN)
            else:
                use.add(dt_s * 1e6, busy_us * share, quality)
        before = self._before[reading.place_id]
        power_w = reading.gauges.get("power_w")
        energy_mj = (1.0 if power_w is None else power_w) * dt_s * 1000
        weights: dict[Holder | None, float] = {
            **{holder: energy_mj * share for holder, share in shares.items()},
            None: energy_mj * max(0.0, 1 - sum(shares.values())),
        }
        for somebody, weight in weights.items():
            before.weights[somebody] = before.weights.get(somebody, 0.0) + weight
        if "energy_mj" not in before.counters and power_w is not None:
            stats.add(reading.place_id, "energy_j", energy_mj / 1000, is_estimated=True)
            self._give_energy(place, before.weights, 1.0)
            before.weights.clear()

    def _divide_energy(
        self, place: Place, before: _Before, grown: tuple[int, float] | None, *, stats: StatWindow
    ) -> None:
        weights, before.weights = before.weights, {}
        if grown is None:
            return
        energy_mj, over_s = grown
        total = sum(weights.values())
        if over_s * 1e9 > SLOW_STEP_NS_MAX or total <= 0:
            weights, total = {None: 1.0}, 1.0  # a hole: the device took it, nobody knows for whom
        stats.add(place.device_id, "energy_j", energy_mj / 1000)
        self._give_energy(place, weights, energy_mj / total)

    def _give_energy(self, place: Place, weights: Mapping[Holder | None, float], factor: float) -> None:
        self._whole.setdefault(place, _Use()).add_energy(sum(weights.values()) * factor)
        for holder, weight in weights.items():
            if holder is not None:
                self._uses.setdefault((place, holder), _Use()).add_energy(weight * factor)

    def _shares(self, place: Place) -> tuple[dict[Holder, float], Quality]:
        """Which part of the place's busy time is whose; sums to 1 unless there are strangers or nobody."""
        _, listed = self._lists.get(place.device_id, (0, None))
        here = [
            item for item in (listed.processes if listed else None) or () if item.part_id == place.part_id
        ]
        known = [(self._holders.get(item.pid), item.busy_pct) for item in here]
        owners = {holder for holder, _ in known if holder is not None and holder.kind != "system"}
        strangers = any(holder is None for holder, _ in known)
        if len(owners) == 1 and not strangers:
            return dict.fromkeys(owners, 1.0), Quality.EXCLUSIVE
        total = sum(busy or 0.0 for _, busy in known)
        if total > 0 and all(busy is not None for _, busy in known):
            shares = dict.fromkeys(owners, 0.0)
            for holder, busy in known:
                if holder in shares and holder is not None:
                    shares[holder] += (busy or 0.0) / total
            return shares, Quality.SHARED_MEASURED
        return dict.fromkeys(owners, 1 / (len(owners) + strangers) if owners else 0.0), Quality.ESTIMATED

    def _weigh(self) -> None:
        """Keep the highest device memory of each holder."""
        for device_id, (_, listed) in self._lists.items():
            sums: dict[tuple[Place, Holder], int] = {}
            for process in listed.processes or ():
                holder = self._holders.get(process.pid)
                if holder is not None and process.memory_bytes is not None:
                    key = (Place(device_id, process.part_id), holder)
                    sums[key] = sums.get(key, 0) + process.memory_bytes
            for key, total in sums.items():
                use = self._uses.setdefault(key, _Use())
                use.memory_peak_bytes = max(use.memory_peak_bytes or 0, total)


def _busy_part(place: Place, gauges: Mapping[str, float]) -> float | None:
    # Of a MIG instance there is only how busy its multiprocessors were.
    percent = gauges.get("sm_active_pct" if place.part_id else "gpu_util_pct")
    return None if percent is None else min(1.0, percent / 100)


def _add_growth(stats: StatWindow, reading: GpuReading, grown: Mapping[str, tuple[int, float]]) -> None:
    """What counters grew by: seconds of throttling; and how many errors there are in all."""
    parts = {name: grown[f"{name}_ns"] for name in THROTTLED if f"{name}_ns" in grown}
    for name, (throttled_ns, _) in parts.items():
        stats.add(reading.place_id, f"{name}_s", throttled_ns / 1e9)
    if parts:
        # Reasons may hold at once: the sum of their times can be more than the time that passed.
        over_s = max(seconds for _, seconds in parts.values())
        total_s = sum(throttled_ns for throttled_ns, _ in parts.values()) / 1e9
        stats.add(reading.place_id, "throttled_s", min(over_s, total_s))
    for name in TOTALS:
        if name in reading.counters:
            stats.add(reading.place_id, name, reading.counters[name])
