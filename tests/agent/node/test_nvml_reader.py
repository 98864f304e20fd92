"""The agent's GPU reader through the real pynvml on a fake library; what real drivers do is scripted."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.fake_nvml_library import build
from support.gpus import Machine, list_all, sample_all
from trainledger.node.gpu import GpuError, GpuGoneError, GpuReading
from trainledger.node.gpu_refusals import REFUSED_S
from trainledger.node.nvml_reader import NvmlReader
from trainledger.node.nvml_readings import SLOW_EVERY
from trainledger_schemas.clock import ManualClock, SystemClock

MIB = 1 << 20


def one(reader: NvmlReader) -> GpuReading:
    (reading,) = sample_all(reader)
    return reading


def test_eight_gpus_are_named_by_uuid_in_the_drivers_order(machine: Machine) -> None:
    uuids = [machine.scenario.gpu(number) for number in range(8)]
    devices = machine.reader().devices()
    assert [device.device_id for device in devices] == uuids
    assert {device.model for device in devices} == {"NVIDIA H100 80GB HBM3"}
    assert devices[3].pci_bus_id == "00000000:04:00.0"
    assert devices[0].memory_bytes == 81_559 * MIB and not devices[0].is_mig


def test_reading_has_units_and_memory_without_what_the_driver_reserves(machine: Machine) -> None:
    machine.scenario.gpu(0)
    machine.scenario.set(0, util=63, memutil=20, used_mib=4000, power_mw=351_000, temperature=61)
    machine.scenario.add("field 0 74 3 5000", "field 0 271 3 1", "field 0 82 1 55")
    reader = machine.reader()
    reader.devices()
    reading = one(reader)
    assert reading.gauges == {
        "gpu_util_pct": 63, "mem_util_pct": 20, "mem_used_bytes": 4000 * MIB, "mem_total_bytes": 81_559 * MIB,
        "power_w": 351.0, "power_limit_w": 700.0, "temperature_c": 61, "sm_clock_mhz": 1980, "mem_clock_mhz": 2619,
        "mem_temperature_c": 55, "pcie_link_gen": 5, "pcie_link_lanes": 16, "pcie_tx_bytes_per_s": 0,
        "pcie_rx_bytes_per_s": 0,
    }  # fmt: skip
    assert reading.counters["energy_mj"] == 1_000_000 and reading.counters["throttled_power_ns"] == 5001
    assert "throttled_thermal_ns" not in reading.counters, "no field, no number"
    assert reading.estimated == {"pcie_tx_bytes_per_s", "pcie_rx_bytes_per_s"}


def test_traffic_of_links_is_told_by_the_hardware_or_else_by_the_driver(machine: Machine) -> None:
    older, hopper = machine.scenario.gpu(0), machine.scenario.gpu(1)
    machine.scenario.set(0, pcie_kbps=2_000_000, replays=3).set(1, pcie_kbps=9)
    machine.scenario.add(
        "field 0 138 3 1000", "field 0 139 3 500", "gpm 1 -1 20 100", "gpm 1 -1 7 12", "gpm 1 -1 12 5"
    )
    reader = machine.reader()
    reader.devices()
    (first,) = reader.sample(older)
    assert (first.gauges["pcie_tx_bytes_per_s"], first.gauges["pcie_rx_bytes_per_s"]) == (2e9, 1e9)
    assert (first.counters["nvlink_tx_bytes"], first.counters["nvlink_rx_bytes"]) == (1000 * 1024, 500 * 1024)
    assert first.counters["pcie_replays"] == 3
    gauges: dict[str, float] = {}
    for _ in range(SLOW_EVERY + 1):
        gauges |= reader.sample(hopper)[0].gauges
    assert gauges["pcie_tx_bytes_per_s"] == 100 * MIB, "counted, not looked at for 20 ms"
    assert (gauges["tensor_half_active_pct"], gauges["fp32_active_pct"]) == (12, 5)


def test_old_driver_without_fields_and_memory_v2_tells_less_and_says_so(tmp_path: Path) -> None:
    missing = ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetFieldValues", "nvmlDeviceGetTemperatureV")
    machine = Machine(tmp_path, without=(*missing, "nvmlDeviceGetCurrentClocksEventReasons"))
    machine.scenario.gpu(0)
    machine.scenario.set(0, used_mib=4000, reasons=4, energy_mj=5)
    reader = machine.reader()
    reader.devices()
    reading = one(reader)
    assert reading.gauges["mem_used_bytes"] == 4500 * MIB and "mem_used_bytes" in reading.estimated
    assert reading.gauges["temperature_c"] == 30 and reading.gauges["power_w"] == 70
    assert reading.gauges["throttle_reasons"] == 4
    assert reading.counters["energy_mj"] == 5


def test_process_list_that_the_driver_lacks_is_unknown_and_not_empty(tmp_path: Path) -> None:
    machine = Machine(tmp_path, without=("nvmlDeviceGetComputeRunningProcesses_v3",))
    machine.scenario.gpu(0)
    reader = machine.reader()
    reader.devices()
    assert [item.processes for item in list_all(reader)] == [None]


def test_what_is_not_supported_is_missing_and_never_zero(machine: Machine) -> None:
    machine.scenario.gpu(0)
    refused = ("UtilizationRates", "PowerUsage", "TotalEnergyConsumption", "TotalEccErrors", "ClockInfo")
    machine.scenario.add(*(f"code 0 nvmlDeviceGet{name} 3" for name in refused))
    reader = machine.reader()
    reader.devices()
    reading = one(reader)
    assert reading.gauges.keys().isdisjoint({"gpu_util_pct", "power_w", "sm_clock_mhz"})
    assert reading.counters.keys().isdisjoint({"energy_mj", "ecc_uncorrected"})
    assert reading.gauges["mem_total_bytes"] == 81_559 * MIB


@pytest.mark.parametrize(
    ("code", "heals_at_once"), [(3, False), (999, True)], ids=["not supported", "unknown"]
)
def test_refusal_is_believed_for_ten_minutes_and_an_error_for_one_round(
    machine: Machine, code: int, heals_at_once: bool
) -> None:
    machine.scenario.gpu(0)
    machine.scenario.add(f"code 0 nvmlDeviceGetUtilizationRates {code}")
    reader = machine.reader()
    reader.devices()
    assert "gpu_util_pct" not in one(reader).gauges
    machine.scenario.without("code").write()
    assert ("gpu_util_pct" in one(reader).gauges) == heals_at_once
    machine.clock.advance(REFUSED_S + 1)
    assert "gpu_util_pct" in one(reader).gauges


def test_processes_of_all_lists_come_once_with_memory_and_use(machine: Machine) -> None:
    machine.scenario.gpu(0)
    machine.scenario.process(0, 100, 4000).process(0, 200, -1)
    machine.scenario.add("graphics 0 300 50", "graphics 0 100 10", "mps 0 400 70")
    now_us = machine.clock.wall_ns() // 1000
    machine.scenario.use(0, 100, now_us - 5_000_000, 99).use(0, 100, now_us - 1_000_000, 30)
    reader = machine.reader()
    reader.devices()
    (first,) = list_all(reader)
    assert first.processes is not None
    assert {item.pid: item.memory_bytes for item in first.processes} == {
        100: 4000 * MIB, 200: None, 300: 50 * MIB, 400: 70 * MIB,
    }  # fmt: skip
    assert {item.pid for item in first.processes if not item.is_compute} == {300}
    assert {item.pid: item.busy_pct for item in first.processes} == {100: 30, 200: 0, 300: 0, 400: 0}
    later = [now_us + 1_000_000, now_us + 1_500_000]
    machine.scenario.use(0, 100, later[0], 60).use(0, 100, later[1], 80).use(0, 200, later[1], 20).write()
    (second,) = list_all(reader)
    assert {item.pid: item.busy_pct for item in second.processes or ()} == {100: 70, 200: 10, 300: 0, 400: 0}
    (third,) = list_all(reader)
    assert {item.busy_pct for item in third.processes or ()} == {0}, "old samples are not counted again"


def test_process_that_joins_another_is_not_given_what_was_used_before_it_came(machine: Machine) -> None:
    machine.scenario.gpu(0)
    now_us = machine.clock.wall_ns() // 1000
    machine.scenario.process(0, 100).use(0, 100, now_us, 99)
    reader = machine.reader()
    reader.devices()
    (alone,) = list_all(reader)
    assert [item.busy_pct for item in alone.processes or ()] == [None], "one that is alone is not asked for"
    machine.clock.advance(10)
    machine.scenario.process(0, 200).use(0, 200, now_us + 9_000_000, 40).write()
    (both,) = list_all(reader)
    assert {item.pid: item.busy_pct for item in both.processes or ()} == {100: 0, 200: 40}


def test_process_use_that_the_driver_does_not_measure_is_unknown(machine: Machine) -> None:
    machine.scenario.gpu(0)
    machine.scenario.process(0, 100).process(0, 200).add("code 0 nvmlDeviceGetProcessUtilization 3")
    reader = machine.reader()
    reader.devices()
    assert [item.busy_pct for item in list_all(reader)[0].processes or ()] == [None, None]


def mig(machine: Machine) -> None:
    machine.scenario.gpu(0)
    machine.scenario.set(0, mig=1)
    machine.scenario.add("mig 0 MIG-a 2 0 4 3 3 40320 100", "mig 0 MIG-b 9 0 1 1 1 9728 10")
    machine.scenario.add("proc 0 100 90 2 0", "proc 0 200 9 9 0", "gpm 0 2 2 55.5", "gpm 0 9 2 10")


def test_mig_instances_have_placement_memory_processes_and_their_own_use(machine: Machine) -> None:
    mig(machine)
    reader = machine.reader()
    (device,) = reader.devices()
    assert [(part.part_id, part.profile, part.size, part.of) for part in device.parts] == [
        ("MIG-a", "3g.40gb", 4, 8),
        ("MIG-b", "1g.10gb", 1, 8),
    ]
    whole, first, second = sample_all(reader)
    assert "sm_active_pct" not in first.gauges, "it is a mean since the look before"
    assert [len(sample_all(reader)) for _ in range(9)] == [1] * 9
    whole, first, second = sample_all(reader)
    assert "gpu_util_pct" not in whole.gauges and "power_w" in whole.gauges
    assert first.gauges == {
        "mem_used_bytes": 100 * MIB,
        "mem_total_bytes": 40320 * MIB,
        "sm_active_pct": 55.5,
    }
    assert second.gauges["sm_active_pct"] == 10
    (found,) = list_all(reader)
    assert {(item.pid, item.part_id) for item in found.processes or ()} == {(100, "MIG-a"), (200, "MIG-b")}


def test_mig_layout_that_changes_is_seen_with_the_next_list(machine: Machine) -> None:
    mig(machine)
    reader = machine.reader()
    reader.devices()
    sample_all(reader)
    machine.scenario.without("mig 0 MIG-a", "proc 0 100", "gpm").add("mig 0 MIG-c 2 0 2 2 2 19968 5").write()
    (device,) = reader.devices()
    assert [part.part_id for part in device.parts] == ["MIG-b", "MIG-c"]
    assert [reading.place_id for reading in sample_all(reader)] == [device.device_id, "MIG-b", "MIG-c"]
    machine.scenario.without("mig", "proc").set(0, mig=0, util=7).write()
    (device,) = reader.devices()
    assert device.parts == () and one(reader).gauges["gpu_util_pct"] == 7


def test_hopper_counts_how_busy_its_parts_were_from_the_second_look_on(machine: Machine) -> None:
    machine.scenario.gpu(0)
    machine.scenario.add("gpm 0 -1 2 81.5", "gpm 0 -1 5 40", "gpm 0 -1 10 33")
    reader = machine.reader()
    reader.devices()
    assert "sm_active_pct" not in one(reader).gauges
    gauges = [one(reader).gauges for _ in range(SLOW_EVERY)][-1]
    assert (gauges["sm_active_pct"], gauges["tensor_active_pct"], gauges["dram_active_pct"]) == (81.5, 40, 33)
    assert "sm_occupancy_pct" not in gauges


def test_counters_are_read_each_ten_seconds_and_by_devices_in_turn(machine: Machine) -> None:
    for number in range(3):
        machine.scenario.gpu(number)
    reader = machine.reader()
    reader.devices()
    looks = [look_at_counters(machine, reader) for _ in range(21)]
    assert looks[0] == [True, True, True]
    assert [sum(look[number] for look in looks[1:]) for number in range(3)] == [2, 2, 2]
    assert max(sum(look) for look in looks[1:]) == 1


def test_counters_that_take_long_are_read_each_half_minute_as_often_in_each(machine: Machine) -> None:
    machine.scenario.gpu(0)
    machine.scenario.add("slow nvmlDeviceGetTotalEnergyConsumption 12")
    # The driver takes real time, the rounds none.
    reader = machine.reader(HalfRealClock(machine.clock))
    reader.devices()
    looks = [look_at_counters(machine, reader)[0] for _ in range(4 * 60 + 1)]
    read_at = [second for second, was_read in enumerate(looks) if was_read]
    assert {later - earlier for earlier, later in zip(read_at[2:], read_at[3:], strict=False)} == {30}


class HalfRealClock(ManualClock):
    """Wall time by hand, and durations as they are."""

    def __init__(self, wall: ManualClock) -> None:
        super().__init__()
        self._wall = wall

    def wall_ns(self) -> int:
        return self._wall.wall_ns()

    def monotonic_ns(self) -> int:
        return SystemClock().monotonic_ns()


def look_at_counters(machine: Machine, reader: NvmlReader) -> list[bool]:
    """Whether each device's counters were read, a second later."""
    machine.clock.advance(1)
    return ["energy_mj" in reading.counters for reading in sample_all(reader)]


