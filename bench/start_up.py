"""How long `import trainledger` and `trainledger --help` take, as whole processes."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RUNS = 15
QUICK_RUNS = 3


def seconds(command: list[str]) -> float:
    """Wall seconds of one run."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Medians; the import is paired with a bare interpreter, run in turn."""
    runs = QUICK_RUNS if quick else RUNS
    bare, imported = [], []
    for _ in range(runs):
        bare.append(seconds([sys.executable, "-c", "pass"]))
        imported.append(seconds([sys.executable, "-c", "import trainledger"]))
    net_ms = (statistics.median(imported) - statistics.median(bare)) * 1000
    yield {
        "case": "import trainledger",
        "bare_interpreter_ms": round(statistics.median(bare) * 1000, 1),
        "import_ms": round(net_ms, 1),
        "bars": {"import_ms": 50},
        "met": net_ms < 50,
    }
    command = [str(Path(sys.executable).parent / "trainledger"), "--help"]
    help_ms = statistics.median(seconds(command) for _ in range(runs)) * 1000
    yield {
        "case": "trainledger --help",
        "help_ms": round(help_ms, 1),
        "bars": {"help_ms": 200},
        "met": help_ms < 200,
    }
