"""Getting stored artifacts back, and the differences of two manifests."""

import os
from pathlib import Path

from trainledger_schemas.blobs import BlobSource
from trainledger_schemas.errors import NotFoundError, UsageError
from trainledger_schemas.tree_manifest import Change, compare_trees, walk_tree

from .artifact_lookup import Version
from .reproduce.file_tree import LINK, FileTree

__all__ = ["compare_versions", "restore_artifact"]


def restore_artifact(version: Version, target: Path, *, blobs: BlobSource) -> list[str]:
    """Write a version to `target`, which must not exist; what was left out, and why.

    Every file is checked against its digest. Raises UsageError, NotFoundError or CorruptDataError; a folder that was
    begun stays, so that the disk shows how far it came."""
    if os.path.lexists(target):
        raise UsageError(f"{target} exists; give the name of a new file or folder")
    if version.manifest_sha256 is None:
        target.parent.mkdir(parents=True, exist_ok=True)
        blobs.copy_to(version.digest.removeprefix("sha256:"), target)
        return []
    target.mkdir(parents=True)
    tree, left_out = FileTree(target), list[str]()
    for path, child in walk_tree(version.manifest_sha256, blobs.read):
        if child.type == "d":
            tree.make_folder(path)
        elif child.type != "l":
            place = Path(os.fsdecode(tree.place(path)))
            blobs.copy_to(child.sha256, place)
            place.chmod(0o755 if child.type == "x" else 0o644)
        elif _leads_out(path, child.target):
            left_out.append(f"{os.fsdecode(path)}: a link to {os.fsdecode(child.target)}, out of the folder")
        else:
            tree.write(path, child.target, LINK)
    return left_out


def compare_versions(old: Version, new: Version, *, blobs: BlobSource) -> list[Change]:
    """What differs between two versions that are folders; raises UsageError or NotFoundError."""
    for version in (old, new):
        if version.digest.startswith("table-v1:"):
            raise UsageError(
                f"{version.name}:{version.version} is a table in memory: it has no files to compare"
            )
        if version.manifest_sha256 is None:
            raise UsageError(
                f"{version.name}:{version.version} is a file, not a folder: there is no list to compare"
            )
        if not blobs.has(version.manifest_sha256):
            raise NotFoundError(
                f"the manifest of {version.name}:{version.version} is not on this machine; it lies beside the "
                "journals of the run that used it"
            )
    return compare_trees(str(old.manifest_sha256), str(new.manifest_sha256), blobs.read)


def _leads_out(path: bytes, target: bytes) -> bool:
    inside = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return target.startswith(b"/") or inside == b".." or inside.startswith(b"../")