def test_lost_gpu_stays_in_the_list_and_is_not_asked_any_more(machine: Machine) -> None:
    lost, well = machine.scenario.gpu(0), machine.scenario.gpu(1)
    machine.scenario.process(0, 100).process(1, 200)
    reader = machine.reader()
    reader.devices()
    machine.scenario.add("code 0 * 15").write()
    assert [reading.place_id for reading in sample_all(reader)] == [well]
    assert {device.device_id: device.problem for device in reader.devices()} == {lost: "lost", well: None}
    assert {item.device_id: item.processes is None for item in list_all(reader)} == {
        lost: True,
        well: False,
    }
    machine.scenario.without("code").write()
    assert [reading.place_id for reading in sample_all(reader)] == [well], "not asked again in this process"


def test_errors_that_the_driver_reports_are_counted_by_device(machine: Machine) -> None:
    machine.scenario.gpu(0)
    uuid = machine.scenario.gpu(1)
    machine.scenario.add("xid 1 13")
    reader = machine.reader()
    reader.devices()
    assert [reading.counters["xid_errors"] for reading in sample_all(reader)] == [0, 0], (
        "nobody listened then"
    )
    machine.scenario.add("xid 1 79", "xid 1 48", "xid 1 79").write()
    other = GpuError(uuid, "xid", 48)
    assert reader.errors() == [GpuError(uuid, "xid", 79, 2), other] and reader.errors() == []
    assert [reading.counters["xid_errors"] for reading in sample_all(reader)] == [0, 3]


