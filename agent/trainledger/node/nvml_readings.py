"""What one device tells about itself now: few calls, each with the way out that older drivers need.

On an H100 with driver 580 the calls of a fast look (utilisation, memory, power, temperature, clocks) take 0.1 ms of
CPU together, while the energy counter takes 3 to 13 ms, the throttle counters 1.5 ms and the hardware's own
counting 0.4 ms. Those grow by themselves and lose nothing when they are read seldom, so each tenth look reads
them: 0.7 ms a second instead of 6. Devices do it in turn, not all in the same look.

Power is the mean of the last second on Ampere and later, so samples a second apart miss nothing. Throttling is
the driver's own time counters; an old driver tells only the reasons of the moment, and then `throttle_reasons` is a
gauge that the sampler turns into an estimate. The driver's counters of PCIe bytes (fields 197, 198) are not used:
they have 32 bits and turn over within a tenth of a second at full speed.
"""

from dataclasses import dataclass, field
from typing import Any

from trainledger.node.gpu import GpuReading
from trainledger.node.nvml import REFUSED, SUCCESS, Nvml
from trainledger.node.nvml_devices import DeviceHandle, PartHandle
from trainledger.node.nvml_gpm import GpmMeter

__all__ = ["FIELDS", "DeviceMeter", "field_number"]

# How many looks at a device make one slow look.
SLOW_EVERY = 10

MEMORY_TEMPERATURE_C = 82
POWER_CAP_NS, SYNC_BOOST_NS = 74, 76
SW_THERMAL_NS, HW_THERMAL_NS, POWER_BRAKE_NS = 269, 270, 271
FIELDS = (MEMORY_TEMPERATURE_C, POWER_CAP_NS, SYNC_BOOST_NS, SW_THERMAL_NS, HW_THERMAL_NS, POWER_BRAKE_NS)
# Counters of several fields are summed; a part that is missing leaves the others.
_COUNTERS: dict[str, tuple[int, ...]] = {
    "throttled_power_ns": (POWER_CAP_NS, POWER_BRAKE_NS),
    "throttled_thermal_ns": (SW_THERMAL_NS, HW_THERMAL_NS),
    "throttled_other_ns": (SYNC_BOOST_NS,),
}
CLOCK_SM, CLOCK_MEM = 1, 2
_VALUE_OF_TYPE = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


