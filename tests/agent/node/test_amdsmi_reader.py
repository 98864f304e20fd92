"""The agent's reader of AMD GPUs through the real Python package amdsmi on a fake library."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.amd import SCENARIO, AmdMachine, build_amd
from support.burners import burning
from support.gpu_node import Node, writer
from support.gpus import Machine
from trainledger.node.amdsmi import LIBRARY
from trainledger.node.amdsmi_reader import AmdReader
from trainledger.node.amdsmi_readings import SLOW_EVERY
from trainledger.node.gpu import GpuGoneError, GpuReading

MIB = 1 << 20
S_NS = 1_000_000_000


def look(amd: AmdMachine, reader: AmdReader, device_id: str, *, seconds: float = 1.0) -> GpuReading:
    """The device's own reading, so many seconds later."""
    amd.clock.advance(seconds)
    return reader.sample(device_id)[0]


def slow_look(amd: AmdMachine, reader: AmdReader, device_id: str) -> GpuReading:
    """The next reading with what is read each tenth time."""
    return next(
        reading
        for reading in (look(amd, reader, device_id) for _ in range(SLOW_EVERY))
        if "power_limit_w" in reading.gauges
    )


def test_devices_are_named_by_uuid_with_model_memory_and_driver(amd: AmdMachine) -> None:
    uuids = [amd.gpu(number) for number in range(2)]
    first, second = amd.reader().devices()
    assert [first.device_id, second.device_id] == uuids
    assert (first.model, first.memory_bytes) == ("AMD Instinct MI300X", 196592 * MIB)
    assert (first.driver, first.pci_bus_id, first.parts) == ("6.14.14", "0000:01:00.0", ())


def test_reading_has_our_units_and_what_is_not_known_is_missing(amd: AmdMachine) -> None:
    uuid = amd.gpu(0)
    amd.set(
        0, activity=83, memactivity=41, used_mib=1000, power_w=555, hotspot=61, vramtemp=48_000, gfx_mhz=2100
    )
    amd.set(0, correctable=4, uncorrectable=1)
    reader = amd.reader()
    reader.devices()
    reading = look(amd, reader, uuid)
    assert reading.gauges == {
        "gpu_util_pct": 83, "mem_util_pct": 41, "mem_used_bytes": 1000 * MIB, "mem_total_bytes": 196592 * MIB,
        "power_w": 555, "power_limit_w": 750, "temperature_c": 61, "mem_temperature_c": 48, "sm_clock_mhz": 2100,
        "mem_clock_mhz": 900,
    }  # fmt: skip
    assert reading.counters == {"ecc_corrected": 4, "ecc_uncorrected": 1}, (
        "energy and throttling need a second look"
    )
    amd.set(0, activity=0xFFFF, power_w=0xFFFF, hotspot=0, edge=55, gfx_mhz=0xFFFFFFFF).write()
    reading = look(amd, reader, uuid)
    assert reading.gauges.keys() == {"mem_util_pct", "mem_used_bytes", "mem_total_bytes", "temperature_c"}
    assert reading.gauges["temperature_c"] == 55, "a board without that sensor has another"


