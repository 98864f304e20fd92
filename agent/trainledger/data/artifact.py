"""Keeps an artifact: every file whole under its SHA-256, a folder by its manifest too.

What the training set aside (`Held`) is stored; a file that is only linked counts when it is, behind
the reading, what it was when the training named it. A file whose bytes are kept already is read and not written.
Files of a folder are stored some at a time, since each waits for the disk twice. Limit: files are stored while
ROOM_BYTES_MIN of the disk stay free.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from trainledger_schemas.blobs import FolderBlobs
from trainledger_schemas.clock import Clock
from trainledger_schemas.daemon_pool import DaemonPool
from trainledger_schemas.tree_manifest import Child, walk_tree

from ..readable_files import why_not_read
from ..redaction import redact
from .folder_scan import ALL, Scanner, hash_file
from .hashing_progress import HashingProgress, Tell, tree_bytes
from .request import DataRequest, Held
from .stat_cache import StatCache

__all__ = ["let_go", "store_artifact"]

HELD_FOLDER = "held"
# Twice as long as any process works: its folder belongs to nobody then.
HELD_NS_MAX = 7200 * 10**9
ROOM_BYTES_MIN = 1 << 30
STORING_THREADS = 4


def store_artifact(
    request: DataRequest,
    *,
    blobs: FolderBlobs,
    clock: Clock,
    tell: Tell = lambda done, expected: None,
) -> dict[str, Any]:
    """The fields of the claim of a stored artifact; raises OSError where the path cannot be read.

    A repeat stores nothing twice. What was held is there until `let_go`. `tell` is told now and then how far it is:
    half of the bytes are done when all are hashed, and all when they are stored."""
    if request.path is None:
        return {"status": "unmeasured", "reasons": ["an address is recorded, its bytes are not kept"]}
    held = request.held
    if held is None and (why := why_not_read(os.fspath(request.path))) is not None:
        return {"status": "unmeasured", "reasons": [why]}
    source = held.folder / "x" if held else Path(os.path.realpath(request.path))

    def tell_half(done: int, expected: int | None) -> None:
        tell(done // 2, None if expected is None else expected // 2)

    progress = HashingProgress(tell_half, lambda: 2 * tree_bytes(source, ALL), clock=clock)
    keeper = _Keeper(blobs, held, progress.add)
    return keeper.folder(source, started_ns=clock.wall_ns()) if source.is_dir() else keeper.file(source)


def let_go(request: DataRequest, *, blobs: FolderBlobs, now_ns: int) -> None:
    """Remove what was held for this request, and what a process that was killed has left behind; never raises."""
    if request.held is not None:
        shutil.rmtree(request.held.folder, ignore_errors=True)
    try:
        left = [
            entry.path
            for entry in os.scandir(blobs.folder / HELD_FOLDER)
            if entry.stat(follow_symlinks=False).st_mtime_ns < now_ns - HELD_NS_MAX
        ]
    except OSError:
        return
    for path in left:
        shutil.rmtree(path, ignore_errors=True)


class _Keeper:
    def __init__(self, blobs: FolderBlobs, held: Held | None, progress: Callable[[int], None]) -> None:
        self._blobs = blobs
        self._progress = progress
        self._lock = threading.Lock()
        self._linked = {item.path: item for item in held.linked} if held else {}
        self._is_held = held is not None
        self._new_bytes = 0
        self._is_full = False
        self._reasons: list[str] = []

    def file(self, source: Path) -> dict[str, Any]:
        scan = hash_file(os.fsencode(source), None, self._progress)
        is_kept = scan.is_stable and self._keep(source, b"", scan.sha256, scan.key.size_bytes)
        if not scan.is_stable:
            self._reasons.append("changed while it was stored")
        return {
            "digest": f"sha256:{scan.sha256}" if is_kept or not self._reasons else None,
            "size_bytes": scan.key.size_bytes,
            "files": 1,
            "is_stored": is_kept,
            **self._rest(is_kept=is_kept),
        }

    def folder(self, source: Path, *, started_ns: int) -> dict[str, Any]:
        nodes: dict[str, bytes] = {}

        def store(node: bytes) -> None:
            ref = self._blobs.put(node)
            nodes[ref.sha256] = node

        scanner = Scanner(StatCache(None, ""), store, started_ns=started_ns, progress=self._progress)
        scan = scanner.scan(os.fsencode(source))
        are_kept = self._keep_files(source, walk_tree(scan.sha256, nodes.__getitem__))
        self._reasons += [redact(reason) for reason in scan.reasons]
        is_kept = are_kept and scan.is_stable and not scan.is_partial
        return {
            "digest": f"sha256:{scan.sha256}",
            "manifest_sha256": scan.sha256,
            "size_bytes": scan.size_bytes,
            "files": scan.files,
            "is_stored": is_kept,
            **self._rest(is_kept=is_kept),
        }

    def _keep_files(self, source: Path, tree: Iterable[tuple[bytes, Child]]) -> bool:
        """Whether all files are kept. The same bytes are stored from the first place where they were found."""
        are_kept, seen = True, set[str]()
        with DaemonPool[bool](STORING_THREADS, "trainledger-storing") as pool:
            for path, child in tree:
                if child.type not in "fx":
                    continue
                if child.sha256 in seen:
                    self._count(child.size_bytes)
                    continue
                seen.add(child.sha256)
                if pool.is_busy:
                    are_kept &= pool.take()
                place = source / os.fsdecode(path)
                pool.submit(partial(self._keep, place, path, child.sha256, child.size_bytes))
            while pool.under_way:
                are_kept &= pool.take()
        return are_kept

    def _count(self, size_bytes: int) -> None:
        with self._lock:
            self._progress(size_bytes)

    def _rest(self, *, is_kept: bool) -> dict[str, Any]:
        is_changed = bool(self._reasons) and not self._is_full
        status = "complete" if is_kept else "unstable" if is_changed else "failed"
        return {"new_bytes": self._new_bytes, "status": status, "reasons": self._reasons[:20]}

    def _keep(self, source: Path, inner: bytes, sha256: str, size_bytes: int) -> bool:
        if self._linked and inner in self._linked and not self._is_as_linked(source, inner):
            return False
        if self._blobs.has(sha256):
            self._count(size_bytes)
            return True
        if shutil.disk_usage(self._blobs.folder).free < size_bytes + ROOM_BYTES_MIN:
            if not self._is_full:  # once, not for each file of a folder
                self._is_full = True
                self._reasons.append("not stored: the disk of the blobs is almost full")
            return False
        if self._is_held and inner not in self._linked:
            self._blobs.adopt(source, sha256)
            self._count(size_bytes)
        elif self._blobs.put_file(source, self._count).sha256 != sha256 or (
            inner in self._linked and not self._is_as_linked(source, inner)
        ):
            self._reasons.append("changed while it was stored")
            return False
        with self._lock:
            self._new_bytes += size_bytes
        return True

    def _is_as_linked(self, source: Path, inner: bytes) -> bool:
        was, info = self._linked[inner], source.lstat()
        same = (info.st_ino, info.st_size, info.st_mtime_ns) == (was.inode, was.size_bytes, was.mtime_ns)
        if not same:
            self._reasons.append(
                "written again in place before it was stored: write to a new file, or log it before the next write"
            )
        return same
