"""Writes journals with the SDK: `python -m bench.journals RUNS ROWS VALUES`, one run after the other in one process.

Values are what training writes: most rounded to some digits, some with the noise of float32 in their last bits, so
that they neither compress like a ramp nor like noise. Runs belong to 20 teams in turn.
"""

import random
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.workspace import timed

__all__ = ["journal_bytes", "write_journals"]

DIFFERENT_ROWS = 2048
TEAMS = 20


def write_journals(env: Mapping[str, str], *, runs: int, rows: int, values: int) -> int:
    """Write journals in a process of their own; how many points."""
    timed([sys.executable, "-m", "bench.journals", str(runs), str(rows), str(values)], env)
    return runs * rows * values


def journal_bytes(folder: Path) -> int:
    """Bytes of all segments below a node folder; finished ones are cut to what was written."""
    return sum(path.stat().st_size for path in folder.rglob("*.tlj"))


def training_rows(values: int, count: int) -> list[dict[str, float]]:
    """Rows of one shape; the same for the same arguments."""
    chance = random.Random(7)
    names = [f"metric/{n}" for n in range(values)]
    return [{name: _value(chance) for name in names} for _ in range(count)]


def _value(chance: random.Random) -> float:
    number = chance.gauss(1, 1)
    if chance.random() < 0.7:
        return round(number, chance.randint(4, 7))
    as_float32: float = struct.unpack("f", struct.pack("f", number))[0]
    return as_float32


def main(runs: int, rows: int, values: int) -> None:
    """Log as a training loop does."""
    import trainledger

    data = training_rows(values, min(rows, DIFFERENT_ROWS))
    size = len(data)
    for number in range(runs):
        run = trainledger.init(
            project=f"project-{number % 50}", team=f"team-{number % TEAMS}", name=f"run-{number}"
        )
        log = run.log
        for step in range(rows):
            log(data[step % size], step)
        run.finish()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
