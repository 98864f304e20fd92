"""What runs are said to have used of a shared GPU, against what was scripted: minutes of changing shares, real processes.

The fake driver measures as NVIDIA's is documented to: a row a process and second in which it used the device. So what is
measured here is the agent's own error; what a real driver adds by its few looks a second is in docs/cost.md.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from support.burners import Burner, burning
from support.gpu_node import Node, writer
from support.gpus import Machine
from trainledger.node.node_settings import SamplingSettings

MINUTES = 4
IDLE_W, W_PER_PERCENT = 70, 6
ERROR_MAX = 0.02

# Seconds without anybody before and after, so that counters are read outside of what is compared.
BEFORE_S, AFTER_S = 3, 12
# Percent of the device by second, each change at a second of its own; None: not there.
SCRIPT: dict[str, tuple[tuple[int, int | None], ...]] = {
    "ann": ((0, 60), (31, 20), (77, 5), (118, 45), (163, 30), (201, 70)),
    "bob": ((0, 30), (44, 70), (95, 0), (139, 25), (171, 10), (207, 20)),
    "carl": ((0, None), (23, 10), (61, 5), (113, 40), (149, None)),  # has no run
}


def percent(name: str, second: int) -> int | None:
    """What a process uses in the second that ends at `second`."""
    if not 0 < second <= MINUTES * 60:
        return None
    return [use for begin, use in SCRIPT[name] if begin < second or begin == 0][-1]


@dataclass
class Truth:
    """Busy seconds and joules by process, as scripted."""

    busy_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SCRIPT, 0.0))
    energy_j: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SCRIPT, 0.0))
    device_j: float = 0.0

    def pass_second(self, second: int) -> tuple[dict[str, int], int]:
        """The use of each process that is there, and the device's watts."""
        uses = {name: use for name in SCRIPT if (use := percent(name, second)) is not None}
        total = sum(uses.values())
        watts = IDLE_W + W_PER_PERCENT * total
        self.device_j += watts
        for name, use in uses.items():
            self.busy_s[name] += use / 100
            self.energy_j[name] += watts * use / total if total else 0.0
        return uses, watts


def seconds(machine: Machine, processes: dict[str, Burner], truth: Truth) -> Iterator[int]:
    """Puts each second into the driver, before the agent looks at it."""
    scenario = machine.scenario
    base = list(scenario.lines)
    rows: list[str] = []
    for second in range(1 - BEFORE_S, MINUTES * 60 + AFTER_S + 1):
        uses, watts = truth.pass_second(second)
        at_us = machine.clock.wall_ns() // 1000 + 1_000_000
        scenario.lines = list(base)
        rows = rows[-60:] + [
            f"use 0 {processes[name].pid} {at_us} {use} 0" for name, use in uses.items() if use > 0
        ]
        for name in uses:
            scenario.process(0, processes[name].pid)
        scenario.set(
            0, util=sum(uses.values()), power_mw=watts * 1000, energy_mj=round(truth.device_j * 1000)
        )
        scenario.add(*rows).write()
        yield second


@pytest.mark.parametrize("list_each_s", [2, 7], ids=["lists each 2 s", "lists each 7 s"])
def test_shared_gpu_is_divided_within_two_percent_of_what_was_scripted(
    machine: Machine, list_each_s: float
) -> None:
    machine.scenario.gpu(0)
    truth = Truth()
    with ExitStack() as stack:
        processes = {name: stack.enter_context(burning("sys.stdin.readline()")) for name in SCRIPT}
        writers = [writer(processes["ann"].pid, 1), writer(processes["bob"].pid, 2)]
        node = Node(machine, settings=SamplingSettings(scan_interval_s=list_each_s))
        for _ in seconds(machine, processes, truth):
            node.turn(1, writers)
        node.flush(writers)
    used = {name: {"busy_us": 0, "energy_mj": 0} for name in ("ann", "bob")}
    for kind, fields in node.events:
        if kind == "process_usage":
            for row in fields["usage"]:
                name = {bytes([1]) * 16: "ann", bytes([2]) * 16: "bob"}.get(row["run_id"], "")
                for device in row["devices"] if name else ():
                    for unit, value in used[name].items():
                        used[name][unit] = value + (device[unit] or 0)
    errors = {name: used[name]["busy_us"] / 1e6 / truth.busy_s[name] - 1 for name in used}
    energy = {name: used[name]["energy_mj"] / 1000 / truth.energy_j[name] - 1 for name in used}
    assert {name: error for name, error in errors.items() if abs(error) > ERROR_MAX} == {}
    assert {name: error for name, error in energy.items() if abs(error) > ERROR_MAX} == {}


def part(name: str, instance: int, size: int) -> str:
    return f"mig 0 {name} {instance} 0 {size} {size} {size} {size * 9728} 100"


def test_layout_of_mig_that_changes_midway_loses_seconds_and_doubles_nothing(machine: Machine) -> None:
    machine.scenario.gpu(0)
    with burning("sys.stdin.readline()") as ann, burning("sys.stdin.readline()") as bob:
        writers = [writer(ann.pid, 1), writer(bob.pid, 2)]
        node = Node(machine)
        base = list(machine.scenario.lines)

        def turn(length_s: int, *lines: str) -> None:
            machine.scenario.lines = [*base, *lines]
            machine.scenario.write()
            node.turn(length_s, writers)

        turn(40, "set 0 util 50", f"proc 0 {ann.pid} 100")
        both = [f"proc 0 {ann.pid} 90 2 0", f"proc 0 {bob.pid} 9 9 0", "set 0 mig 1"]
        turn(60, part("MIG-a", 2, 4), part("MIG-b", 9, 1), *both, "gpm 0 2 2 40", "gpm 0 9 2 80")
        swapped = [f"proc 0 {bob.pid} 90 3 0", "set 0 mig 1"]
        turn(60, part("MIG-c", 3, 2), *swapped, "gpm 0 3 2 25")
        turn(30, "set 0 util 0")
        node.flush(writers)
    used: dict[tuple[bytes, str], float] = {}
    for kind, fields in node.events:
        for row in fields["usage"] if kind == "process_usage" else ():
            for device in row["devices"] if row["kind"] == "run" else ():
                key = (row["run_id"], device["part_id"])
                used[key] = used.get(key, 0.0) + (device["busy_us"] or 0) / 1e6
    ann_id, bob_id = bytes([1]) * 16, bytes([2]) * 16
    scripted = {
        (ann_id, ""): 0.5 * 40, (ann_id, "MIG-a"): 0.4 * 60, (bob_id, "MIG-b"): 0.8 * 60, (bob_id, "MIG-c"): 0.25 * 60,
    }  # fmt: skip
    assert used.keys() == scripted.keys()
    for key, busy_s in scripted.items():
        # A layout is seen with the next list of devices, and an instance counts from its second reading on.
        lost_s = 0.5 if not key[1] else 21
        assert busy_s * (1 - lost_s / 60) - 0.5 <= used[key] <= busy_s, key
    assert [len(devices) for devices in device_counts(node)] == [1, 3, 2, 1]


def device_counts(node: Node) -> list[list[str]]:
    return [
        [item["device_id"] for item in fields["devices"]] for kind, fields in node.events if kind == "devices"
    ]
