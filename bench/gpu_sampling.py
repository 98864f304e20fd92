"""What it costs to sample eight GPUs with fifty processes once a second, by the agent's own reader and arithmetic.

The library is the fake one of the tests, behind the real pynvml: it answers at once, so the figure is our own cost and
pynvml's. What a real driver adds is in docs/benchmarks.md, from the recording of an H100.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.workspace import temporary_folder

GPUS, PROCESSES = 8, 50
SECONDS, QUICK_SECONDS = 600, 60


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """CPU of the GPU thread and of the rounds that take its looks, for so many seconds at 1 Hz, without the waits."""
    seconds = QUICK_SECONDS if quick else SECONDS
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    # Loaded here: the tests' library needs a compiler, and other bars do not.
    from support.gpu_node import Stepped
    from support.gpus import Machine
    from trainledger.node.allocation import AllocationLog
    from trainledger.node.node_settings import SamplingSettings
    from trainledger.node.sampler import NodeSampler

    with temporary_folder() as folder:
        machine = Machine(folder)
        for number in range(GPUS):
            machine.scenario.gpu(number)
            machine.scenario.set(number, util=50, used_mib=4000)
            machine.scenario.add(f"field {number} 74 3 100", f"gpm {number} -1 2 50")
        for process in range(PROCESSES):
            # All are this process's pid or one that nobody knows: what is measured is the GPUs, not /proc.
            machine.scenario.process(process % GPUS, os.getpid() if process < GPUS else 4_000_000 + process)
            machine.scenario.use(process % GPUS, 4_000_000 + process, 1, 2)
        reader, clock, settings = machine.reader(), machine.clock, SamplingSettings()
        watch = Stepped(clock, settings, opener=lambda _: reader)
        sampler = NodeSampler(clock, settings, gpus=watch)
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
    yield {
        "case": f"{GPUS} GPUs, {PROCESSES} processes, 1 Hz",
        "core_percent": round(percent, 3),
        "look_ms_per_s": round(1000 * looked_s / seconds, 3),
        "count_ms_per_s": round(1000 * counted_s / seconds, 3),
        "bars": {"core_percent": 1.0},
        "met": percent < 1.0,
    }
