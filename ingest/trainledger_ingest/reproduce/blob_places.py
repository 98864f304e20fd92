"""Where the blobs of this machine's users lie: beside the journals of each, see docs/adr/0006."""

import os
from pathlib import Path

from trainledger_schemas.blobs import BLOBS_FOLDER, FolderBlobs, SeveralBlobs

from ..settings import IngestSettings

__all__ = ["local_blobs"]


def local_blobs(settings: IngestSettings) -> SeveralBlobs:
    """All that this user may read: below the journals in use and the user's own; and the home's, for copies."""
    found: dict[Path, None] = {settings.home / BLOBS_FOLDER: None}
    for journals in (settings.node_folder, settings.home.parent / "trainledger" / "journals"):
        # A folder that may not be listed still holds this user's own.
        users = [str(os.geteuid())]
        try:
            users += sorted(entry.name for entry in os.scandir(journals) if entry.name.isdecimal())
        except OSError:
            pass
        found |= dict.fromkeys(journals / user / BLOBS_FOLDER for user in users)
    return SeveralBlobs(FolderBlobs(folder) for folder in found if os.access(folder, os.R_OK | os.X_OK))
