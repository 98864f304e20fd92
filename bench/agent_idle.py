"""What the node agent costs while nothing much happens: one-second samples and 20 processes that log each second."""

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from bench.workspace import cpu_seconds, environment, running, temporary_folder, trainledger

WRITERS = 20
# The agent's start (imports, first scans) is over by then.
SETTLE_S = 5.0
SECONDS = 60.0
QUICK_SECONDS = 12.0
# A training process as far as the agent can see: the SDK open, a row each second, until its stdin closes.
WRITER = """
import select, sys, time, trainledger
run = trainledger.init(project="bench")
print("ready", flush=True)
step = 0
while not select.select([sys.stdin], [], [], 1.0)[0]:
    run.log({"loss": 1.0 / (step + 1), "accuracy": step / 1000}, step=step)
    step += 1
"""


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """CPU and memory of a real `trainledger agent`, and of the same agent without journals in the same run."""
    seconds = QUICK_SECONDS if quick else SECONDS
    empty = watch(writers=0, seconds=seconds / 3)
    busy = watch(writers=WRITERS, seconds=seconds)
    yield {
        "case": f"{WRITERS} live journals, a row a second each",
        **busy,
        "without_journals": empty,
        "bars": {"core_percent": 1.0, "rss_mb": 80},
        "met": busy["core_percent"] < 1.0 and busy["rss_mb"] < 80,
    }


def watch(*, writers: int, seconds: float) -> dict[str, float]:
    """Run an agent with so many writers, and read the kernel's account of it at both ends."""
    with temporary_folder() as folder, ExitStack() as children:
        env = environment(folder)
        agent = children.enter_context(running(trainledger("agent"), env, ready="ready"))
        for _ in range(writers):
            children.enter_context(running([sys.executable, "-c", WRITER], env, ready="ready", stdin=True))
        time.sleep(SETTLE_S)
        cpu_s, started = cpu_seconds(agent.pid), time.perf_counter()
        resident = []
        while time.perf_counter() - started < seconds:
            time.sleep(1.0)
            resident.append(resident_mb(agent.pid))
        cpu_s, wall_s = cpu_seconds(agent.pid) - cpu_s, time.perf_counter() - started
    return {
        "core_percent": round(100 * cpu_s / wall_s, 3),
        "cpu_ms_per_s": round(1000 * cpu_s / wall_s, 2),
        "cpu_s": round(cpu_s, 3),
        "wall_s": round(wall_s, 1),
        "rss_mb": round(max(resident), 1),
        "rss_mb_median": round(statistics.median(resident), 1),
    }


def resident_mb(pid: int) -> float:
    """Resident size now, in MB (10^6 bytes)."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as lines:
        kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return kilobytes * 1024 / 1e6
