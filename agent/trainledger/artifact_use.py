"""Which version a training means by resnet:production, and where its bytes are: asked of `up`, on this machine.

Loaded only by a training that asks. Bytes are those of this user's blobs; a folder is put together of hard links.
Nothing here raises but OSError and TrainledgerError.
"""

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from trainledger_schemas.blobs import FolderBlobs
from trainledger_schemas.tree_manifest import walk_tree

from .local_api import ask

__all__ = ["FoundArtifact", "find_artifact", "open_artifact"]

ANSWER_S_MAX = 5.0


class FoundArtifact(NamedTuple):
    """A version: `digest` with its sha256:, the top node of the manifest of a folder."""

    version: str | None
    digest: str
    manifest_sha256: str | None


def find_artifact(socket_path: Path, reference: str) -> FoundArtifact | None:
    """What the ledger says; None without `up`, or when nothing is called so. At most ANSWER_S_MAX."""
    told = ask(socket_path, f"/artifact?reference={quote(reference, safe='')}", timeout_s=ANSWER_S_MAX)
    try:
        return FoundArtifact(told["version"], str(told["digest"]), told["manifest_sha256"])
    except KeyError:
        return None


def open_artifact(found: FoundArtifact, blobs: FolderBlobs) -> Path | None:
    """A path to read it from, which must not be written to; None where the bytes are not here."""
    if found.manifest_sha256 is None:
        return blobs.path_of(found.digest.removeprefix("sha256:"))
    folder = blobs.folder / "opened" / found.manifest_sha256
    if folder.is_dir():
        return folder
    making = blobs.folder / "opened" / f"{found.manifest_sha256}.{os.getpid()}"
    making.mkdir(mode=0o700, parents=True)
    for path, child in walk_tree(found.manifest_sha256, blobs.read):
        place = making / os.fsdecode(path)
        if child.type == "d":
            place.mkdir()
        elif child.type == "l":
            place.symlink_to(os.fsdecode(child.target))
        elif (kept := blobs.path_of(child.sha256)) is None:
            return None
        else:
            os.link(kept, place)
    try:
        making.rename(folder)
    except OSError:  # another process was faster
        return folder if folder.is_dir() else making
    return folder
