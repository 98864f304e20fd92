"""The thread that looks at GPUs, and the events that come of it; the library is the fake one, processes are real."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.burners import burning
from support.gpu_node import Node, Stepped, writer
from support.gpus import Machine
from support.polling import poll_until
from trainledger.node.gpu import GpuDevice, GpuError, GpuProcesses, GpuReading
from trainledger.node.gpu_vendors import Vendor, can_load
from trainledger.node.gpu_watch import RETRY_S, GpuWatch
from trainledger.node.node_settings import SamplingSettings
from trainledger.node.nvml_reader import NvmlReader
from trainledger.node.sampler import NodeSampler
from trainledger_schemas.clock import Clock, ManualClock, SystemClock

ENVELOPE = {
    "producer_id": bytes(16), "seq": 0, "node_id": "n", "wall_us": 0, "boot_id": bytes(16), "boot_us": 0,
    "source": None,
}  # fmt: skip
FAST = SamplingSettings(sample_interval_s=0.1)


def test_events_say_which_gpus_there_are_who_is_on_them_and_how_busy(machine: Machine) -> None:
    used, idle = machine.scenario.gpu(0), machine.scenario.gpu(1)
    with burning("sys.stdin.readline()") as burner:
        machine.scenario.set(0, util=75, used_mib=2000).process(0, burner.pid, 1900).write()
        node = Node(machine)
        node.turn(12, [writer(burner.pid)])
        assert [item["device_id"] for item in node.last("devices")["devices"]] == [used, idle]
        holders = [item for item in node.last("allocation")["holders"] if item["resource"] != "host"]
        assert [(item["resource"], item["kind"], item["run_id"]) for item in holders] == [
            (f"device:{used}", "run", bytes([1]) * 16)
        ]
        usage = node.last("process_usage")
        (row,) = [item for item in usage["usage"] if item["kind"] == "run"]
        (device,) = row["devices"]
        assert device["busy_us"] == 0.75 * device["observed_us"] and device["observed_us"] >= 8_000_000
        assert (device["quality"], device["memory_peak_bytes"]) == ("exclusive", 1900 << 20)
        assert {item["device_id"]: item["busy_us"] for item in usage["devices"]}[idle] == 0
        stats = {item["name"]: item for item in node.last("hardware")["stats"] if item["device"] == used}
        assert (stats["gpu_util_pct"]["mean"], stats["power_w"]["last"]) == (75, 70)


def test_devices_are_told_once_and_again_when_they_change(machine: Machine) -> None:
    machine.scenario.gpu(0)
    node = Node(machine)
    node.turn(25)
    assert node.count("devices") == 1
    machine.scenario.set(0, mig=1).add("mig 0 MIG-a 2 0 4 3 3 40320 100").write()
    node.turn(11)
    assert node.count("devices") == 2
    whole, part = node.last("devices")["devices"]
    assert (part["parent_id"], part["mig_profile"]) == (whole["device_id"], "3g.40gb")
    assert (part["part_numerator"], part["part_denominator"]) == (4, 8)


def test_process_of_nobody_on_a_gpu_is_untracked_even_when_it_is_roots(machine: Machine) -> None:
    machine.scenario.gpu(0)
    with burning("sys.stdin.readline()") as burner:
        machine.scenario.process(0, burner.pid).write()
        node = Node(machine)
        node.turn(4)
        (holder,) = node.last("allocation")["holders"]
        assert (holder["kind"], holder["run_id"]) == ("untracked", None)
        assert holder["owner"] is not None


def test_use_that_comes_under_other_process_ids_than_the_list_is_not_measured(machine: Machine) -> None:
    """In a container newer drivers list its own process ids, and measure by the machine's."""
    machine.scenario.gpu(0)
    with burning("sys.stdin.readline()") as one, burning("sys.stdin.readline()") as two:
        machine.scenario.set(0, util=80).process(0, one.pid).process(0, two.pid)
        for second in range(20):
            at_us = machine.clock.wall_ns() // 1000 + second * 1_000_000
            machine.scenario.use(0, 4_100_000, at_us, 60).use(0, 4_100_001, at_us, 20)
        machine.scenario.write()
        writers = [writer(one.pid, 1), writer(two.pid, 2)]
        node = Node(machine)
        node.turn(12, writers)
        rows = [item for item in node.last("process_usage")["usage"] if item["kind"] == "run"]
        assert [item["devices"][0]["quality"] for item in rows] == ["estimated"] * 2
        assert len({item["devices"][0]["busy_us"] for item in rows}) == 1


def test_lost_gpu_becomes_unknown_and_the_other_goes_on(machine: Machine) -> None:
    lost, well = machine.scenario.gpu(0), machine.scenario.gpu(1)
    node = Node(machine)
    node.turn(12)
    machine.scenario.add("code 0 * 15").write()
    node.turn(22)
    problems = {item["device_id"]: item["problem"] for item in node.last("devices")["devices"]}
    assert problems == {lost: "lost", well: None}
    assert [(item["resource"], item["kind"]) for item in node.last("allocation")["holders"]] == [
        (f"device:{lost}", "unknown")
    ]
    assert {item["device_id"] for item in node.last("process_usage")["devices"]} == {well}


def test_gpus_whose_library_does_not_open_again_are_unknown_and_not_gone(machine: Machine) -> None:
    uuid = machine.scenario.gpu(0)
    node = Node(machine)
    node.turn(5)
    machine.scenario.add("code -1 * 1", "init 18").write()
    node.turn(40)
    assert node.count("devices") == 1
    assert [(item["resource"], item["kind"]) for item in node.last("allocation")["holders"]] == [
        (f"device:{uuid}", "unknown")
    ]


