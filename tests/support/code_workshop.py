"""Stores code into blobs and restores it, in one folder with a user of its own."""

import time
from collections.abc import Mapping
from pathlib import Path

from support.nasty_repository import manifest, plain_environment
from trainledger.provenance.code_store import CodeStore, StoredCode
from trainledger.provenance.programs import Programs
from trainledger.provenance.settings import program_environment
from trainledger.provenance.used_files import UsedFiles
from trainledger_ingest.reproduce.restore import Restored, read_snapshot, restore_code
from trainledger_schemas.blobs import FolderBlobs
from trainledger_schemas.clock import SystemClock

__all__ = ["Workshop"]


class Workshop:
    """Captures into blobs, restores from them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = plain_environment(folder / "home")
        self.blobs = FolderBlobs(folder / "blobs")
        self._restored = 0

    def store(
        self,
        place: Path,
        *,
        started_ns: int | None = None,
        never: tuple[Path, ...] = (),
        used: UsedFiles | None = None,
    ) -> StoredCode:
        programs = Programs(program_environment(self.environment), clock=SystemClock(), budget_s=60)
        began = time.time_ns() + 10**9 if started_ns is None else started_ns
        store = CodeStore(programs, self.blobs, started_ns=began, never=never, used=used)
        return store.store(place, home=self.folder / "home")

    def restore(self, stored: StoredCode, environment: Mapping[str, str] | None = None) -> Restored:
        assert stored.document is not None, stored.reasons
        self._restored += 1
        snapshot = read_snapshot(self.blobs, stored.document.sha256)
        target = self.folder / "restored" / str(self._restored)
        return restore_code(snapshot, target, blobs=self.blobs, environment=environment or self.environment)

    def there_and_back(self, place: Path) -> StoredCode:
        """Capture, restore, compare, and capture the restored folder: the same code has the same id."""
        stored = self.store(place)
        restored = self.restore(stored)
        assert restored.problems == []
        assert manifest(restored.folder) == manifest(place)
        if (restored.folder / ".git").exists():
            assert self.store(restored.folder).snapshot_id == stored.snapshot_id
        return stored