@dataclass(slots=True)
class DeviceMeter:
    """Reads one device again and again; `turn` says at which look of ten it reads what is slow."""

    nvml: Nvml
    place: DeviceHandle
    turn: int = 0
    _fields: list[int] = field(default_factory=lambda: list(FIELDS))
    _looks: int = 0
    _tells_durations: bool = True
    _gpm: GpmMeter = field(default_factory=GpmMeter)
    _part_gpm: dict[str, GpmMeter] = field(default_factory=dict)

    def read(self, *, xids: int | None = None) -> list[GpuReading]:
        """The device's reading and, at slow looks, those of its MIG instances; nothing of a lost device.

        `xids`: how many Xid errors the driver reported of it so far, if it reports them."""
        if self.place.handle is None:
            return []
        device_id, handle = self.place.device.device_id, self.place.handle
        gauges: dict[str, float] = {}
        counters = {} if xids is None else {"xid_errors": xids}
        estimated: set[str] = set()
        self._busy(device_id, handle, gauges)
        self._memory(device_id, handle, gauges, estimated)
        self._power_and_clocks(device_id, handle, gauges)
        is_slow = self._looks == 0 or (self._looks + self.turn) % SLOW_EVERY == 0
        self._looks += 1
        if is_slow:
            self._read_slow(device_id, handle, gauges, counters)
        if not self._tells_durations:
            self._reasons(device_id, handle, gauges)
        if self.nvml.is_lost(device_id):
            return []
        own = GpuReading(device_id, gauges, counters, frozenset(estimated))
        return [own, *(self._read_part(part) for part in self.place.parts if is_slow)]

    def close(self) -> None:
        """Free what the driver holds for it."""
        for meter in (self._gpm, *self._part_gpm.values()):
            meter.close(self.nvml)

    def _read_part(self, item: PartHandle) -> GpuReading:
        """Of a MIG instance there are memory and, where the hardware counts, how busy its part is."""
        part_id = item.part.part_id
        gauges: dict[str, float] = {}
        estimated: set[str] = set()
        self._memory(part_id, item.handle, gauges, estimated)
        meter = self._part_gpm.setdefault(part_id, GpmMeter())
        gauges |= meter.read(self.nvml, part_id, self.place.handle, gpu_instance=item.gpu_instance)
        return GpuReading(part_id, gauges, {}, frozenset(estimated))

    def _busy(self, place: str, handle: Any, gauges: dict[str, float]) -> None:
        if self.place.device.is_mig:  # refused there, and the whole device's number would be nobody's
            return
        rates = self.nvml.ask(place, "nvmlDeviceGetUtilizationRates", handle)
        if rates is not None:
            gauges["gpu_util_pct"] = float(rates.gpu)
            gauges["mem_util_pct"] = float(rates.memory)

    def _memory(self, place: str, handle: Any, gauges: dict[str, float], estimated: set[str]) -> None:
        version = getattr(self.nvml.module, "nvmlMemory_v2", None)
        memory = None
        if version is not None:
            memory = self.nvml.ask(place, "nvmlDeviceGetMemoryInfo", handle, version)
        if memory is not None:
            # The header says two things about v2's `used`; this difference leaves out what the driver keeps.
            gauges["mem_used_bytes"] = float(memory.total - memory.free - memory.reserved)
        else:
            memory = self.nvml.ask(place + " v1", "nvmlDeviceGetMemoryInfo", handle)
            if memory is None:
                return
            gauges["mem_used_bytes"] = float(memory.used)
            estimated.add("mem_used_bytes")  # with what the driver keeps for itself
        gauges["mem_total_bytes"] = float(memory.total)

    def _power_and_clocks(self, place: str, handle: Any, gauges: dict[str, float]) -> None:
        ask = self.nvml.ask
        power_mw = ask(place, "nvmlDeviceGetPowerUsage", handle)
        limit_mw = ask(place, "nvmlDeviceGetEnforcedPowerLimit", handle)
        sensor = 0
        temperature = ask(place, "nvmlDeviceGetTemperatureV", handle, sensor)
        if temperature is None:
            temperature = ask(place, "nvmlDeviceGetTemperature", handle, sensor)
        known = {
            "power_w": None if power_mw is None else power_mw / 1000,
            "power_limit_w": None if limit_mw is None else limit_mw / 1000,
            "temperature_c": temperature,
            "sm_clock_mhz": ask(place, "nvmlDeviceGetClockInfo", handle, CLOCK_SM),
            "mem_clock_mhz": ask(place, "nvmlDeviceGetClockInfo", handle, CLOCK_MEM),
        }
        gauges.update({name: float(value) for name, value in known.items() if value is not None})

    def _reasons(self, place: str, handle: Any, gauges: dict[str, float]) -> None:
        reasons = self.nvml.ask(place, "nvmlDeviceGetCurrentClocksEventReasons", handle)
        if reasons is None:
            reasons = self.nvml.ask(place, "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        if reasons is not None:
            gauges["throttle_reasons"] = float(reasons)

    def _read_slow(self, place: str, handle: Any, gauges: dict[str, float], counters: dict[str, int]) -> None:
        values = self._field_values(place, handle)
        if MEMORY_TEMPERATURE_C in values:
            gauges["mem_temperature_c"] = values[MEMORY_TEMPERATURE_C]
        self._tells_durations = POWER_CAP_NS in values
        for name, parts in _COUNTERS.items():
            present = [int(values[part]) for part in parts if part in values]
            if present:
                counters[name] = sum(present)
        aggregate = 1
        known = {
            "energy_mj": self.nvml.ask(place, "nvmlDeviceGetTotalEnergyConsumption", handle),
            "ecc_corrected": self.nvml.ask(place, "nvmlDeviceGetTotalEccErrors", handle, 0, aggregate),
            "ecc_uncorrected": self.nvml.ask(place, "nvmlDeviceGetTotalEccErrors", handle, 1, aggregate),
        }
        counters.update({name: int(value) for name, value in known.items() if value is not None})
        rows = self.nvml.ask(place, "nvmlDeviceGetRemappedRows", handle)
        if rows is not None:
            counters["remapped_rows"] = int(rows[0]) + int(rows[1])
            counters["row_remap_pending"] = int(bool(rows[2]))
            counters["row_remap_failed"] = int(bool(rows[3]))
        gauges |= self._gpm.read(self.nvml, place, handle)

    def _field_values(self, place: str, handle: Any) -> dict[int, float]:
        if not self._fields:
            return {}
        answers = self.nvml.ask(place, "nvmlDeviceGetFieldValues", handle, self._fields)
        values: dict[int, float] = {}
        for answer in answers if answers is not None else ():
            number = field_number(answer)
            if number is not None:
                values[int(answer.fieldId)] = number
            elif answer.nvmlReturn in REFUSED:
                self._fields.remove(int(answer.fieldId))
        return values


def field_number(answer: Any) -> float | None:
    """The number in a field's answer, None when the device has none."""
    if answer.nvmlReturn != SUCCESS or not 0 <= answer.valueType < len(_VALUE_OF_TYPE):
        return None
    value: float = getattr(answer.value, _VALUE_OF_TYPE[answer.valueType])
    return value