def test_node_without_gpus_tells_an_empty_list_once_and_starts_no_thread(tmp_path: Path) -> None:
    clock = ManualClock()
    opened: list[Clock] = []

    def opener(clock: Clock) -> str:
        opened.append(clock)
        return "no"

    vendor = Vendor("nvidia", lambda: can_load(str(tmp_path / "none.so")), opener)
    watch = GpuWatch(clock, SamplingSettings(), vendor=vendor)
    threads = threading.active_count()
    sampler = NodeSampler(clock, SamplingSettings(), gpus=[watch])
    assert [(name, fields["devices"]) for name, fields in sampler.new_devices()] == [("devices", [])]
    clock.advance(RETRY_S - 1)
    assert watch.take() == []
    assert (threading.active_count(), opened) == (threads, [])
    sampler.close()


def test_library_that_appears_later_is_found_within_five_minutes(machine: Machine) -> None:
    clock = ManualClock()
    place = machine.library.parent / "later.so"
    vendor = Vendor("nvidia", lambda: can_load(str(place)), lambda _: machine.reader())
    watch = GpuWatch(clock, SamplingSettings(), vendor=vendor)
    watch.start()
    machine.scenario.gpu(0)
    place.hardlink_to(machine.library)
    clock.advance(RETRY_S + 1)
    found = poll_until(lambda: [look for look in watch.take() if look.readings])
    assert found
    watch.close()
    place.unlink()


class HangingReader:
    """A driver that answers the first round of a device, and for some devices never again."""

    def __init__(self, *hanging: str) -> None:
        self.release = threading.Event()
        self.hanging = hanging
        self.calls = {"GPU-0": 0, "GPU-1": 0}

    def devices(self) -> Sequence[GpuDevice]:
        return [GpuDevice(device_id, "H100", 1) for device_id in self.calls]

    def sample(self, device_id: str) -> Sequence[GpuReading]:
        self.calls[device_id] += 1
        if device_id in self.hanging and self.calls[device_id] > 1:
            self.release.wait(60)
        return []

    def processes(self, device_id: str) -> GpuProcesses:
        return GpuProcesses(device_id, ())

    def errors(self) -> Sequence[GpuError]:
        return []

    def close(self) -> None:
        raise AssertionError("closing a library that hangs would hang too")


def test_driver_that_hangs_stalls_neither_a_round_nor_the_end_nor_other_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainledger.node.gpu_watch.CLOSE_WAIT_S", 0.05)
    reader = HangingReader("GPU-0")
    watch = GpuWatch(SystemClock(), FAST, vendor=Vendor("nvidia", lambda: True, lambda _: reader))
    watch.start()
    try:
        poll_until(lambda: reader.calls["GPU-0"] == 2)
        watch.take()
        seen = reader.calls["GPU-1"]
        poll_until(lambda: reader.calls["GPU-1"] > seen + 3)
        lists = [item.device_id for look in watch.take() for item in look.processes or ()]
        assert set(lists) <= {"GPU-1"} and reader.calls["GPU-0"] == 2
        watch.close()
    finally:
        reader.release.set()


def test_slow_gpu_of_the_real_library_is_late_alone(machine: Machine) -> None:
    slow, well = machine.scenario.gpu(0), machine.scenario.gpu(1)
    machine.scenario.add("slow nvmlDeviceGetUtilizationRates 1500 0")
    watch = GpuWatch(SystemClock(), FAST, vendor=machine.vendor())
    watch.start()
    try:
        assert watch.take() == []
        seen: list[str] = []

        def look() -> bool:
            seen.extend(reading.place_id for look in watch.take() for reading in look.readings)
            return slow in seen

        poll_until(look)
        assert seen.count(well) >= 3, "a look each 0.1 s beside one that takes 1.5 s"
    finally:
        watch.close()


def test_hung_gpu_is_unknown_after_half_a_minute_and_the_others_are_not(machine: Machine) -> None:
    hung, well = machine.scenario.gpu(0), machine.scenario.gpu(1)
    node = Node(machine)
    node.turn(5)
    node.watch.skipped = {hung}
    node.turn(25)
    assert node.count("allocation") == 0 or node.last("allocation")["holders"] == []
    node.turn(10)
    holders = node.last("allocation")["holders"]
    assert [(item["resource"], item["kind"], item["evidence"]) for item in holders] == [
        (f"device:{hung}", "unknown", "no answer from the driver")
    ]
    node.turn(15)
    observed = {item["device_id"]: item["observed_us"] for item in node.last("process_usage")["devices"]}
    assert observed.keys() == {well}
    node.watch.skipped = set()
    node.turn(5)
    assert node.last("allocation")["holders"] == [], "it answers again"


def test_lists_of_processes_become_rarer_where_they_take_long(machine: Machine) -> None:
    machine.scenario.gpu(0)
    reader = machine.reader()
    vendor = Vendor("nvidia", lambda: True, lambda _: reader)
    watch = Stepped(machine.clock, SamplingSettings(), vendor=vendor)

    def lists(seconds: int) -> int:
        for _ in range(seconds):
            machine.clock.advance(1)
            watch.turn()
        return sum(look.processes is not None for look in watch.take())

    assert lists(20) == 10

    class SlowReader(NvmlReader):
        def processes(self, device_id: str) -> GpuProcesses:
            machine.clock.advance(0.02)
            return super().processes(device_id)

    reader.__class__ = SlowReader
    assert lists(60) <= 12, "20 ms a list is 0.3 % of a core at one each 6.7 s"
