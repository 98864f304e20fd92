"""500 seeded SIGKILLs of a training process: nothing that returned may be missing, wrong or doubled in the table."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any


def measure() -> Iterator[dict[str, Any]]:
    """Runs the same rounds as `make faults`, trainer alone, 1 and 8 threads."""
    rounds = int(os.environ.get("BENCH_KILLS", "500"))
    started = time.perf_counter()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.faults.rounds",
            "--target",
            "trainer",
            "--rounds",
            str(rounds),
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=3600,
    )
    outcome = json.loads(done.stdout.strip().splitlines()[-1])
    yield outcome | {
        "case": f"{rounds} SIGKILLs of the trainer, 1 and 8 threads",
        "wall_s": round(time.perf_counter() - started, 1),
        "bars": {"lost": 0, "wrong": 0, "doubled": 0},
        "met": done.returncode == 0 and outcome["lost"] == outcome["wrong"] == outcome["doubled"] == 0,
    }
