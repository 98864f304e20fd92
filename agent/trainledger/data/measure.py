"""Digest, size and manifest of a dataset: what the second claim of `use_dataset` says."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from trainledger_schemas.blobs import FolderBlobs
from trainledger_schemas.clock import Clock

from ..placement import NETWORK, filesystem_type
from ..readable_files import why_not_read
from ..redaction import redact
from .folder_scan import ALL, FolderScan, Scanner, hash_file
from .git_reference import git_reference
from .hashing_progress import HashingProgress, Tell, tree_bytes
from .path_selection import PathSelection
from .references import find_reference
from .stat_cache import StatCache

__all__ = ["measure_dataset", "open_cache", "scan_folder"]

STORING_THREADS = 4

_MACHINE_ID = Path("/etc/machine-id")


def measure_dataset(
    path: Path | None,
    where: str | None,
    *,
    blobs: FolderBlobs,
    clock: Clock,
    selection: PathSelection = ALL,
    tell: Tell = lambda done, expected: None,
) -> dict[str, Any]:
    """The fields of the claim that can be known of a path or an address; blocks as long as reading takes.

    `tell` is told now and then how far it is (see `hashing_progress`), in this thread. Raises OSError when the path
    itself cannot be read."""
    if path is not None and (why := why_not_read(os.fspath(path))) is not None:
        return {"status": "unmeasured", "reasons": [why]}
    reference = find_reference(path, where)
    if reference.system is None and path is not None:
        reference = git_reference(path, clock=clock) or reference
    found: dict[str, Any] = {
        "system": reference.system,
        "reference": None if reference.version is None else redact(reference.version),
        "is_fixed": reference.is_fixed if reference.system else None,
        "reasons": list(reference.reasons),
    }
    if path is None:
        return found | {
            "status": "unmeasured",
            "digest": reference.digest,
            "size_bytes": reference.size_bytes,
        }
    progress = HashingProgress(tell, partial(tree_bytes, path, selection), clock=clock).add
    if path.is_dir():
        with open_cache(path, blobs, scope=selection.scope) as cache:
            scan = scan_folder(
                path, cache, blobs, started_ns=clock.wall_ns(), selection=selection, progress=progress
            )
        return _of_folder(scan, found)
    file = hash_file(os.fsencode(os.path.realpath(path)), None, progress)
    if not file.is_stable:
        found["reasons"].append("changed while it was read")
    return found | {
        "digest": f"sha256:{file.sha256}",
        "size_bytes": file.key.size_bytes,
        "files": 1,
        "status": "complete" if file.is_stable else "unstable",
    }


def _of_folder(scan: FolderScan, found: dict[str, Any]) -> dict[str, Any]:
    status = "partial" if scan.is_partial else "complete" if scan.is_stable else "unstable"
    return found | {
        "digest": f"sha256:{scan.sha256}",
        "manifest_sha256": scan.sha256,
        "size_bytes": scan.size_bytes,
        "files": scan.files,
        "status": status,
        "reasons": found["reasons"] + [redact(reason) for reason in scan.reasons],
    }


def scan_folder(
    path: Path,
    cache: StatCache,
    blobs: FolderBlobs,
    *,
    started_ns: int,
    selection: PathSelection = ALL,
    progress: Callable[[int], None] = lambda size_bytes: None,
) -> FolderScan:
    """The manifest of a folder, its nodes stored when this returns; raises OSError."""
    # A node is two fsyncs: beside the reading of files they take no time of their own.
    with ThreadPoolExecutor(max_workers=STORING_THREADS) as pool:
        storing: list[Future[object]] = []

        def store(node: bytes) -> None:
            storing.append(pool.submit(blobs.put, node))

        scanner = Scanner(
            cache,
            store,
            started_ns=started_ns,
            is_stored=blobs.has,
            selection=selection,
            progress=progress,
        )
        scan = scanner.scan(os.fsencode(path))
        for future in storing:
            future.result()
    return scan


def open_cache(path: Path, blobs: FolderBlobs, *, scope: str = "") -> StatCache:
    """The cache of this host; none for a file system whose inodes and times nobody vouches for."""
    kind = filesystem_type(path)
    is_trusted = kind not in NETWORK and not kind.startswith("fuse")
    try:
        machine = _MACHINE_ID.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        machine = ""
    return StatCache(blobs.folder / "stat-cache.sqlite" if is_trusted else None, machine + scope)