@pytest.mark.parametrize(
    ("counted_w", "is_believed"),
    [(300, True), (3000, False), (0, False)],
    ids=["right", "wrong", "stands still"],
)
def test_energy_counter_is_believed_while_it_agrees_with_power(
    amd: AmdMachine, counted_w: int, is_believed: bool
) -> None:
    uuid = amd.gpu(0)
    amd.set(0, power_w=300, resolution=15)
    reader = amd.reader()
    reader.devices()
    told = []
    for second in range(61):
        amd.without("set 0 energy").set(0, energy=second * counted_w * 1_000_000 // 15).write()
        told += [look(amd, reader, uuid).counters.get("energy_mj")]
    known = [value for value in told if value is not None]
    assert bool(known) == is_believed
    if known:
        assert known[-1] - known[0] == pytest.approx(300_000 * 10 * (len(known) - 1), rel=0.01), "millijoules"


def test_throttling_is_the_share_of_ticks_with_a_reason(amd: AmdMachine) -> None:
    uuid = amd.gpu(0)
    amd.set(0, ticks=1_000, power_ticks=100, thermal_ticks=50)
    reader = amd.reader()
    reader.devices()
    first = slow_look(amd, reader, uuid)
    assert first.counters["throttled_power_ns"] == 0, "what was before is not known"
    amd.set(0, ticks=3_000, power_ticks=600, thermal_ticks=50).write()
    second = slow_look(amd, reader, uuid)
    assert second.counters["throttled_power_ns"] == pytest.approx(0.25 * SLOW_EVERY * S_NS, rel=0.01)
    assert second.counters["throttled_thermal_ns"] == 0


def test_processes_have_memory_and_the_engine_time_that_grew(amd: AmdMachine) -> None:
    uuid = amd.gpu(0)
    amd.add("proc 0 100 2000 5000000000", "proc 0 200 300 0")
    reader = amd.reader()
    reader.devices()
    first = reader.processes(uuid).processes or ()
    assert {item.pid: (item.memory_bytes, item.busy_pct) for item in first} == {
        100: (2000 * MIB, None), 200: (300 * MIB, None),
    }  # fmt: skip
    amd.clock.advance(2)
    amd.without("proc").add(
        "proc 0 100 2000 6200000000", "proc 0 200 300 400000000", "proc 0 300 1 0"
    ).write()
    second = reader.processes(uuid).processes or ()
    assert {item.pid: item.busy_pct for item in second} == {100: 60, 200: 20, 300: None}
    amd.clock.advance(2)
    third = reader.processes(uuid).processes or ()
    assert {item.busy_pct for item in third} == {None}, "a time that grows for nobody is not counted"


def test_partitions_are_equal_parts_with_their_own_use_and_processes(amd: AmdMachine) -> None:
    whole = amd.gpu(0, bus=5)
    amd.gpu(1, bus=5, function=1)
    amd.set(0, activity=10).set(1, activity=70).add("partition CPX", "proc 1 100 50 0")
    reader = amd.reader()
    (device,) = reader.devices()
    assert device.device_id == whole and device.is_mig
    assert [(part.profile, part.size, part.of) for part in device.parts] == [("CPX", 1, 2)] * 2
    own, first, second = reader.sample(whole)
    assert "gpu_util_pct" not in own.gauges and own.gauges["power_w"] == 150
    assert [first.gauges["gpu_util_pct"], second.gauges["gpu_util_pct"]] == [10, 70]
    (process,) = reader.processes(whole).processes or ()
    assert (process.pid, process.part_id) == (100, device.parts[1].part_id)
    amd.without("gpu 1", "set 1", "proc 1", "partition").write()
    (device,) = reader.devices()
    assert (device.device_id, device.parts) == (whole, ())
    assert look(amd, reader, whole).gauges["gpu_util_pct"] == 10


def test_gpu_that_stops_answering_is_lost_until_it_answers_again(amd: AmdMachine) -> None:
    lost, well = amd.gpu(0), amd.gpu(1)
    reader = amd.reader()
    reader.devices()
    amd.add("code 0 * 6").write()
    assert reader.sample(lost) == [] and reader.processes(lost).processes is None
    assert {item.device_id: item.problem for item in reader.devices()} == {lost: "lost", well: None}
    assert look(amd, reader, well).gauges["power_w"] == 150
    amd.without("code").write()
    assert {item.problem for item in reader.devices()} == {None}
    assert look(amd, reader, lost).gauges["power_w"] == 150


def test_library_that_was_shut_down_must_be_opened_anew(amd: AmdMachine) -> None:
    uuid = amd.gpu(0)
    reader = amd.reader()
    reader.devices()
    reader.close()
    with pytest.raises(GpuGoneError):
        reader.sample(uuid)


OPEN = (
    "import sys\nfrom trainledger.node.amdsmi_reader import open_reader\n"
    "from trainledger_schemas.clock import SystemClock\nreader = open_reader(SystemClock())\n"
    "print(reader if isinstance(reader, str) else reader.devices()[0].model, 'amdsmi' in sys.modules)"
)


def said_with(environ: dict[str, str]) -> str:
    return subprocess.run(
        [sys.executable, "-c", OPEN], capture_output=True, text=True, check=True, env=environ
    ).stdout


def test_node_without_the_library_says_so_and_imports_nothing(tmp_path: Path) -> None:
    assert said_with({"ROCM_PATH": str(tmp_path)}) == "no AMD library False\n"


def test_library_below_rocm_is_found_without_the_loader(amd: AmdMachine, tmp_path: Path) -> None:
    amd.gpu(0)
    amd.write()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / LIBRARY).hardlink_to(amd.library)
    environ = {"ROCM_PATH": str(tmp_path), SCENARIO: str(amd.path)}
    assert said_with(environ) == "AMD Instinct MI300X True\n"


def test_package_of_another_version_than_the_library_is_a_reason_that_says_what_to_do(tmp_path: Path) -> None:
    library = build_amd(tmp_path, without=["amdsmi_get_gpu_metrics_header_info"])
    said = said_with({"LD_LIBRARY_PATH": str(library.parent), "ROCM_PATH": str(tmp_path / "none")})
    assert "of another version than ROCm's library" in said and "install the one of ROCm" in said


def test_node_with_gpus_of_both_vendors_measures_all_of_them(amd: AmdMachine, machine: Machine) -> None:
    theirs, ours = amd.gpu(0), machine.scenario.gpu(0)
    with burning("sys.stdin.readline()") as one, burning("sys.stdin.readline()") as two:
        amd.set(0, activity=40, power_w=500).add(f"proc 0 {one.pid} 900 0").write()
        machine.scenario.set(0, util=80).process(0, two.pid).write()
        node = Node(machine, amd=amd)
        writers = [writer(one.pid, 1), writer(two.pid, 2)]
        node.turn(25, writers)
        assert [item["device_id"] for item in node.last("devices")["devices"]] == [ours, theirs]
        assert node.count("devices") == 1, "one list, when both vendors told theirs"
        holders = [item for item in node.last("allocation")["holders"] if item["resource"] != "host"]
        assert {item["resource"]: item["run_id"] for item in holders} == {
            f"device:{theirs}": bytes([1]) * 16, f"device:{ours}": bytes([2]) * 16,
        }  # fmt: skip
        usage = {
            item["run_id"]: item for item in node.last("process_usage")["usage"] if item["kind"] == "run"
        }
        (device,) = usage[bytes([1]) * 16]["devices"]
        assert device["busy_us"] == pytest.approx(0.4 * device["observed_us"], rel=0.01)
        assert (device["quality"], device["memory_peak_bytes"]) == ("exclusive", 900 << 20)
        assert device["energy_mj"] == pytest.approx(500_000 * device["observed_us"] / 1e6, rel=0.01)
        stats = {item["name"]: item for item in node.last("hardware")["stats"] if item["device"] == theirs}
        assert (stats["power_w"]["mean"], stats["energy_j"]["quality"]) == (500, "estimated")
