"""Programs whose calls are timed, each in a process of its own: `python -m bench.subjects NAME CALLS VALUES`.

Prints one JSON object: sorted call times in ns (as quantiles), CPU and wall seconds of a second loop without
clock reads, until everything is on disk, and how often the process gave up the CPU. Of a peer whose calls only
queue, the quantiles are those of the warm-up.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

QUEUE_EMPTY_S = 3.0
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


Log = Callable[[dict[str, float], int], object]
# What to call so that everything logged before is on disk.
Settle = Callable[[], object]


def nothing() -> None:
    """What is on disk when the call returns needs nothing more."""


def empty() -> tuple[Log, Settle]:
    """A call that does nothing: the cost of the harness."""

    def log(_values: dict[str, float], _step: int) -> None:
        return None

    return log, nothing


def trainledger_direct() -> tuple[Log, Settle]:
    """Ours, called as a training loop calls it: no wrapper in between."""
    import trainledger

    return trainledger.init(project="bench").log, nothing


def trackio_log() -> tuple[Log, Settle]:
    """The fastest peer, local mode. Its calls only queue; `finish` waits until its thread has written all."""
    import trackio

    trackio.init(project="bench", embed=False)
    return lambda values, step: trackio.log(values, step=step), trackio.finish


SUBJECTS: dict[str, Callable[[], tuple[Log, Settle]]] = {
    "empty": empty,
    "trainledger": trainledger_direct,
    "trackio": trackio_log,
}


def rows(count: int, values: int) -> list[dict[str, float]]:
    """Different values each call, made before the clock starts."""
    names = [f"metric/{i}" for i in range(values)]
    return [{name: i * 0.001 + n for n, name in enumerate(names)} for i in range(count)]


def time_calls(log: Log, calls: int, values: int, pause_s: float) -> list[int]:
    """Nanoseconds of each call."""
    data = rows(min(calls, 1000), values)
    clock = time.perf_counter_ns
    times = [0] * calls
    size = len(data)
    for step in range(calls):
        row = data[step % size]
        before = clock()
        log(row, step)
        times[step] = clock() - before
        if pause_s:
            time.sleep(pause_s)
    return times


def time_loop(log: Log, settle: Settle, calls: int, values: int) -> tuple[float, float]:
    """CPU and wall seconds of `calls` calls without clock reads, until all is on disk; the loop itself is in both."""
    data = rows(min(calls, 1000), values)
    size = len(data)
    cpu, wall = time.process_time(), time.perf_counter()
    for step in range(calls):
        log(data[step % size], step)
    settle()
    return time.process_time() - cpu, time.perf_counter() - wall


def main(name: str, calls: int, values: int, pause_us: float) -> dict[str, Any]:
    """Warm up, then measure."""
    log, settle = SUBJECTS[name]()
    times = time_calls(log, min(calls, 2000), values, 0)
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    if settle is nothing:
        times = time_calls(log, calls, values, pause_us / 1e6)
    else:
        time.sleep(QUEUE_EMPTY_S)  # the calls so far are written by then, and not counted
    switches = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - switches
    cpu_s, wall_s = time_loop(log, settle, calls, values) if not pause_us else (0.0, 0.0)
    times.sort()
    quantiles = {key: times[min(int(len(times) * q), len(times) - 1)] for key, q in QUANTILES.items()}
    return quantiles | {"cpu_s": cpu_s, "wall_s": wall_s, "calls": calls, "voluntary_switches": switches}


if __name__ == "__main__":
    try:
        # Other work on the machine must not make the tails; without the right to it they are noisier, not wrong.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    except (OSError, PermissionError):
        pass
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))), flush=True)
    # A peer's background threads would keep the process; what they still hold is not measured.
    os._exit(0)
