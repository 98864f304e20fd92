"""Who used how much of which GPU, from looks at it: pure arithmetic on what `gpu_watch` brought.

The time between two readings of a place belongs to the second one; a longer hole than STEP_NS_MAX belongs to
nobody and is not known. A device's busy time goes to the one holder that is on it (`exclusive`); among several by
what the driver measured of each process (`shared-measured`), else by equal shares (`estimated`).

Lists of processes come less often than readings, and what they measured is of the time before them. So a reading waits
for the next list (at most WAIT_NS_MAX), and what a run used may come to the window after: never twice, and at the
end all of it (`take(is_last=True)`).

Counters are read still less often. What the energy counter grew by is divided by the power of each reading since it was
read before, and by who was on the device then. Where there is no counter, power times time stands in for it. A counter
that became smaller began anew: the difference is not known, never negative.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from trainledger.node.gpu import GpuDevice, GpuReading, Quality
from trainledger.node.gpu_occupancy import HolderOf, Occupancy, Occupant, Place, Shares
from trainledger.node.gpu_stats import add_gauges, add_growth, add_span, busy_part
from trainledger.node.gpu_watch import GpuLook
from trainledger.node.host import StatWindow
from trainledger.node.processes import Holder

__all__ = ["GpuAccount", "Occupant", "Place"]

# Of a device there is a reading each second, of a MIG instance each ten, of its energy each thirty.
STEP_NS_MAX = 5_000_000_000
SLOW_STEP_NS_MAX = 35_000_000_000
WAIT_NS_MAX = 15_000_000_000
_RANK = {quality: rank for rank, quality in enumerate(Quality)}


@dataclass(slots=True)
class _Use:
    seen_us: float = 0.0
    known_us: float = 0.0
    busy_us: float | None = None
    energy_mj: float | None = None
    memory_peak_bytes: int | None = None
    quality: Quality = Quality.EXCLUSIVE

    def add(self, dt_us: float, busy_us: float | None, quality: Quality = Quality.EXCLUSIVE) -> None:
        self.seen_us += dt_us
        if busy_us is not None:
            self.known_us += dt_us
            self.busy_us = (self.busy_us or 0.0) + busy_us
        if quality is not self.quality:
            self.quality = max(self.quality, quality, key=_RANK.__getitem__)

    def add_energy(self, energy_mj: float) -> None:
        self.energy_mj = (self.energy_mj or 0.0) + energy_mj

    def fields(self, place: Place) -> dict[str, object]:
        observed_us = round(self.known_us or self.seen_us)
        return {
            "device_id": place.device_id,
            "part_id": place.part_id,
            "observed_us": observed_us,
            "busy_us": None if self.busy_us is None else min(observed_us, round(self.busy_us)),
            "energy_mj": None if self.energy_mj is None else round(self.energy_mj),
        }


class _Step(NamedTuple):
    # The time between two readings: how busy it was, and what it weighs in a division of energy (mJ by power).
    dt_us: float
    busy_us: float | None
    weight: float


@dataclass(slots=True)
class _Track:
    # A place's last reading, and for each counter when it was read last and what it was; what waits for a list, in
    # order: steps, and energy by which the counter had grown then.
    at_ns: int
    counters: dict[str, tuple[int, int]] = field(default_factory=dict)
    waiting: list[_Step | float] = field(default_factory=list)
    waits_since_ns: int = 0
    shares: Shares | None = None
    # Weights since the energy counter was read, by holder; None: nobody's.
    weights: dict[Holder | None, float] = field(default_factory=dict)


class GpuAccount:
    """Adds up looks; `take` ends a window, `occupants` says who is where now."""

    def __init__(self, holder_of: HolderOf, *, vendors: Sequence[str] = ("nvidia",)) -> None:
        """`vendors`: who must have told their devices before `devices` is known."""
        self._occupancy = Occupancy(holder_of)
        self._by_vendor: dict[str, tuple[GpuDevice, ...] | None] = dict.fromkeys(vendors)
        self._tracks: dict[str, _Track] = {}
        self._places: dict[str, Place] = {}
        self._whole: dict[Place, _Use] = {}
        self._uses: dict[tuple[Place, Holder], _Use] = {}
        self._gauges: dict[str, Mapping[str, float]] = {}

    @property
    def devices(self) -> tuple[GpuDevice, ...] | None:
        """All devices of the node; None until every vendor told its."""
        lists = list(self._by_vendor.values())
        known = [devices for devices in lists if devices is not None]
        return None if len(known) < len(lists) else tuple(device for devices in known for device in devices)

    def add(self, look: GpuLook, stats: StatWindow) -> None:
        """Count one look; what was measured goes to `stats` too, by device or MIG instance."""
        if look.devices is not None and look.devices != self._by_vendor.get(look.vendor):
            self._by_vendor[look.vendor] = look.devices
            self._note_places()
        for reading in look.readings:
            place = self._places.get(reading.place_id)
            if place is not None:
                self._note_reading(look.at_ns, place, reading, stats=stats)
        for listed in look.processes or ():
            self._occupancy.note(look.at_ns, listed, self._gauges.get(listed.device_id, {}))
            for place_id, place in self._places.items():
                if place.device_id == listed.device_id and place_id in self._tracks:
                    self._settle(place, self._tracks[place_id])
            for key, total in self._occupancy.memory_bytes(listed.device_id).items():
                use = self._uses.setdefault(key, _Use())
                use.memory_peak_bytes = max(use.memory_peak_bytes or 0, total)

    def take(
        self, *, is_last: bool = False
    ) -> tuple[list[dict[str, object]], dict[Holder, list[dict[str, object]]]]:
        """The window's devices as a whole, and what each run used of them; the next window begins empty.

        `is_last`: also what still waits for a list, by the one before."""
        if is_last:
            for place_id, track in self._tracks.items():
                self._settle(self._places[place_id], track)
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
        return self._occupancy.occupants(self.devices or (), now_ns)

    def has_strangers(self) -> bool:
        """Whether a process is on a device of which it is not known whose it is."""
        return self._occupancy.has_strangers()

    def _note_places(self) -> None:
        places: dict[str, Place] = {}
        for devices in self._by_vendor.values():
            for item in devices or ():
                places[item.device_id] = Place(item.device_id)
                places |= {part.part_id: Place(item.device_id, part.part_id) for part in item.parts}
        for place_id in self._tracks.keys() - places.keys():
            # Its layout is gone: what was measured of it is still somebody's.
            self._settle(self._places[place_id], self._tracks.pop(place_id))
        self._occupancy.forget(self._places.keys() - places.keys())
        self._places = places

    def _note_reading(self, at_ns: int, place: Place, reading: GpuReading, *, stats: StatWindow) -> None:
        track = self._tracks.get(reading.place_id)
        if track is None:
            track = self._tracks[reading.place_id] = _Track(at_ns)
        dt_ns, track.at_ns = at_ns - track.at_ns, at_ns
        if not place.part_id:
            self._gauges[place.device_id] = reading.gauges
        add_gauges(stats, reading)
        if 0 < dt_ns <= (SLOW_STEP_NS_MAX if place.part_id else STEP_NS_MAX):
            self._step(place, track, reading, dt_s=dt_ns / 1e9, stats=stats)
        grown: dict[str, tuple[int, float]] = {}
        for name, value in reading.counters.items():
            old_ns, old = track.counters.get(name, (at_ns, value + 1))
            track.counters[name] = (at_ns, value)
            if value >= old:
                grown[name] = (value - old, (at_ns - old_ns) / 1e9)
        if reading.counters:
            add_growth(stats, reading, grown)
        if "energy_mj" in reading.counters:
            self._note_energy(place, track, grown.get("energy_mj"), stats=stats)
        if track.waiting and at_ns - track.waits_since_ns > WAIT_NS_MAX:
            self._settle(place, track)

    def _step(
        self, place: Place, track: _Track, reading: GpuReading, *, dt_s: float, stats: StatWindow
    ) -> None:
        """Count the time since the reading before, and how busy the place was in it."""
        add_span(stats, reading, dt_s)
        busy = busy_part(place, reading.gauges)
        busy_us = None if busy is None else busy * dt_s * 1e6
        power_w = reading.gauges.get("power_w")
        weight = (1.0 if power_w is None else power_w) * dt_s * 1000
        whole = self._whole.setdefault(place, _Use())
        whole.add(dt_s * 1e6, busy_us)
        if not track.waiting:
            track.waits_since_ns = track.at_ns
        track.waiting.append(_Step(dt_s * 1e6, busy_us, weight))
        if power_w is not None:
            self._use_power(place, track, weight, stats=stats)

    def _use_power(self, place: Place, track: _Track, weight: float, *, stats: StatWindow) -> None:
        """Where no counter tells the energy, power times time stands in for it."""
        if "energy_mj" in track.counters:
            counted_ns, _ = track.counters["energy_mj"]
            if track.at_ns - counted_ns <= 2 * SLOW_STEP_NS_MAX:
                return
            del track.counters["energy_mj"]  # it is told no more: what was not counted since then, too
            steps = (item.weight for item in track.waiting if isinstance(item, _Step))
            weight = sum(track.weights.values()) + sum(steps)
        stats.add(place.part_id or place.device_id, "energy_j", weight / 1000, is_estimated=True)
        self._whole.setdefault(place, _Use()).add_energy(weight)
        track.waiting.append(weight)

    def _note_energy(
        self, place: Place, track: _Track, grown: tuple[int, float] | None, *, stats: StatWindow
    ) -> None:
        energy_mj, over_s = (0, 0.0) if grown is None else grown
        if grown is not None:
            stats.add(place.device_id, "energy_j", energy_mj / 1000)
            self._whole.setdefault(place, _Use()).add_energy(energy_mj)
        if grown is None or over_s * 1e9 > SLOW_STEP_NS_MAX:
            energy_mj = 0  # a hole: the device took it, nobody knows for whom
        track.waiting.append(float(energy_mj))

    def _settle(self, place: Place, track: _Track) -> None:
        """Give what waits to whom it belongs, by the list before and the newest."""
        end = self._occupancy.shares(place)
        if not track.waiting:
            if (
                track.shares is None or not place.part_id
            ):  # of a part a reading may still come for the time before
                track.shares = end
            return
        shares = end if track.shares is None else track.shares.between(end)
        track.shares = end
        waiting, track.waiting = track.waiting, []
        others = max(0.0, 1.0 - sum(shares.of.values()))
        for item in waiting:
            if not isinstance(item, _Step):
                self._give_energy(place, track, item)
                continue
            is_nobodys = shares.busy_only and item.busy_us == 0
            for holder, share in () if is_nobodys else shares.of.items():
                use = self._uses.setdefault((place, holder), _Use())
                if item.busy_us is None:
                    use.add(item.dt_us, None, Quality.UNKNOWN)
                else:
                    use.add(item.dt_us, item.busy_us * share, shares.quality)
                track.weights[holder] = track.weights.get(holder, 0.0) + item.weight * share
            track.weights[None] = track.weights.get(None, 0.0) + item.weight * (1.0 if is_nobodys else others)

    def _give_energy(self, place: Place, track: _Track, energy_mj: float) -> None:
        weights, track.weights = track.weights, {}
        total = sum(weights.values())
        if total <= 0 or energy_mj <= 0:
            return
        for holder, weight in weights.items():
            if holder is not None:
                use = self._uses.setdefault((place, holder), _Use())
                use.add_energy(weight * energy_mj / total)
