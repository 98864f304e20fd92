"""Blobs: whole files under the SHA-256 of their bytes, in a folder.

    <folder>/sha256/ab/<64 hexadecimal digits>     the bytes, mode 0444
    <folder>/tmp/                                  what is being written
    <folder>/writing.lock                          held, shared, by who stores until what names it is in a journal

Guarantees: a blob has its name only when all its bytes are on disk (file and folder fsynced); the same bytes are
stored once; a blob whose bytes do not have the digest of its name is never handed out as sound. Where blobs of a
user lie is told in docs/adr/0006-blobs-beside-journals.md.
Limits: no removal here (that needs to know who refers to a blob, and that nobody is `writing`).
"""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, TypeVar

from .errors import CorruptDataError, NotFoundError

__all__ = [
    "BLOBS_FOLDER",
    "WRITING_LOCK",
    "BlobRef",
    "BlobSource",
    "BlobStore",
    "FolderBlobs",
    "SeveralBlobs",
    "sha256_of",
]

BLOBS_FOLDER = "blobs"
WRITING_LOCK = "writing.lock"
BLOCK_BYTES = 1 << 20
_ZEROS = bytes(BLOCK_BYTES)
ABANDONED_NS = 2 * 86_400 * 10**9
_DIGEST = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


class BlobRef(NamedTuple):
    """A stored blob: SHA-256 in hexadecimal digits, and its size in bytes."""

    sha256: str
    size_bytes: int


class BlobSource(Protocol):
    """Where blobs are read from: a folder, S3 (`shared_blobs`), or several of them."""

    place: str
    """Where it is, as words for a person."""

    def has(self, sha256: str) -> bool:
        """Whether there is a blob of this digest; its bytes are not checked."""

    def copy_to(self, sha256: str, target: Path) -> None:
        """Write a blob to a new file. Raises NotFoundError, or CorruptDataError when its bytes are others."""

    def read(self, sha256: str) -> bytes:
        """The bytes of a blob; raises as `copy_to`."""


class BlobStore(BlobSource, Protocol):
    """Where blobs are also written."""

    def put(self, data: bytes) -> BlobRef:
        """Store bytes; a repeat is harmless. Raises OSError."""

    def put_file(self, path: Path) -> BlobRef:
        """Store the bytes of a file as they are read now; a repeat is harmless. Raises OSError."""


