"""What one AMD GPU tells about itself now. Units and traps are those of AMD SMI 7.0.

Power is in watts, limits in microwatts, temperature in degrees; of older libraries in thousandths, which no GPU
reaches as degrees. The energy counter has a resolution of its own (microjoules a count), and is known to be wrong or to
stand still on some boards: it is believed only while it agrees, within a factor of two, with power times time; until
then and otherwise power times time stands in for it. Throttling comes as counts, of all ticks and of those with a
reason: their quotient is the share of time. That call may measure for a tenth of a second, so each tenth look makes it.
"""

from dataclasses import dataclass, field
from typing import Any

from trainledger.node.amdsmi import AmdSmi, known
from trainledger.node.amdsmi_devices import AmdHandle, memory_bytes
from trainledger.node.gpu import GpuReading

__all__ = ["AmdMeter"]

SLOW_EVERY = 10
STEP_NS_MAX = 5_000_000_000
# What must have flowed before the energy counter is compared with power.
COMPARED_MJ_MIN = 500_000
ENERGY_RATIO_MAX = 2.0
MICROWATTS_MIN = 100_000
MILLIDEGREES_MIN = 1000
POWER_NAMES = ("current_socket_power", "socket_power", "average_socket_power")
POWER_TICKS = ("acc_ppt_pwr",)
THERMAL_TICKS = ("acc_prochot_thrm", "acc_socket_thrm", "acc_vr_thrm", "acc_hbm_thrm")


