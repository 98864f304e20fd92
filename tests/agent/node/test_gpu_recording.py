"""What an H100 really answered (driver 580, two processes of known load): the fake agrees, and so does the account.

`tests/support/record_nvml.py` made the recordings on such machines; `trim_recording.py` cut them down. The first was read
with all counters each second, the second as the agent reads them.
"""

import json
from pathlib import Path
from typing import Any

import pynvml
import pytest

from support.gpus import Machine
from trainledger.node.gpu import GpuDevice, GpuProcess, GpuProcesses, GpuReading
from trainledger.node.gpu_account import GpuAccount
from trainledger.node.gpu_watch import GpuLook
from trainledger.node.host import StatWindow
from trainledger.node.processes import Holder

FOLDER = Path(__file__).parent / "recordings"
H100: dict[str, Any] = json.loads((FOLDER / "h100_driver_580.json").read_text())
SLOW: dict[str, Any] = json.loads((FOLDER / "h100_driver_580_slow_counters.json").read_text())
ANN, BOB = (Holder("run", bytes([n]) * 16, bytes([n]) * 16, 1000) for n in (1, 2))


def holder_of(process: GpuProcess, recording: dict[str, Any] = H100) -> Holder | None:
    """Ann runs process A, Bob runs B."""
    return {recording["pids"]["A"]: ANN, recording["pids"]["B"]: BOB}.get(process.pid)


def looks(recording: dict[str, Any] = H100) -> list[tuple[float, GpuLook]]:
    """The recorded rounds as looks of the agent, each with its second."""
    device = GpuDevice(recording["device_id"], recording["model"], recording["memory_bytes"])
    made = []
    for item in recording["rounds"]:
        counters = {} if item["energy_mj"] is None else {"energy_mj": item["energy_mj"]}
        reading = GpuReading(device.device_id, item["gauges"], counters)
        found = tuple(GpuProcess(pid, "", memory, busy) for pid, memory, busy in item["processes"])
        lists = (GpuProcesses(device.device_id, found),)
        made.append((item["at_s"], GpuLook(round(item["at_s"] * 1e9), (device,), (reading,), lists)))
    return made


def phase(name: str) -> tuple[dict[str, Any], dict[Holder, dict[str, Any]], GpuAccount]:
    """The device, the runs and the account after one phase, without its first two seconds."""
    start_s, end_s = next((start, end) for label, start, end in H100["phases"] if label == name)
    account = GpuAccount(holder_of)
    for at_s, look in looks():
        if start_s + 2 <= at_s <= end_s:
            account.add(look, StatWindow())
    whole, runs = account.take()
    return dict(whole[0]), {holder: dict(rows[0]) for holder, rows in runs.items()}, account


def share(use: dict[str, Any]) -> float:
    return float(use["busy_us"] / use["observed_us"])


def kernels(name: str, phase_name: str) -> int:
    """How many kernels a process finished in a phase, by its own count."""
    start_s, end_s = next((start, end) for label, start, end in H100["phases"] if label == phase_name)
    return sum(count for at_s, count in H100["kernels"][name] if start_s < at_s <= end_s)


def test_fake_answers_with_the_codes_of_the_real_library(machine: Machine) -> None:
    machine.scenario.gpu(0)
    machine.scenario.add("gpm 0 -1 2 0")
    machine.reader()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    compared = 0
    for call, code in H100["codes"].items():
        name, *args = call.split()
        of_device = name.startswith(("nvmlDeviceGet", "nvmlGpmQuery")) and name != "nvmlDeviceGetCount"
        try:
            getattr(pynvml, name)(*([handle] if of_device else []), *map(int, args))
            seen = 0
        except pynvml.NVMLError as error:
            seen = error.value
        except (TypeError, pynvml.NVMLLibraryMismatchError):
            continue  # it needs an argument that was not recorded, or the fake does not have it
        if seen != pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            compared += 1
            assert seen == code, call
    assert compared >= 30


def test_one_busy_process_has_all_of_the_gpu() -> None:
    whole, runs, _ = phase("A full")
    assert runs.keys() == {ANN} and runs[ANN]["quality"] == "exclusive"
    assert share(runs[ANN]) == share(whole) > 0.95
    assert runs[ANN]["energy_mj"] == pytest.approx(whole["energy_mj"], abs=1)
    assert whole["energy_mj"] / whole["observed_us"] * 1000 == pytest.approx(696, rel=0.02), "watts"
    assert runs[ANN]["memory_peak_bytes"] == 5_339_348_992


def test_two_busy_processes_share_as_their_kernels_did() -> None:
    whole, runs, _ = phase("A and B full")
    assert {use["quality"] for use in runs.values()} == {"shared-measured"}
    assert share(runs[ANN]) + share(runs[BOB]) == pytest.approx(share(whole), abs=0.01)
    done = kernels("A", "A and B full") / (kernels("A", "A and B full") + kernels("B", "A and B full"))
    # Twelve seconds are sixty looks of the driver: the error of a count is about a tenth.
    assert share(runs[ANN]) / share(whole) == pytest.approx(done, abs=0.1)
    assert runs[ANN]["energy_mj"] + runs[BOB]["energy_mj"] == pytest.approx(whole["energy_mj"], abs=2)


def test_half_a_load_is_half_a_gpu_and_its_idle_neighbour_used_nothing() -> None:
    whole, runs, _ = phase("A half")
    assert share(whole) == pytest.approx(0.57, abs=0.02)
    assert share(runs[ANN]) == pytest.approx(share(whole), abs=0.01) and share(runs[BOB]) < 0.01


def test_killed_process_is_off_the_gpu_at_the_next_look() -> None:
    _, runs, account = phase("B killed")
    assert [item.holder for item in account.occupants(0)] == [ANN]
    assert runs.keys() == {ANN}


@pytest.mark.parametrize("name", ["idle", "done"])
def test_gpu_without_processes_is_idle_and_holds_no_memory(name: str) -> None:
    whole, runs, account = phase(name)
    assert (whole["busy_us"], runs, account.occupants(0)) == (0, {}, [])


def test_energy_that_is_read_seldom_comes_to_whoever_was_on_the_gpu_meanwhile() -> None:
    account = GpuAccount(lambda process: holder_of(process, SLOW))
    for _, look in looks(SLOW):
        account.add(look, StatWindow())
    devices, of_runs = account.take()
    whole: dict[str, Any] = dict(devices[0])
    runs: dict[Holder, dict[str, Any]] = {holder: dict(rows[0]) for holder, rows in of_runs.items()}
    readings = [item for item in SLOW["rounds"] if item["energy_mj"] is not None]
    assert 9 <= len(readings) <= 12
    assert whole["energy_mj"] == pytest.approx(readings[-1]["energy_mj"] - readings[0]["energy_mj"], abs=1)
    expected = {True: 0.0, False: 0.0}
    for before, now in zip(SLOW["rounds"], SLOW["rounds"][1:], strict=False):
        if readings[0]["at_s"] <= before["at_s"] and now["at_s"] <= readings[-1]["at_s"]:
            # Of a span with a process at one end alone, what is idle is nobody's.
            ends = [item["processes"] == [] for item in (before, now)]
            is_nobodys = all(ends) or (any(ends) and now["gauges"]["gpu_util_pct"] == 0)
            expected[is_nobodys] += now["gauges"]["power_w"] * (now["at_s"] - before["at_s"]) * 1000
    given = float(sum(use["energy_mj"] for use in runs.values()))
    assert given == pytest.approx(expected[False], rel=0.01)
    assert float(whole["energy_mj"]) - given == pytest.approx(expected[True], rel=0.1), "nobody's"
