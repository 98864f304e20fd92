"""The manifest of a folder as it lies: every file hashed, or taken from the cache where it is surely the same.

Guarantees: symbolic links are kept as links and never followed (the top itself is); what changed while it was read
is read again, and told as unstable when it changed twice; what cannot be read is told and is not in the manifest.
Nothing is written into the folder. Limits: SCAN_FILES_MAX files, DEPTH_MAX folders deep, beyond which the scan is
partial and says so. One thread: for small files a second one is slower, for large ones the disk decides.
"""

import errno
import hashlib
import marshal
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from trainledger_schemas.tree_manifest import Child, encode_node, parse_node

from .stat_cache import FileKey, StatCache, is_settled

__all__ = ["FileScan", "FolderScan", "Scanner"]

SCAN_FILES_MAX = 20_000_000
DEPTH_MAX = 200
BLOCK_BYTES = 1 << 20
REASONS_MAX = 20
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(slots=True)
class FileScan:
    """A file as it was read; `is_stable` False when it changed under the reader both times."""

    key: FileKey
    sha256: str
    is_stable: bool


@dataclass(slots=True)
class FolderScan:
    """What a scan found. `sha256` is of the top node."""

    sha256: str = ""
    size_bytes: int = 0
    files: int = 0
    read_bytes: int = 0
    is_stable: bool = True
    is_partial: bool = False
    reasons: list[str] = field(default_factory=list)

    def tell(self, reason: str) -> None:
        """Add a reason, of very many the first."""
        if len(self.reasons) < REASONS_MAX:
            self.reasons.append(reason)


class Scanner:
    """Scans one folder or file. `store` is given each node; `started_ns`: wall time when the scan began."""

    def __init__(self, cache: StatCache, store: Callable[[bytes], object], *, started_ns: int) -> None:
        self._cache = cache
        self._store = store
        self._started_ns = started_ns
        self._top = b""
        self._scan = FolderScan()

    def scan(self, top: bytes) -> FolderScan:
        """The manifest of a folder; raises OSError when the top cannot be read."""
        self._top = os.path.realpath(top)
        self._scan = FolderScan()
        os.listdir(self._top)  # trouble with the top itself is the caller's
        self._scan.sha256, self._scan.size_bytes = self._folder(self._top, 0)
        return self._scan

    def _folder(self, path: bytes, depth: int) -> tuple[str, int]:
        folders, files, links = self._list(path)
        size = 0
        children: list[Child] = []
        for name in folders:
            if depth >= DEPTH_MAX:
                self._scan.is_partial = True
                self._scan.tell(f"more than {DEPTH_MAX} folders deep: {_shown(path)}")
                break
            sha256, inner = self._folder(path + b"/" + name, depth + 1)
            children.append(Child("d", inner, sha256, name))
            size += inner
        lost: set[bytes] = set()
        node = self._files_node(path, files, links, lost)
        size += sum(key[2] for name, key in files if name not in lost)
        self._scan.files += len(files) - len(lost)
        if children:
            node = encode_node(children + parse_node(node))
        self._store(node)
        return hashlib.sha256(node).hexdigest(), size

    def _list(self, path: bytes) -> tuple[list[bytes], list[tuple[bytes, tuple[int, ...]]], list[bytes]]:
        folders, files, links = [], [], []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        links.append(entry.name)
                    elif entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                    else:
                        info = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(info.st_mode):
                            files.append((entry.name, _key_of(info)))
                        else:
                            self._scan.tell(f"no file: {_shown(path + b'/' + entry.name)}")
        except OSError as error:
            self._cannot_read(path, error)
        if self._scan.files + len(files) > SCAN_FILES_MAX:
            files = files[: SCAN_FILES_MAX - self._scan.files]
            self._scan.is_partial = True
            self._scan.tell(f"more than {SCAN_FILES_MAX} files")
        return sorted(folders), sorted(files), sorted(links)

    def _files_node(
        self, path: bytes, files: list[tuple[bytes, tuple[int, ...]]], links: list[bytes], lost: set[bytes]
    ) -> bytes:
        targets = [(name, self._target(path + b"/" + name)) for name in links]
        fingerprint = hashlib.sha256(marshal.dumps((files, targets), 2)).digest()
        node = self._cache.same_folder(path, fingerprint)
        if node is not None:
            return node
        known = self._cache.files(path)
        kept: dict[bytes, tuple[FileKey, str]] = {}
        children = [
            Child("l", len(target), hashlib.sha256(target).hexdigest(), name, target)
            for name, target in targets
        ]
        for name, numbers in files:
            was = known.get(name)
            key = FileKey(*numbers)
            if was is not None and was[0] == key:
                sha256 = was[1]
                kept[name] = was
            else:
                found = self._read(path + b"/" + name, key)
                if found is None:
                    lost.add(name)
                    continue
                key, sha256 = found.key, found.sha256
                if found.is_stable and is_settled(key, started_ns=self._started_ns):
                    kept[name] = (key, sha256)
            children.append(Child("x" if key.mode & 0o111 else "f", key.size_bytes, sha256, name))
        node = encode_node(children)
        is_whole = len(kept) == len(files) and all(kept[name][0] == key for name, key in files)
        self._cache.keep(path, fingerprint if is_whole else None, node, kept)
        return node

    def _read(self, path: bytes, key: FileKey) -> FileScan | None:
        try:
            found = hash_file(path, key)
        except OSError as error:
            self._cannot_read(path, error)
            return None
        self._scan.read_bytes += found.key.size_bytes
        if not found.is_stable:
            self._scan.is_stable = False
            self._scan.tell(f"changed while it was read: {_shown(path)}")
        return found

    def _target(self, path: bytes) -> bytes:
        try:
            target = os.readlink(path)
        except OSError as error:
            self._cannot_read(path, error)
            return b""
        inside = os.path.normpath(os.path.join(os.path.dirname(path), target))
        if inside != self._top and not inside.startswith(self._top.rstrip(b"/") + b"/"):
            self._scan.tell(f"a link that leads out of the folder is not followed: {_shown(path)}")
        return target

    def _cannot_read(self, path: bytes, error: OSError) -> None:
        if error.errno == errno.ENOENT:
            self._scan.is_stable = False
        self._scan.is_partial = True
        self._scan.tell(f"cannot be read: {_shown(path)}: {error.strerror}")


def hash_file(path: bytes, key: FileKey | None = None) -> FileScan:
    """Hash a file whose key was `key` before; once more if it has another one behind. Raises OSError."""
    for is_last in (False, True):
        before = _key_of(os.lstat(path)) if key is None or is_last else tuple(key)
        sha256, after = _hash_once(path)
        if before == after:
            return FileScan(FileKey(*after), sha256, is_stable=True)
    return FileScan(FileKey(*after), sha256, is_stable=False)


def _hash_once(path: bytes) -> tuple[str, tuple[int, ...]]:
    fd = os.open(path, _FLAGS)
    try:
        block = os.read(fd, BLOCK_BYTES)
        digest = hashlib.sha256(block)
        while len(block) and (block := os.read(fd, BLOCK_BYTES)):
            digest.update(block)
        return digest.hexdigest(), _key_of(os.fstat(fd))
    finally:
        os.close(fd)


def _key_of(info: os.stat_result) -> tuple[int, ...]:
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_mode)


def _shown(path: bytes) -> str:
    return os.fsdecode(path).encode("utf-8", "backslashreplace").decode()
