"""Run the bars named on the command line, or all, one after another; exit status 1 if one is missed."""

import json
import platform
import sys
import sysconfig
from collections.abc import Callable, Iterator
from typing import Any

from bench import log_call, start_up

BARS: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "log_call": log_call.measure,
    "start_up": start_up.measure,
}


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown"
        )
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return {
        "bar": "machine",
        "cpu": model,
        "python": platform.python_version(),
        "python_pgo": optimised,
        "kernel": platform.release(),
    }


def main(names: list[str]) -> int:
    """Print one JSON line a result."""
    unknown = set(names) - set(BARS)
    if unknown:
        print(f"no bar {', '.join(sorted(unknown))}; there are {', '.join(BARS)}", file=sys.stderr)
        return 2
    print(json.dumps(machine()), flush=True)
    missed = 0
    for name in names or list(BARS):
        for line in BARS[name]():
            missed += line.get("met") is False
            print(json.dumps({"bar": name} | line), flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