def test_library_that_was_shut_down_is_told_apart_from_a_lost_gpu(machine: Machine) -> None:
    machine.scenario.gpu(0)
    reader = machine.reader()
    reader.devices()
    reader.close()
    with pytest.raises(GpuGoneError):
        sample_all(reader)


def test_node_without_the_library_says_so_and_imports_nothing() -> None:
    code = (
        "import sys\nfrom trainledger.node.nvml_reader import open_reader\n"
        "from trainledger_schemas.clock import SystemClock\n"
        "print(open_reader(SystemClock(), library='libno-such-thing.so.1'), 'pynvml' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "no NVIDIA driver False\n"


def test_driver_that_does_not_start_is_a_reason_and_no_error(machine: Machine) -> None:
    machine.scenario.add("init 18")
    with pytest.raises(AssertionError, match="NVML does not start"):
        machine.reader()


def test_pynvml_of_a_new_process_finds_the_library_by_its_name(tmp_path: Path) -> None:
    library = build(tmp_path)
    (tmp_path / "scenario").write_text("gpu 0 GPU-x 1000 10 Some GPU\n")
    code = (
        "from trainledger.node.nvml_reader import open_reader\n"
        "from trainledger_schemas.clock import SystemClock\n"
        "reader = open_reader(SystemClock())\nprint(reader.devices()[0].model)"
    )
    environ = {"LD_LIBRARY_PATH": str(library.parent), "FAKE_NVML_SCENARIO": str(tmp_path / "scenario")}
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ
    ).stdout
    assert said == "Some GPU\n"
