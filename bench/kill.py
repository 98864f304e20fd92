"""What SIGKILL costs: training processes killed at random moments, and every returned point looked for in the table."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["measure"]

ROUNDS = 500
ROUNDS_QUICK = 20
TESTS = Path(__file__).resolve().parents[1] / "tests"


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """One line: the campaign of the fault tests with nothing but training processes as victims."""
    rounds = ROUNDS_QUICK if quick else ROUNDS
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "faults.campaign", "trainers", "--rounds", str(rounds), "--seed", "1"],
        env=dict(os.environ) | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=3600,
    )
    after = os.times()
    if done.returncode:
        yield {"case": f"{rounds} kills", "met": False, "why": done.stderr[-2000:]}
        return
    found = json.loads(done.stdout)
    yield {
        "case": f"{rounds} SIGKILLs of training processes with 1 and 8 threads",
        "returned_calls": found["returned_calls"],
        "lost_wrong_or_doubled": found["contradictions"],
        "torn_tails_caught": found["torn_tails"],
        "wall_s": found["wall_s"],
        "cpu_s": round(
            after.children_user + after.children_system - before.children_user - before.children_system, 1
        ),
        "bars": {"lost_wrong_or_doubled": 0, "torn_tails_caught": "at least one of 500"},
        # Without a torn record the kills would miss the moment that matters.
        "met": found["contradictions"] == 0 and (found["torn_tails"] > 0 or quick),
    }
