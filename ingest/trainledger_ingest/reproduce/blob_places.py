"""Where blobs are read from: beside the journals of this machine's users (docs/adr/0006), then the store of all
machines where TRAINLEDGER_BLOBS names one."""

import os
import threading
from pathlib import Path

from trainledger_schemas.blob_address import BlobAddress, parse_blob_address
from trainledger_schemas.blobs import BLOBS_FOLDER, BlobSource, FolderBlobs, SeveralBlobs
from trainledger_schemas.shared_blobs import SharedBlobs

from ..settings import IngestSettings

__all__ = ["blob_folders", "known_blobs", "shared_blobs"]


def known_blobs(settings: IngestSettings) -> SeveralBlobs:
    """All that this user may read here, then what all machines share. Raises SettingsError."""
    folders: list[BlobSource] = [FolderBlobs(folder) for folder in blob_folders(settings)]
    return SeveralBlobs(
        folders if settings.blobs is None else [*folders, shared_blobs(parse_blob_address(settings.blobs))]
    )


def shared_blobs(address: BlobAddress) -> BlobSource:
    """The store of all machines, reached at the first question only: what is here needs no network."""
    return _Later(address)


def blob_folders(settings: IngestSettings) -> list[Path]:
    """What this user may read: below the journals in use and the user's own; and the home's, for copies."""
    found: dict[Path, None] = {settings.home / BLOBS_FOLDER: None}
    for journals in (settings.node_folder, settings.home.parent / "trainledger" / "journals"):
        # A folder that may not be listed still holds this user's own.
        users = [str(os.geteuid())]
        try:
            users += sorted(entry.name for entry in os.scandir(journals) if entry.name.isdecimal())
        except OSError:
            pass
        found |= dict.fromkeys(journals / user / BLOBS_FOLDER for user in users)
    return [folder for folder in found if os.access(folder, os.R_OK | os.X_OK)]


class _Later:
    def __init__(self, address: BlobAddress) -> None:
        self._address = address
        self._blobs: SharedBlobs | None = None
        self._opening = threading.Lock()
        self.place = str(address)

    def has(self, sha256: str) -> bool:
        return self._opened().has(sha256)

    def read(self, sha256: str) -> bytes:
        return self._opened().read(sha256)

    def copy_to(self, sha256: str, target: Path) -> None:
        self._opened().copy_to(sha256, target)

    def _opened(self) -> SharedBlobs:
        with self._opening:
            if self._blobs is None:
                # Loaded here: the client of S3 takes 0.3 s.
                from trainledger_schemas.s3_objects import S3Objects

                self._blobs = SharedBlobs(S3Objects(self._address))
            return self._blobs
