"""What it costs to sample eight GPUs with fifty processes once a second, by the agent's own reader and arithmetic.

The library is the fake one of the tests, behind the real pynvml. First it answers at once: the figure is our own cost
and pynvml's. Then its calls use as much CPU as those of an H100's driver did (580.159, measured on one): that is what
the bar is about, since eight GPUs cost what their driver takes.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.workspace import temporary_folder

GPUS, PROCESSES = 8, 50
SECONDS, QUICK_SECONDS = 600, 60


# Microseconds of CPU a call on an H100 with driver 580.159 (the energy counter between 3,400 and 17,000).
DRIVER_US = {
    "nvmlDeviceGetUtilizationRates": 20, "nvmlDeviceGetMemoryInfo_v2": 20, "nvmlDeviceGetPowerUsage": 30,
    "nvmlDeviceGetTemperatureV": 20, "nvmlDeviceGetClockInfo": 10, "nvmlDeviceGetTotalEnergyConsumption": 5300,
    "nvmlDeviceGetFieldValues": 1200, "nvmlGpmSampleGet": 400, "nvmlDeviceGetComputeRunningProcesses_v3": 60,
    "nvmlDeviceGetGraphicsRunningProcesses_v3": 60, "nvmlDeviceGetMPSComputeRunningProcesses_v3": 60,
    "nvmlDeviceGetProcessUtilization": 2200, "nvmlEventSetWait_v2": 10,
}  # fmt: skip


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """CPU of the GPU threads and of the rounds that take their looks, over so many seconds at 1 Hz."""
    seconds = QUICK_SECONDS if quick else SECONDS
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    yield _measure("own cost", {}, seconds)
    yield _measure("with an H100's driver", DRIVER_US, seconds)


def _measure(case: str, driver_us: Mapping[str, int], seconds: int) -> dict[str, Any]:
    # Loaded here: the tests' library needs a compiler, and other bars do not.
    from support.gpu_node import Stepped
    from support.gpus import Machine
    from trainledger.node.allocation import AllocationLog
    from trainledger.node.gpu_vendors import Vendor
    from trainledger.node.node_settings import SamplingSettings
    from trainledger.node.sampler import NodeSampler
    from trainledger_schemas.clock import ManualClock

    class BusyClock(ManualClock):
        """Its seconds pass by hand; what calls take is the CPU that they use."""

        def monotonic_ns(self) -> int:
            return super().monotonic_ns() + time.thread_time_ns()

    with temporary_folder() as folder:
        machine = Machine(folder)
        machine.clock = BusyClock()
        machine.scenario.add(*(f"spin {name} {cost_us}" for name, cost_us in driver_us.items()))
        for number in range(GPUS):
            machine.scenario.gpu(number)
            machine.scenario.set(number, util=50, used_mib=4000)
            machine.scenario.add(f"field {number} 74 3 100", f"gpm {number} -1 2 50")
        for process in range(PROCESSES):
            # All are this process's pid or one that nobody knows: what is measured is the GPUs, not /proc.
            machine.scenario.process(process % GPUS, os.getpid() if process < GPUS else 4_000_000 + process)
            machine.scenario.use(process % GPUS, 4_000_000 + process, 1, 2)
        reader, clock, settings = machine.reader(), machine.clock, SamplingSettings()
        watch = Stepped(clock, settings, vendor=Vendor("nvidia", lambda: True, lambda _: reader))
        sampler = NodeSampler(clock, settings, gpus=[watch])
        allocation = AllocationLog(clock=clock, key_frame_s=300)
        looked_s = counted_s = 0.0
        for _ in range(seconds):
            clock.advance(1)
            start = time.thread_time()
            watch.turn()
            looked = time.thread_time()
            sampler.new_devices()
            allocation.observe([], *sampler.holdings())
            looked_s, counted_s = looked_s + looked - start, counted_s + time.thread_time() - looked
    percent = 100 * (looked_s + counted_s) / seconds
    return {
        "case": f"{GPUS} GPUs, {PROCESSES} processes, 1 Hz, {case}",
        "core_percent": round(percent, 3),
        "look_ms_per_s": round(1000 * looked_s / seconds, 3),
        "count_ms_per_s": round(1000 * counted_s / seconds, 3),
        "bars": {"core_percent": 1.0},
        "met": percent < 1.0,
    }
