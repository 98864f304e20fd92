"""What it costs to keep an artifact of 1 GB: the call in the training, and the disk when it has not changed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.workspace import environment, temporary_folder

FILE_BYTES, QUICK_FILE_BYTES = 1 << 30, 80 << 20
WAIT_S_MAX = 300
POLL_S = 0.05
SCRIPT = """
import json, sys, time
import trainledger
run = trainledger.init(project="bench")
started = time.perf_counter()
run.log_artifact(sys.argv[1], name="model")
print(json.dumps((time.perf_counter() - started) * 1000))
"""


def make_file(path: Path, size_bytes: int) -> None:
    """A file of random blocks."""
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(size_bytes >> 20):
            file.write(b"%08d" % number + block[8:])


def stored_bytes(folder: Path) -> int:
    """Bytes on disk of everything below a folder."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def log_once(workspace: Path, path: Path) -> tuple[float, float]:
    """Milliseconds of the call, and seconds until the artifact is stored."""
    started = time.perf_counter()
    command = [sys.executable, "-c", SCRIPT, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment(workspace))
    held = workspace / "journals" / str(os.geteuid()) / "blobs" / "held"
    while any(held.iterdir()):
        if time.perf_counter() - started > WAIT_S_MAX:
            raise RuntimeError(f"the artifact was not stored within {WAIT_S_MAX} s")
        time.sleep(POLL_S)
    return json.loads(done.stdout), time.perf_counter() - started


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """The same file twice."""
    size = QUICK_FILE_BYTES if quick else FILE_BYTES
    with temporary_folder() as workspace:
        path = workspace / "model.bin"
        make_file(path, size)
        blobs = workspace / "journals" / str(os.geteuid()) / "blobs" / "sha256"
        first_ms, first_s = log_once(workspace, path)
        before = stored_bytes(blobs)
        again_ms, again_s = log_once(workspace, path)
        new_bytes = stored_bytes(blobs) - before
    yield {
        "case": f"an artifact of {size >> 20} MiB, twice",
        "call_ms": round(max(first_ms, again_ms), 1),
        "stored_s": round(first_s, 2),
        "again_s": round(again_s, 2),
        "stored_bytes": before,
        "new_bytes": new_bytes,
        "bars": {"new_bytes": 0},
        "met": new_bytes == 0 and before >= size,
    }