class FolderBlobs:
    """Blobs in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = str(folder)

    def put(self, data: bytes) -> BlobRef:
        """See BlobStore."""
        return self._store(iter((data,)), hashlib.sha256(data).hexdigest())

    def put_file(self, path: Path, progress: Callable[[int], None] = lambda size_bytes: None) -> BlobRef:
        """See BlobStore. The digest is of the bytes that were stored, however the file changes meanwhile. `progress`
        is told the bytes of each block."""

        def blocks() -> Iterator[bytes]:
            for block in _blocks(source):
                progress(len(block))
                yield block

        with path.open("rb") as source:
            return self._store(blocks(), None)

    def adopt(self, path: Path, sha256: str) -> bool:
        """Take a file of this disk that has this digest and that nobody writes to any more: it is moved, or removed
        where the store has its bytes. Returns whether they are new. Raises OSError."""
        if self.has(sha256):
            path.unlink()
            return False
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fchmod(fd, 0o444)
            os.fsync(fd)
        finally:
            os.close(fd)
        target = self._path(sha256)
        self._make(target.parent)
        os.rename(path, target)
        _sync_folder(target.parent)
        return True

    def has(self, sha256: str) -> bool:
        """See BlobStore."""
        return self._path(sha256).is_file()

    def path_of(self, sha256: str) -> Path | None:
        """Where a blob lies, to be read only; None where there is none. Its bytes are not checked."""
        path = self._path(sha256)
        return path if path.is_file() else None

    def read(self, sha256: str) -> bytes:
        """See BlobStore."""
        with self._opened(sha256) as source:
            data = source.read()
        self._check(sha256, hashlib.sha256(data).hexdigest())
        return data

    def copy_to(self, sha256: str, target: Path) -> None:
        """See BlobStore."""
        digest = hashlib.sha256()
        with self._opened(sha256) as source, target.open("xb") as sink:
            try:
                _write(_blocks(source), sink, digest.update)
                self._check(sha256, digest.hexdigest())
            except BaseException:
                # Also for KeyboardInterrupt: half a file must not look like a whole one.
                target.unlink()
                raise

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Held from before the first look at what is stored until what names it is in a journal: nothing is removed
        meanwhile. Waits for a removal under way (seconds). Raises OSError."""
        fd = os.open(self._make(self.folder) / WRITING_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            yield
        finally:
            os.close(fd)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A folder on the disk of the blobs for what is made before it is stored; gone at the end."""
        parent = self._make(self.folder / "tmp")
        _sweep(parent)
        with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as name:
            yield Path(name)

    def _store(self, blocks: Iterable[bytes], known: str | None) -> BlobRef:
        if known is not None and self.has(known):
            return BlobRef(known, self._path(known).stat().st_size)
        digest = hashlib.sha256()
        fd, name = tempfile.mkstemp(dir=self._make(self.folder / "tmp"))
        try:
            with open(fd, "wb") as sink:
                size = _write(blocks, sink, digest.update)
                os.fchmod(fd, 0o444)
                os.fsync(fd)
            target = self._path(digest.hexdigest())
            if not target.is_file():
                self._make(target.parent)
                os.rename(name, target)
                _sync_folder(target.parent)
        finally:
            Path(name).unlink(missing_ok=True)
        return BlobRef(digest.hexdigest(), size)

    def _opened(self, sha256: str) -> BinaryIO:
        try:
            return self._path(sha256).open("rb")
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.folder} has no blob sha256:{sha256}") from error
        except PermissionError as error:
            raise NotFoundError(
                f"the blob sha256:{sha256} in {self.folder} may not be read by this user; ask its owner"
            ) from error

    def _path(self, sha256: str) -> Path:
        if not _DIGEST.fullmatch(sha256):
            raise CorruptDataError(f"{sha256[:80]!r} is no SHA-256 in hexadecimal digits")
        return self.folder / "sha256" / sha256[:2] / sha256

    def _check(self, sha256: str, found: str) -> None:
        if found != sha256:
            raise CorruptDataError(
                f"{self._path(sha256)} is damaged: its bytes have the SHA-256 {found}; take it from a backup"
            )

    def _make(self, folder: Path) -> Path:
        missing = [place for place in (folder, *folder.parents) if not place.is_dir()]
        for place in reversed(missing):
            place.mkdir(mode=0o700, exist_ok=True)
            _sync_folder(place.parent)
        return folder


class SeveralBlobs:
    """Reads from the first of several stores that has a blob; writes to none."""

    def __init__(self, stores: Iterable[BlobSource]) -> None:
        self._stores = tuple(stores)
        self.place = ", ".join(store.place for store in self._stores) or "any folder of this machine"

    def has(self, sha256: str) -> bool:
        """Whether one of them has it."""
        return any(store.has(sha256) for store in self._stores)

    def read(self, sha256: str) -> bytes:
        """See BlobStore. A copy that is damaged is passed over where another is sound."""
        return self._first(sha256, lambda store: store.read(sha256))

    def copy_to(self, sha256: str, target: Path) -> None:
        """See BlobStore; damaged copies as in `read`."""
        self._first(sha256, lambda store: store.copy_to(sha256, target))

    def _first(self, sha256: str, read: Callable[[BlobSource], T]) -> T:
        damaged: CorruptDataError | None = None
        # Without a look before: of a store that is far away each is a round trip.
        for store in self._stores:
            try:
                return read(store)
            except NotFoundError:
                continue
            except CorruptDataError as error:
                damaged = damaged or error
        if damaged is not None:
            raise damaged
        raise NotFoundError(
            f"the blob sha256:{sha256} was not found in {self.place}; it lies on the machine where the run was, beside "
            "its journals: copy that folder `blobs` here, run this there, or set TRAINLEDGER_BLOBS where the agent of "
            "that machine sends blobs to"
        )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal digits; raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        for block in _blocks(source):
            digest.update(block)
    return digest.hexdigest()


def _blocks(source: BinaryIO) -> Iterator[bytes]:
    while block := source.read(BLOCK_BYTES):
        yield block


def _write(blocks: Iterable[bytes], sink: BinaryIO, note: Callable[[bytes], object]) -> int:
    """Write blocks to a new file; its size. What is zero all over takes no room, as in a file with holes."""
    for block in blocks:
        note(block)
        if block == _ZEROS:
            sink.seek(len(block), os.SEEK_CUR)
        else:
            sink.write(block)
    size = sink.tell()
    sink.truncate(size)
    sink.flush()
    return size


def _sweep(folder: Path) -> None:
    """Remove what writers left that were killed: work takes minutes, so what is days old belongs to nobody."""
    newest_ns = folder.stat().st_mtime_ns
    for entry in os.scandir(folder):
        try:
            if entry.stat(follow_symlinks=False).st_mtime_ns > newest_ns - ABANDONED_NS:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
        except OSError:
            continue  # another process was faster


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
