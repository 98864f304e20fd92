"""Getting stored artifacts back, and the differences of two manifests."""

import os
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from trainledger_schemas.blobs import BlobSource
from trainledger_schemas.daemon_pool import DaemonPool
from trainledger_schemas.errors import CorruptDataError, NotFoundError, UsageError
from trainledger_schemas.tree_manifest import DEPTH_MAX, Change, Child, compare_trees, parse_node

from .artifact_lookup import Version
from .blob_fetching import FETCHES_AT_ONCE, Wanted, fetch
from .reproduce.file_tree import LINK, FileTree

__all__ = ["compare_versions", "restore_artifact"]

_Inside = list[tuple[bytes, Child]]


def restore_artifact(version: Version, target: Path, *, blobs: BlobSource) -> list[str]:
    """Write a version to `target`, which must not exist; what was left out, and why.

    Every file is checked against its digest; many are fetched at once. Raises UsageError, NotFoundError or
    CorruptDataError; a folder that was begun stays, so that the disk shows how far it came."""
    if os.path.lexists(target):
        raise UsageError(f"{target} exists; give the name of a new file or folder")
    if version.manifest_sha256 is None:
        target.parent.mkdir(parents=True, exist_ok=True)
        fetch(blobs, Wanted(version.digest.removeprefix("sha256:"), target))
        return []
    target.mkdir(parents=True)
    return _FolderRestore(target, blobs).run(version.manifest_sha256)


class _FolderRestore:
    """One folder: its nodes and files in any order, a folder before what is in it, links when all files are there."""

    def __init__(self, target: Path, blobs: BlobSource) -> None:
        self._tree = FileTree(target)
        self._blobs = blobs
        self._links: list[tuple[bytes, Child]] = []
        self._waiting: deque[tuple[bytes, Child]] = deque()

    def run(self, top: str) -> list[str]:
        """What was left out, and why."""
        with DaemonPool[_Inside](FETCHES_AT_ONCE, "trainledger-fetch") as pool:
            pool.submit(partial(self._read, b"", top))
            while pool.under_way:
                self._take_in(pool.take())
                while self._waiting and not pool.is_busy:
                    pool.submit(self._work_for(*self._waiting.popleft()))
        left_out = []
        for path, child in sorted(self._links):
            if _leads_out(path, child.target):
                left_out.append(
                    f"{os.fsdecode(path)}: a link to {os.fsdecode(child.target)}, out of the folder"
                )
            else:
                self._tree.write(path, child.target, LINK)
        return left_out

    def _take_in(self, inside: _Inside) -> None:
        for path, child in inside:
            if child.type == "l":
                self._links.append((path, child))
            elif child.type == "d":
                self._tree.make_folder(path)
                # Folders first, so that what waits stays short.
                self._waiting.appendleft((path, child))
            else:
                self._waiting.append((path, child))

    def _work_for(self, path: bytes, child: Child) -> Callable[[], _Inside]:
        if child.type == "d":
            return partial(self._read, path + b"/", child.sha256)
        return partial(self._fetch, Path(os.fsdecode(self._tree.place(path))), child)

    def _read(self, prefix: bytes, sha256: str) -> _Inside:
        if prefix.count(b"/") > DEPTH_MAX:
            raise CorruptDataError(f"a manifest is more than {DEPTH_MAX} folders deep")
        return [(prefix + child.name, child) for child in parse_node(self._blobs.read(sha256))]

    def _fetch(self, place: Path, child: Child) -> _Inside:
        fetch(self._blobs, Wanted(child.sha256, place))
        place.chmod(0o755 if child.type == "x" else 0o644)
        return []


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