@dataclass(slots=True)
class AmdMeter:
    """Reads one device again and again; `turn` says at which look of ten it reads what is slow."""

    smi: AmdSmi
    place: AmdHandle
    turn: int = 0
    _looks: int = 0
    _at_ns: int = 0
    _energy: "_EnergyCheck" = field(default_factory=lambda: _EnergyCheck())
    _ticks: tuple[int, dict[str, float]] | None = None
    _throttled_ns: dict[str, int] = field(default_factory=dict)

    def read(self) -> list[GpuReading]:
        """The device's reading, and those of its partitions; empty when nothing answers."""
        place = self.place
        if place.handle is None:
            return []
        device_id, handle = place.device.device_id, place.handle
        gauges: dict[str, float] = {}
        counters: dict[str, int] = {}
        if not place.parts:  # else the numbers of the first partition
            self._use(device_id, handle, gauges)
        self._power_and_heat(device_id, handle, gauges)
        now_ns = self.smi.clock.monotonic_ns()
        if 0 < now_ns - self._at_ns <= STEP_NS_MAX and "power_w" in gauges:
            self._energy.power_mj += gauges["power_w"] * (now_ns - self._at_ns) / 1e6
        self._at_ns = now_ns
        is_slow = self._looks == 0 or (self._looks + self.turn) % SLOW_EVERY == 0
        self._looks += 1
        if is_slow:
            self._read_slow(device_id, handle, gauges, counters)
        parts = [self._read_part(part_id, part) for part_id, part in place.parts.items()]
        if not gauges and not any(part.gauges for part in parts):
            return []
        return [GpuReading(device_id, gauges, counters), *parts]

    def _read_part(self, part_id: str, handle: Any) -> GpuReading:
        gauges: dict[str, float] = {}
        self._use(part_id, handle, gauges)
        return GpuReading(part_id, gauges)

    def _use(self, place: str, handle: Any, gauges: dict[str, float]) -> None:
        activity = self.smi.ask(place, "amdsmi_get_gpu_activity", handle) or {}
        _add(gauges, "gpu_util_pct", known(activity.get("gfx_activity")))
        _add(gauges, "mem_util_pct", known(activity.get("umc_activity")))
        _add(gauges, "mem_used_bytes", memory_bytes(self.smi, place, handle, "usage"))
        _add(gauges, "mem_total_bytes", memory_bytes(self.smi, place, handle, "total"))

    def _power_and_heat(self, place: str, handle: Any, gauges: dict[str, float]) -> None:
        power = self.smi.ask(place, "amdsmi_get_power_info", handle) or {}
        told = (known(power.get(name)) for name in POWER_NAMES)
        _add(gauges, "power_w", next((watts for watts in told if watts is not None), None))
        kinds = self.smi.module.AmdSmiTemperatureType
        for kind in (kinds.HOTSPOT, kinds.EDGE):
            if "temperature_c" not in gauges:
                _add(gauges, "temperature_c", self._degrees(place, handle, kind))
        _add(gauges, "sm_clock_mhz", self._clock(place, handle, self.smi.module.AmdSmiClkType.GFX))

    def _degrees(self, place: str, handle: Any, kind: Any) -> float | None:
        # Refusals are remembered by sensor: a board without one of them has the others.
        metric = self.smi.module.AmdSmiTemperatureMetric.CURRENT
        value = known(self.smi.ask(f"{place} {kind}", "amdsmi_get_temp_metric", handle, kind, metric))
        if value is None:
            return None
        return value / 1000 if value >= MILLIDEGREES_MIN else value

    def _clock(self, place: str, handle: Any, kind: Any) -> float | None:
        clock = self.smi.ask(f"{place} {kind}", "amdsmi_get_clock_info", handle, kind) or {}
        return known(clock.get("clk"))

    def _read_slow(self, place: str, handle: Any, gauges: dict[str, float], counters: dict[str, int]) -> None:
        limits = self.smi.ask(place, "amdsmi_get_power_cap_info", handle) or {}
        limit = known(limits.get("power_cap"))
        if limit is not None:
            gauges["power_limit_w"] = limit / 1e6 if limit >= MICROWATTS_MIN else limit
        _add(
            gauges,
            "mem_temperature_c",
            self._degrees(place, handle, self.smi.module.AmdSmiTemperatureType.VRAM),
        )
        _add(gauges, "mem_clock_mhz", self._clock(place, handle, self.smi.module.AmdSmiClkType.MEM))
        energy = self.smi.ask(place, "amdsmi_get_energy_count", handle) or {}
        count, resolution_uj = (
            known(energy.get("energy_accumulator")),
            known(energy.get("counter_resolution")),
        )
        if count is not None and resolution_uj:
            energy_mj = round(count * resolution_uj / 1000)
            if self._energy.is_believed(energy_mj):
                counters["energy_mj"] = energy_mj
        errors = self.smi.ask(place, "amdsmi_get_gpu_total_ecc_count", handle) or {}
        for name, theirs in (
            ("ecc_corrected", "correctable_count"),
            ("ecc_uncorrected", "uncorrectable_count"),
        ):
            number = known(errors.get(theirs))
            if number is not None:
                counters[name] = int(number)
        self._throttling(self.smi.ask(place, "amdsmi_get_violation_status", handle) or {}, counters)

    def _throttling(self, status: dict[str, Any], counters: dict[str, int]) -> None:
        names = ("acc_counter", *POWER_TICKS, *THERMAL_TICKS)
        now = {name: value for name in names if (value := known(status.get(name))) is not None}
        before, self._ticks = self._ticks, (self._at_ns, now)
        if "acc_counter" not in now:
            return
        for name, reasons in (("throttled_power_ns", POWER_TICKS), ("throttled_thermal_ns", THERMAL_TICKS)):
            if not any(reason in now for reason in reasons):
                continue
            if before is not None:
                share = _share(before[1], now, reasons)
                grown_ns = round(share * (self._at_ns - before[0]))
                self._throttled_ns[name] = self._throttled_ns.get(name, 0) + grown_ns
            counters[name] = self._throttled_ns.get(name, 0)


@dataclass(slots=True)
class _EnergyCheck:
    # Whether the counter's growth agrees with power times time, since it was looked at last.
    power_mj: float = 0.0
    _counted_mj: int | None = None
    _is_believed: bool = False

    def is_believed(self, energy_mj: int) -> bool:
        if self._counted_mj is None or energy_mj < self._counted_mj:
            self.power_mj, self._counted_mj = 0.0, energy_mj
            return self._is_believed
        grown = energy_mj - self._counted_mj
        if max(self.power_mj, grown) >= COMPARED_MJ_MIN:
            self._is_believed = max(self.power_mj, grown) <= ENERGY_RATIO_MAX * min(self.power_mj, grown)
            self.power_mj, self._counted_mj = 0.0, energy_mj
        return self._is_believed


def _share(before: dict[str, float], now: dict[str, float], reasons: tuple[str, ...]) -> float:
    """Which part of the ticks had a reason; several reasons at once are no more than all of the time."""
    ticks = now["acc_counter"] - before.get("acc_counter", now["acc_counter"])
    if ticks <= 0:
        return 0.0
    throttled = sum(
        max(0.0, now[reason] - before[reason]) for reason in reasons if reason in now and reason in before
    )
    return min(1.0, throttled / ticks)


def _add(gauges: dict[str, float], name: str, value: float | None) -> None:
    if value is not None:
        gauges[name] = float(value)
