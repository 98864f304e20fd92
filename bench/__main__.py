"""Run the bars named on the command line, or all, one after another; exit status 1 if one is missed.

    python -m bench [--quick] [NAME ...]

`--quick`: small sizes, for a look at whether a bar works; its figures mean little. A bar that cannot be measured
is a line with `error`, counts as missed, and does not keep the others from being measured.
"""

import argparse
import json
import os
import platform
import signal
import sys
import sysconfig
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, Protocol

from bench import (
    agent_idle,
    artifact_store,
    blob_sending,
    code_capture,
    dataset_manifest,
    file_lookup,
    gpu_sampling,
    journal_to_event,
    journal_to_table,
    kafka_to_table,
    kill,
    log_call,
    month,
    query,
    start_up,
)


class Measure(Protocol):
    """Yields one result a case; `quick`: small sizes."""

    def __call__(self, *, quick: bool = False) -> Iterator[dict[str, Any]]: ...


BARS: dict[str, Measure] = {
    "log_call": log_call.measure,
    "start_up": start_up.measure,
    "kill": kill.measure,
    "journal_to_event": journal_to_event.measure,
    "journal_to_table": journal_to_table.measure,
    "kafka_to_table": kafka_to_table.measure,
    "agent_idle": agent_idle.measure,
    "gpu_sampling": gpu_sampling.measure,
    "query": query.measure,
    "month": month.measure,
    "dataset_manifest": dataset_manifest.measure,
    "file_lookup": file_lookup.measure,
    "code_capture": code_capture.measure,
    "artifact_store": artifact_store.measure,
    "blob_sending": blob_sending.measure,
}


def machine() -> dict[str, Any]:
    """What the figures were taken on, and how busy it was."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown"
        )
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return {
        "bar": "machine",
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load_1_min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "python_pgo": optimised,
        "kernel": platform.release(),
    }


def run_bar(name: str, *, quick: bool) -> Iterator[dict[str, Any]]:
    """The lines of one bar."""
    started = time.perf_counter()
    mark = {"bar": name} | ({"quick": True} if quick else {})
    try:
        for line in BARS[name](quick=quick):
            yield mark | line
    except Exception as error:  # the edge of the program: the other bars are still to be measured
        yield mark | {"error": str(error) or repr(error), "met": False}
    print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Let SIGTERM end the program on the same path as Ctrl-C, which removes folders and ends children."""
    raise KeyboardInterrupt


def main(argv: list[str]) -> int:
    """Print one JSON line a result."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BARS)}; default all")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.names) - {*BARS, "all"}
    if unknown:
        print(f"no bar {', '.join(sorted(unknown))}; there are {', '.join(BARS)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, interrupt)
    print(json.dumps(machine()), flush=True)
    missed = 0
    names = list(BARS) if "all" in arguments.names else arguments.names or list(BARS)
    for name in names:
        for line in run_bar(name, quick=arguments.quick):
            missed += line.get("met") is False
            print(json.dumps(line), flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
