"""What one device tells about itself now: few calls, each with the way out that older drivers need.

On an H100 with driver 580 the calls of a fast look (utilisation, memory, power, temperature, clocks) take 0.1 ms of
CPU together, while the energy counter takes 3 to 17 ms, the throttle counters 1.2 ms and the hardware's own
counting 0.4 ms. So each look asks what moves; each tenth what is counted by the hardware, links and limits. Counters
grow by themselves and lose nothing by waiting: they are read each 10 to 30 seconds, as seldom as it takes to stay below
COUNTERS_SHARE_MAX of a core, and at the same seconds of every minute, so that all minutes have as many readings.
Devices do it in turn, not all in the same look.

Power is the mean of the last second on Ampere and later, so samples a second apart miss nothing. Throttling is
the driver's own time counters; an old driver tells only the reasons of the moment, and then `throttle_reasons` is a
gauge that the sampler turns into an estimate. The driver's counters of PCIe bytes (fields 197, 198) are not used:
they have 32 bits and turn over within a tenth of a second at full speed. Where the hardware does not count the bytes of
links, NVLink's own counters do; of PCIe there is a measurement over 20 ms, in which the device's thread waits.
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
COUNTER_PERIODS_S = (10, 20, 30)
COUNTERS_SHARE_MAX = 0.0003

MEMORY_TEMPERATURE_C = 82
POWER_CAP_NS, SYNC_BOOST_NS = 74, 76
SW_THERMAL_NS, HW_THERMAL_NS, POWER_BRAKE_NS = 269, 270, 271
NVLINK_TX_KIB, NVLINK_RX_KIB = 138, 139
ALL_LINKS = 0xFFFFFFFF
# Each with its scope: of links the sum of all.
FIELDS = (
    (MEMORY_TEMPERATURE_C, 0), (POWER_CAP_NS, 0), (SYNC_BOOST_NS, 0), (SW_THERMAL_NS, 0), (HW_THERMAL_NS, 0),
    (POWER_BRAKE_NS, 0), (NVLINK_TX_KIB, ALL_LINKS), (NVLINK_RX_KIB, ALL_LINKS),
)  # fmt: skip
# Counters of several fields are summed; a part that is missing leaves the others. And what one unit is in ours.
_COUNTERS: dict[str, tuple[tuple[int, ...], int]] = {
    "throttled_power_ns": ((POWER_CAP_NS, POWER_BRAKE_NS), 1),
    "throttled_thermal_ns": ((SW_THERMAL_NS, HW_THERMAL_NS), 1),
    "throttled_other_ns": ((SYNC_BOOST_NS,), 1),
    "nvlink_tx_bytes": ((NVLINK_TX_KIB,), 1024),
    "nvlink_rx_bytes": ((NVLINK_RX_KIB,), 1024),
}
CLOCK_SM, CLOCK_MEM = 1, 2
PCIE_TX, PCIE_RX = 0, 1
_VALUE_OF_TYPE = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


@dataclass(slots=True)
class DeviceMeter:
    """Reads one device again and again; `turn` says at which look of ten, and which second, it reads what is slow."""

    nvml: Nvml
    place: DeviceHandle
    turn: int = 0
    _fields: list[tuple[int, int]] = field(default_factory=lambda: list(FIELDS))
    _looks: int = 0
    _counters_took_ns: float = 0.0
    _counters_due: tuple[int, int] = (0, 0)
    _tells_durations: bool = True
    _gpm: GpmMeter = field(default_factory=GpmMeter)
    _part_gpm: dict[str, GpmMeter] = field(default_factory=dict)

    def read(self, *, xids: int | None = None) -> list[GpuReading]:
        """The device's reading and, at slow looks, those of its MIG instances; nothing of a lost device.

        `xids`: how many Xid errors the driver reported of it so far, if it reports them."""
        place = self.place  # another thread may put a new one here meanwhile
        if place.handle is None:
            return []
        device_id, handle = place.device.device_id, place.handle
        gauges: dict[str, float] = {}
        counters = {} if xids is None else {"xid_errors": xids}
        estimated: set[str] = set()
        if not place.device.is_mig:  # refused there, and the whole device's number would be nobody's
            self._busy(device_id, handle, gauges)
        self._memory(device_id, handle, gauges, estimated)
        self._power_and_clock(device_id, handle, gauges)
        is_slow = self._looks == 0 or (self._looks + self.turn) % SLOW_EVERY == 0
        if is_slow:
            self._read_slow(device_id, handle, gauges, estimated)
        if self._is_due():
            begin_ns = self.nvml.monotonic_ns()
            self._read_counters(device_id, handle, gauges, counters)
            self._counters_took_ns = self.nvml.monotonic_ns() - begin_ns
        self._looks += 1
        if not self._tells_durations:
            self._reasons(device_id, handle, gauges)
        if self.nvml.is_lost(device_id):
            return []
        own = GpuReading(device_id, gauges, counters, frozenset(estimated))
        return [own, *(self._read_part(handle, part) for part in place.parts if is_slow)]

    def close(self) -> None:
        """Free what the driver holds for it."""
        for meter in (self._gpm, *self._part_gpm.values()):
            meter.close(self.nvml)

    def _is_due(self) -> bool:
        """Whether this is the first look in its period of the wall clock."""
        wanted_s = self._counters_took_ns / 1e9 / COUNTERS_SHARE_MAX
        period_s = next((period for period in COUNTER_PERIODS_S if period >= wanted_s), COUNTER_PERIODS_S[-1])
        due = (period_s, (self.nvml.wall_us() // 1_000_000 + self.turn) // period_s)
        if due == self._counters_due:
            return False
        self._counters_due = due
        return True

    def _read_part(self, device: Any, item: PartHandle) -> GpuReading:
        """Of a MIG instance there are memory and, where the hardware counts, how busy its part is."""
        part_id = item.part.part_id
        gauges: dict[str, float] = {}
        estimated: set[str] = set()
        self._memory(part_id, item.handle, gauges, estimated)
        meter = self._part_gpm.setdefault(part_id, GpmMeter())
        gauges |= meter.read(self.nvml, part_id, device, gpu_instance=item.gpu_instance)
        return GpuReading(part_id, gauges, {}, frozenset(estimated))

    def _busy(self, place: str, handle: Any, gauges: dict[str, float]) -> None:
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

    def _power_and_clock(self, place: str, handle: Any, gauges: dict[str, float]) -> None:
        ask = self.nvml.ask
        power_mw = ask(place, "nvmlDeviceGetPowerUsage", handle)
        sensor = 0
        temperature = ask(place, "nvmlDeviceGetTemperatureV", handle, sensor)
        if temperature is None:
            temperature = ask(place, "nvmlDeviceGetTemperature", handle, sensor)
        _add_known(
            gauges,
            power_w=None if power_mw is None else power_mw / 1000,
            temperature_c=temperature,
            sm_clock_mhz=ask(place, "nvmlDeviceGetClockInfo", handle, CLOCK_SM),
        )

    def _reasons(self, place: str, handle: Any, gauges: dict[str, float]) -> None:
        reasons = self.nvml.ask(place, "nvmlDeviceGetCurrentClocksEventReasons", handle)
        if reasons is None:
            reasons = self.nvml.ask(place, "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        if reasons is not None:
            gauges["throttle_reasons"] = float(reasons)

    def _read_slow(self, place: str, handle: Any, gauges: dict[str, float], estimated: set[str]) -> None:
        ask = self.nvml.ask
        limit_mw = ask(place, "nvmlDeviceGetEnforcedPowerLimit", handle)
        _add_known(
            gauges,
            power_limit_w=None if limit_mw is None else limit_mw / 1000,
            mem_clock_mhz=ask(place, "nvmlDeviceGetClockInfo", handle, CLOCK_MEM),
            pcie_link_gen=ask(place, "nvmlDeviceGetCurrPcieLinkGeneration", handle),
            pcie_link_lanes=ask(place, "nvmlDeviceGetCurrPcieLinkWidth", handle),
        )
        gauges |= self._gpm.read(self.nvml, place, handle)
        if not self._gpm.counts:
            for name, direction in (("pcie_tx_bytes_per_s", PCIE_TX), ("pcie_rx_bytes_per_s", PCIE_RX)):
                kilobytes = ask(place, "nvmlDeviceGetPcieThroughput", handle, direction)
                if kilobytes is not None:
                    gauges[name] = float(kilobytes) * 1000
                    estimated.add(name)  # 20 ms stand for ten seconds

    def _read_counters(
        self, place: str, handle: Any, gauges: dict[str, float], counters: dict[str, int]
    ) -> None:
        values = self._field_values(place, handle)
        if MEMORY_TEMPERATURE_C in values:
            gauges["mem_temperature_c"] = values[MEMORY_TEMPERATURE_C]
        self._tells_durations = POWER_CAP_NS in values
        for name, (parts, unit) in _COUNTERS.items():
            present = [int(values[part]) for part in parts if part in values]
            if present:
                counters[name] = sum(present) * unit
        aggregate = 1
        known = {
            "energy_mj": self.nvml.ask(place, "nvmlDeviceGetTotalEnergyConsumption", handle),
            "ecc_corrected": self.nvml.ask(place, "nvmlDeviceGetTotalEccErrors", handle, 0, aggregate),
            "ecc_uncorrected": self.nvml.ask(place, "nvmlDeviceGetTotalEccErrors", handle, 1, aggregate),
            "pcie_replays": self.nvml.ask(place, "nvmlDeviceGetPcieReplayCounter", handle),
        }
        counters.update({name: int(value) for name, value in known.items() if value is not None})
        rows = self.nvml.ask(place, "nvmlDeviceGetRemappedRows", handle)
        if rows is not None:
            counters["remapped_rows"] = int(rows[0]) + int(rows[1])
            counters["row_remap_pending"] = int(bool(rows[2]))
            counters["row_remap_failed"] = int(bool(rows[3]))

    def _field_values(self, place: str, handle: Any) -> dict[int, float]:
        if not self._fields:
            return {}
        answers = self.nvml.ask(place, "nvmlDeviceGetFieldValues", handle, self._fields)
        values: dict[int, float] = {}
        refused: set[int] = set()
        for answer in answers if answers is not None else ():
            number = field_number(answer)
            if number is not None:
                values[int(answer.fieldId)] = number
            elif answer.nvmlReturn in REFUSED:
                refused.add(int(answer.fieldId))
        if refused:
            self._fields = [item for item in self._fields if item[0] not in refused]
        return values


def _add_known(gauges: dict[str, float], **values: float | None) -> None:
    gauges.update({name: float(value) for name, value in values.items() if value is not None})


def field_number(answer: Any) -> float | None:
    """The number in a field's answer, None when the device has none."""
    if answer.nvmlReturn != SUCCESS or not 0 <= answer.valueType < len(_VALUE_OF_TYPE):
        return None
    value: float = getattr(answer.value, _VALUE_OF_TYPE[answer.valueType])
    return value
