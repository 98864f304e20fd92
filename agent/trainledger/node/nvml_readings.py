"""What one device tells about itself now: few calls, each with the way out that older drivers need.

Fields (`nvmlDeviceGetFieldValues`) come in one call for all; a field that the device refuses is left out of the
next ones. Power is the mean of the last second on every GPU that has field 185, so samples a second apart miss
nothing. Throttling is the driver's own time counters; an old driver tells only the reasons of the moment, and
then `throttle_reasons` is a gauge that the sampler turns into an estimate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainledger.node.gpu import GpuReading
from trainledger.node.nvml import SUCCESS, Nvml
from trainledger.node.nvml_devices import DeviceHandle, PartHandle
from trainledger.node.nvml_gpm import GpmMeter

__all__ = ["FIELDS", "THROTTLE_REASONS", "DeviceMeter", "field_number"]

ALL_LINKS = 0xFFFFFFFF
KIB = 1024
# Errors change rarely: they are asked for each tenth time.
SLOW_EVERY = 10

ENERGY_MJ, POWER_AVERAGE_MW, MEMORY_TEMPERATURE_C = 83, 185, 82
POWER_CAP_NS, SYNC_BOOST_NS = 74, 76
SW_THERMAL_NS, HW_THERMAL_NS, POWER_BRAKE_NS = 269, 270, 271
PCIE_TX_BYTES, PCIE_RX_BYTES = 197, 198
NVLINK_TX_KIB, NVLINK_RX_KIB = 138, 139
FIELDS: dict[int, int] = {
    ENERGY_MJ: 0,
    POWER_AVERAGE_MW: 0,
    MEMORY_TEMPERATURE_C: 0,
    POWER_CAP_NS: 0,
    SYNC_BOOST_NS: 0,
    SW_THERMAL_NS: 0,
    HW_THERMAL_NS: 0,
    POWER_BRAKE_NS: 0,
    PCIE_TX_BYTES: 0,
    PCIE_RX_BYTES: 0,
    NVLINK_TX_KIB: ALL_LINKS,
    NVLINK_RX_KIB: ALL_LINKS,
}
# Counters of several fields are summed; a part that is missing leaves the others.
_COUNTERS: dict[str, tuple[tuple[int, ...], int]] = {
    "energy_mj": ((ENERGY_MJ,), 1),
    "throttled_power_ns": ((POWER_CAP_NS, POWER_BRAKE_NS), 1),
    "throttled_thermal_ns": ((SW_THERMAL_NS, HW_THERMAL_NS), 1),
    "throttled_other_ns": ((SYNC_BOOST_NS,), 1),
    "pcie_tx_bytes": ((PCIE_TX_BYTES,), 1),
    "pcie_rx_bytes": ((PCIE_RX_BYTES,), 1),
    "nvlink_tx_bytes": ((NVLINK_TX_KIB,), KIB),
    "nvlink_rx_bytes": ((NVLINK_RX_KIB,), KIB),
}
# Bits of the clocks event reasons by the counter that they stand in for; idle and chosen clocks are no throttling.
THROTTLE_REASONS: dict[str, int] = {
    "throttled_power": 0x4 | 0x80,
    "throttled_thermal": 0x20 | 0x40 | 0x8,
    "throttled_other": 0x10,
}
CLOCK_SM, CLOCK_MEM = 1, 2
_VALUE_OF_TYPE = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


@dataclass(slots=True)
class DeviceMeter:
    """Reads one device again and again."""

    nvml: Nvml
    place: DeviceHandle
    _fields: dict[int, int] = field(default_factory=lambda: dict(FIELDS))
    _looks: int = 0
    _slow: dict[str, int] = field(default_factory=dict)
    _gpm: GpmMeter = field(default_factory=GpmMeter)
    _part_gpm: dict[str, GpmMeter] = field(default_factory=dict)

    def read(self) -> list[GpuReading]:
        """The device's reading and those of its MIG instances; nothing of a lost device."""
        if self.place.handle is None:
            return []
        device_id, handle = self.place.device.device_id, self.place.handle
        gauges: dict[str, float] = {}
        estimated: set[str] = set()
        values = self._field_values(device_id, handle)
        self._busy(device_id, handle, gauges)
        self._memory(device_id, handle, gauges, estimated)
        self._power_and_clocks(device_id, handle, gauges, values=values)
        counters = _counters(values)
        if "energy_mj" not in counters:
            energy_mj = self.nvml.ask(device_id, "nvmlDeviceGetTotalEnergyConsumption", handle)
            if energy_mj is not None:
                counters["energy_mj"] = int(energy_mj)
        if "throttled_power_ns" not in counters:
            self._reasons(device_id, handle, gauges)
        gauges |= self._gpm.read(self.nvml, device_id, handle)
        self._look_at_errors(device_id, handle)
        self._looks += 1
        if self.nvml.is_lost(device_id):
            return []
        own = GpuReading(device_id, gauges, counters | self._slow, frozenset(estimated))
        return [own, *(self._read_part(part) for part in self.place.parts)]

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

    def _power_and_clocks(
        self, place: str, handle: Any, gauges: dict[str, float], *, values: Mapping[int, float]
    ) -> None:
        ask = self.nvml.ask
        power_mw = values.get(POWER_AVERAGE_MW)
        if power_mw is None:
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
            "mem_temperature_c": values.get(MEMORY_TEMPERATURE_C),
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

    def _look_at_errors(self, place: str, handle: Any) -> None:
        if self._looks % SLOW_EVERY:
            return
        aggregate = 1
        for name, kind in (("ecc_corrected", 0), ("ecc_uncorrected", 1)):
            errors = self.nvml.ask(place, "nvmlDeviceGetTotalEccErrors", handle, kind, aggregate)
            if errors is not None:
                self._slow[name] = int(errors)
        rows = self.nvml.ask(place, "nvmlDeviceGetRemappedRows", handle)
        if rows is not None:
            self._slow["remapped_rows"] = int(rows[0]) + int(rows[1])

    def _field_values(self, place: str, handle: Any) -> dict[int, float]:
        if not self._fields:
            return {}
        answers = self.nvml.ask(place, "nvmlDeviceGetFieldValues", handle, list(self._fields.items()))
        values: dict[int, float] = {}
        for answer in answers if answers is not None else ():
            number = field_number(answer)
            if number is not None:
                values[int(answer.fieldId)] = number
            else:
                self._fields.pop(int(answer.fieldId), None)
        return values


def field_number(answer: Any) -> float | None:
    """The number in a field's answer, None when the device has none."""
    if answer.nvmlReturn != SUCCESS or not 0 <= answer.valueType < len(_VALUE_OF_TYPE):
        return None
    value: float = getattr(answer.value, _VALUE_OF_TYPE[answer.valueType])
    return value


def _counters(values: Mapping[int, float]) -> dict[str, int]:
    counters: dict[str, int] = {}
    for name, (parts, factor) in _COUNTERS.items():
        present = [int(values[part]) for part in parts if part in values]
        if present:
            counters[name] = sum(present) * factor
    return counters
