"""The manifest of a folder as it lies: every file hashed, or taken from the cache where it is surely the same.

Guarantees: symbolic links are kept as links and never followed (the top itself is); what changed while it was read
is read again, and told as unstable when it changed twice; what cannot be read is told and is not in the manifest.
Nothing is written into the folder. Limits: SCAN_FILES_MAX files, DEPTH_MAX folders deep, beyond which the scan is
partial and says so. One thread: for small files a second one is slower, for large ones the disk decides.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from trainledger_schemas.tree_manifest import EMPTY_FOLDER, Child, encode_node, parse_node

from .bulk_stat import key_of
from .folder_listing import FileKey, Listing, fingerprints_of, list_folder
from .path_selection import PathSelection
from .stat_cache import KnownFolder, StatCache, is_settled

__all__ = ["ALL", "FileScan", "FolderScan", "Scanner", "hash_file"]

SCAN_FILES_MAX = 20_000_000
DEPTH_MAX = 200
BLOCK_BYTES = 1 << 20
ALL = PathSelection()
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
    """Scans one folder or file. `store` is given each node that `is_stored` does not know; `started_ns`: wall time
    when the scan began. With a `selection`, only what it takes is in the manifest, and the cache must be of it."""

    def __init__(
        self,
        cache: StatCache,
        store: Callable[[bytes], object],
        *,
        started_ns: int,
        is_stored: Callable[[str], bool] = lambda sha256: False,
        selection: PathSelection = ALL,
        progress: Callable[[int], None] = lambda size_bytes: None,
    ) -> None:
        self._cache = cache
        self._store = store
        self._started_ns = started_ns
        self._is_stored = is_stored
        self._selection = selection
        self._progress = progress
        self._top = b""
        self._scan = FolderScan()
        self._known: dict[bytes, KnownFolder] = {}
        self._fingerprints: dict[bytes, bytes | None] = {}

    def scan(self, top: bytes) -> FolderScan:
        """The manifest of a folder; raises OSError when the top cannot be read."""
        self._top = os.path.realpath(top)
        self._scan = FolderScan()
        os.listdir(self._top)  # trouble with the top itself is the caller's
        self._known = self._cache.folders(self._top)
        paths = [path for path, known in self._known.items() if known.fingerprint is not None]
        files = sum(known.files for known in self._known.values())
        self._fingerprints = fingerprints_of(paths, files=files)
        self._scan.sha256, self._scan.size_bytes = self._folder(self._top, 0)
        return self._scan

    def _folder(self, path: bytes, depth: int) -> tuple[str, int]:
        known = self._unchanged(path)
        node = None
        if known is None:
            known, node = self._look_at(path)
        size = known.size_bytes
        children: list[Child] = []
        for name in known.folders:
            if depth >= DEPTH_MAX:
                self._scan.is_partial = True
                self._scan.tell(f"more than {DEPTH_MAX} folders deep: {_shown(path)}")
                break
            sha256, inner = self._folder(path + b"/" + name, depth + 1)
            if self._selection and sha256 == EMPTY_FOLDER:
                continue  # nothing in it counts
            children.append(Child("d", inner, sha256, name))
            size += inner
        if not children and node is None and self._is_stored(known.sha256):
            return known.sha256, size
        if node is None and (node := self._cache.node(path)) is None:
            self._scan.files -= known.files  # the cache lost its row meanwhile
            known, node = self._look_at(path)
            size = known.size_bytes + sum(child.size_bytes for child in children)
        if children:
            node = encode_node(children + parse_node(node))
        self._store(node)
        return hashlib.sha256(node).hexdigest(), size

    def _unchanged(self, path: bytes) -> KnownFolder | None:
        """What is known of a folder that is as it was; counts its files."""
        known = self._known.get(path)
        is_same = known is not None and known.fingerprint is not None
        if known is None or not is_same or self._fingerprints.get(path) != known.fingerprint:
            return None
        if self._scan.files + known.files > SCAN_FILES_MAX:
            return None
        self._scan.files += known.files
        self._progress(known.size_bytes)
        return known

    def _look_at(self, path: bytes) -> tuple[KnownFolder, bytes]:
        listing = self._list(path)
        lost: set[bytes] = set()
        node, kept = self._files_node(path, listing, lost)
        size = sum(key[2] for name, key in listing.files if name not in lost)
        count = len(listing.files) - len(lost)
        self._scan.files += count
        keys = {name: key for name, (key, _) in kept.items()}
        known = KnownFolder(
            listing.fingerprint if keys == dict(listing.files) else None,
            hashlib.sha256(node).hexdigest(),
            size,
            count,
            tuple(listing.folders),
        )
        self._cache.keep(path, known, node, kept)
        return known, node

    def _list(self, path: bytes) -> Listing:
        listing = Listing()
        try:
            listing = list_folder(path)
        except OSError as error:
            self._cannot_read(path, error)
        if self._selection:
            self._select(path, listing)
        for name in listing.gone:
            self._cannot_read(path + b"/" + name, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
        for name in listing.others:
            self._scan.tell(f"no file: {_shown(path + b'/' + name)}")
        if self._scan.files + len(listing.files) > SCAN_FILES_MAX:
            listing.files = listing.files[: SCAN_FILES_MAX - self._scan.files]
            listing.fingerprint = None
            self._scan.is_partial = True
            self._scan.tell(f"more than {SCAN_FILES_MAX} files")
        return listing

    def _select(self, path: bytes, listing: Listing) -> None:
        inner = path.removeprefix(self._top.rstrip(b"/")).lstrip(b"/")
        prefix = inner + b"/" if inner else b""
        takes = self._selection.takes
        listing.folders = [name for name in listing.folders if self._selection.enters(prefix + name)]
        listing.files = [item for item in listing.files if takes(prefix + item[0])]
        listing.links = [name for name in listing.links if takes(prefix + name)]
        listing.others = [name for name in listing.others if takes(prefix + name)]
        listing.gone = [name for name in listing.gone if takes(prefix + name)]

    def _files_node(
        self, path: bytes, listing: Listing, lost: set[bytes]
    ) -> tuple[bytes, dict[bytes, tuple[FileKey, str]]]:
        known = self._cache.files(path)
        kept: dict[bytes, tuple[FileKey, str]] = {}
        children = [self._link(path, name) for name in listing.links]
        for name, numbers in listing.files:
            was = known.get(name)
            key = FileKey(*numbers)
            if was is not None and was[0] == key:
                sha256 = was[1]
                kept[name] = was
                self._progress(key.size_bytes)
            else:
                found = self._read(path + b"/" + name, key)
                if found is None:
                    lost.add(name)
                    continue
                key, sha256 = found.key, found.sha256
                if found.is_stable and is_settled(key, started_ns=self._started_ns):
                    kept[name] = (key, sha256)
            children.append(Child("x" if key.mode & 0o111 else "f", key.size_bytes, sha256, name))
        return encode_node(children), kept

    def _link(self, path: bytes, name: bytes) -> Child:
        target = self._target(path + b"/" + name)
        return Child("l", len(target), hashlib.sha256(target).hexdigest(), name, target)

    def _read(self, path: bytes, key: FileKey) -> FileScan | None:
        try:
            found = hash_file(path, key, self._progress)
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


def hash_file(
    path: bytes, key: FileKey | None = None, progress: Callable[[int], None] = lambda size_bytes: None
) -> FileScan:
    """Hash a file whose key was `key` before; once more if it has another one behind. Raises OSError.

    Only a regular file is opened, and of one that gives more bytes than its size no more is read.
    `progress` is told the bytes of each block."""
    for is_last in (False, True):
        before = key_of(os.lstat(path)) if key is None or is_last else tuple(key)
        if not stat.S_ISREG(before[-1]):
            raise OSError(errno.EINVAL, "it is no regular file")
        sha256, after = _hash_once(path, progress)
        if before == after:
            return FileScan(FileKey(*after), sha256, is_stable=True)
    return FileScan(FileKey(*after), sha256, is_stable=False)


def _hash_once(path: bytes, progress: Callable[[int], None]) -> tuple[str, tuple[int, ...]]:
    fd = os.open(path, _FLAGS)
    try:
        opened = os.fstat(fd)
        if not stat.S_ISREG(opened.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        block = os.read(fd, BLOCK_BYTES)
        digest = hashlib.sha256(block)
        progress(len(block))
        read_bytes = len(block)
        while len(block) and read_bytes <= opened.st_size and (block := os.read(fd, BLOCK_BYTES)):
            digest.update(block)
            progress(len(block))
            read_bytes += len(block)
        after = key_of(os.fstat(fd))
        if read_bytes > opened.st_size and after == key_of(opened):
            raise OSError(errno.EFBIG, "it gives more bytes than its size says")
        return digest.hexdigest(), after
    finally:
        os.close(fd)


def _shown(path: bytes) -> str:
    return os.fsdecode(path).encode("utf-8", "backslashreplace").decode()
