"""The one embedded engine of a test process.

chDB allows one engine folder per process, so every test that wants tables shares this engine and takes a
database of its own. A test that must own the folder itself (locks, kills, reopening) runs in a subprocess.
"""

import atexit
import itertools
import shutil
import tempfile
from functools import cache
from pathlib import Path

from trainledger_ingest.storage.chdb import ChdbStore
from trainledger_ingest.storage.store import UserLimits

__all__ = ["fresh_database", "shared_engine"]

_numbers = itertools.count(1)


@cache
def shared_engine() -> ChdbStore:
    """The engine, opened at the first call and closed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="trainledger-engine-"))
    limits = UserLimits(
        time_s=3, memory_bytes=1 << 30, result_rows=100_000, threads=2, export_bytes=10_000_000
    )
    store = ChdbStore.open(folder, database="trainledger", memory_bytes_max=2 << 30, limits=limits)

    def end() -> None:
        store.close()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return store


def fresh_database() -> ChdbStore:
    """A store on a new, empty database of the shared engine."""
    return shared_engine().for_database(f"trainledger_f{next(_numbers)}")
