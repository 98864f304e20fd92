"""How long the manifest of a dataset of 100,000 small files takes, first and with one file changed.

The files are read once before anything is timed, so that all read from memory; `sha256sum` over the same files by
one process is the yardstick. A cache entry younger than 2 s is never trusted, hence the pause.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.workspace import temporary_folder
from trainledger.data.folder_scan import FolderScan
from trainledger.data.measure import scan_folder
from trainledger.data.stat_cache import StatCache
from trainledger_schemas.blobs import FolderBlobs

FILES, QUICK_FILES = 100_000, 2_000
FILES_A_FOLDER = 1000
FILE_BYTES = 4 << 10
AGAIN = 3
SETTLE_S = 2.2


def make_files(folder: Path, count: int) -> None:
    """Files of FILE_BYTES that all differ."""
    filling = os.urandom(FILE_BYTES - 8)
    for begin in range(0, count, FILES_A_FOLDER):
        inner = folder / f"{begin:06}"
        inner.mkdir(parents=True)
        for number in range(begin, min(begin + FILES_A_FOLDER, count)):
            (inner / f"{number:06}.bin").write_bytes(b"%08d" % number + filling)


def sha256sum(folder: Path) -> float:
    """Seconds of `sha256sum` over all files."""
    started = time.perf_counter()
    command = 'find "$0" -type f -print0 | xargs -0 sha256sum > /dev/null'
    subprocess.run(["sh", "-c", command, str(folder)], check=True)
    return time.perf_counter() - started


def manifest(folder: Path, cache: Path, blobs: FolderBlobs) -> tuple[float, FolderScan]:
    """Seconds of a manifest, its nodes stored, as `use_dataset` has it made."""
    started = time.perf_counter()
    with StatCache(cache, "bench") as opened:
        scan = scan_folder(folder, opened, blobs, started_ns=time.time_ns())
    return time.perf_counter() - started, scan


def measure(*, quick: bool = False) -> Iterator[dict[str, Any]]:
    """First and second manifest against `sha256sum`."""
    count = QUICK_FILES if quick else FILES
    with temporary_folder() as workspace:
        folder, blobs = workspace / "data", FolderBlobs(workspace / "blobs")
        make_files(folder, count)
        time.sleep(SETTLE_S)
        sha256sum(folder)
        plain_s = sha256sum(folder)
        first_s, first = manifest(folder, workspace / "cache.sqlite", blobs)
        again = []
        for number in range(AGAIN):
            (folder / "000000" / "000000.bin").write_bytes(b"changed %d" % number)
            again_s, scan = manifest(folder, workspace / "cache.sqlite", blobs)
            if scan.files != first.files or scan.sha256 == first.sha256 or scan.read_bytes > FILE_BYTES:
                raise RuntimeError(f"the second manifest is wrong: {scan}")
            again.append(again_s)
    yield {
        "case": f"{count} files of {FILE_BYTES >> 10} KiB",
        "sha256sum_s": round(plain_s, 2),
        "manifest_s": round(first_s, 2),
        "times_sha256sum": round(first_s / plain_s, 2),
        "one_changed_s": round(min(again), 3),
        "times_faster": round(first_s / min(again), 1),
        "bars": {"times_sha256sum": 1.5, "times_faster": 20},
        "met": first_s <= 1.5 * plain_s and first_s >= 20 * min(again),
    }
