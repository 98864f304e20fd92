"""Digest, size and manifest of a dataset: what the second claim of `use_dataset` says."""

import os
from pathlib import Path
from typing import Any

from trainledger_schemas.blobs import FolderBlobs
from trainledger_schemas.clock import Clock

from ..placement import NETWORK, filesystem_type
from ..redaction import redact
from .folder_scan import Scanner, hash_file
from .git_reference import git_reference
from .references import find_reference
from .stat_cache import StatCache

__all__ = ["measure_dataset", "open_cache"]

_MACHINE_ID = Path("/etc/machine-id")


def measure_dataset(
    path: Path | None, where: str | None, *, blobs: FolderBlobs, clock: Clock
) -> dict[str, Any]:
    """The fields of the claim that can be known of a path or an address; blocks as long as reading takes.

    Raises OSError when the path itself cannot be read."""
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
    if path.is_dir():
        return _folder(path, found, blobs=blobs, clock=clock)
    scan = hash_file(os.fsencode(os.path.realpath(path)))
    if not scan.is_stable:
        found["reasons"].append("changed while it was read")
    return found | {
        "digest": f"sha256:{scan.sha256}",
        "size_bytes": scan.key.size_bytes,
        "files": 1,
        "status": "complete" if scan.is_stable else "unstable",
    }


def _folder(path: Path, found: dict[str, Any], *, blobs: FolderBlobs, clock: Clock) -> dict[str, Any]:
    with open_cache(path, blobs) as cache:
        scan = Scanner(cache, blobs.put, started_ns=clock.wall_ns()).scan(os.fsencode(path))
    status = "partial" if scan.is_partial else "complete" if scan.is_stable else "unstable"
    return found | {
        "digest": f"sha256:{scan.sha256}",
        "manifest_sha256": scan.sha256,
        "size_bytes": scan.size_bytes,
        "files": scan.files,
        "status": status,
        "reasons": found["reasons"] + [redact(reason) for reason in scan.reasons],
    }


def open_cache(path: Path, blobs: FolderBlobs) -> StatCache:
    """The cache of this host; none for a file system whose inodes and times nobody vouches for."""
    kind = filesystem_type(path)
    is_trusted = kind not in NETWORK and not kind.startswith("fuse")
    try:
        machine = _MACHINE_ID.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        machine = ""
    return StatCache(blobs.folder / "stat-cache.sqlite" if is_trusted else None, machine)
