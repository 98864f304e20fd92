"""The blobs beside the journals of all users of a node, taken as what unknown users made: see adr/0006.

Everything is opened by descriptor and without following links; a file counts when it belongs to the user whose id
names the folder. What is in it is checked by whoever reads it: the name is its SHA-256.
"""

import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from trainledger_schemas.blobs import BLOBS_FOLDER, WRITING_LOCK
from trainledger_schemas.errors import CorruptDataError, NotFoundError

__all__ = ["LocalCopy", "UserBlobs"]

DOCUMENT_BYTES_MAX = 256 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LocalCopy(NamedTuple):
    """A blob of a user on this disk; `used_ns` is when it was written or read last."""

    uid: int
    sha256: str
    size_bytes: int
    used_ns: int


class UserBlobs:
    """Reads, and removes what is kept elsewhere. `also`: folders that are lost with their pods; only read."""

    def __init__(self, node_folder: Path, also: Callable[[], Sequence[Path]] = tuple) -> None:
        self._node_folder = node_folder
        self._also = also

    def users(self) -> list[int]:
        """The users that have blobs here."""
        try:
            found = [int(entry.name) for entry in os.scandir(self._node_folder) if entry.name.isdecimal()]
        except OSError:
            return []
        return sorted(uid for uid in found if (self._node_folder / str(uid) / BLOBS_FOLDER).is_dir())

    @contextmanager
    def path_to(self, sha256: str) -> Iterator[Path | None]:
        """A path by which a blob can be read meanwhile, whoever changes names; None where nobody has it."""
        with ExitStack() as opened:
            for blobs in (self, *map(UserBlobs, self._also())):
                for uid in blobs.users():
                    fd = blobs._open(uid, sha256)
                    if fd is not None:
                        opened.callback(os.close, fd)
                        yield Path(f"/proc/self/fd/{fd}")
                        return
            yield None

    def read(self, sha256: str) -> bytes:
        """The bytes of a document; raises NotFoundError or CorruptDataError."""
        with self.path_to(sha256) as path:
            if path is None:
                raise NotFoundError(f"no user of {self._node_folder} has the blob sha256:{sha256}")
            if path.stat().st_size > DOCUMENT_BYTES_MAX:
                raise CorruptDataError(f"the blob sha256:{sha256} is too large for a document")
            data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CorruptDataError(f"the blob sha256:{sha256} in {self._node_folder} is damaged")
        return data

    def copies(self, uid: int) -> list[LocalCopy]:
        """All blobs of a user."""
        found = []
        with self._folder(uid, "sha256") as top:
            for name in os.listdir(top) if top is not None else ():
                try:
                    fd = os.open(name, _FOLDER, dir_fd=top)
                except OSError:
                    continue
                try:
                    for entry in os.scandir(fd):
                        info = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(info.st_mode) and info.st_uid == uid and len(entry.name) == 64:
                            used_ns = max(info.st_atime_ns, info.st_mtime_ns)
                            found.append(LocalCopy(uid, entry.name, info.st_size, used_ns))
                finally:
                    os.close(fd)
        return found

    def remove(self, copy: LocalCopy) -> None:
        """Remove one; harmless when it is gone. The caller holds the user's lock (see `quiet`)."""
        with self._folder(copy.uid, "sha256", copy.sha256[:2]) as folder:
            if folder is not None:
                try:
                    os.unlink(copy.sha256, dir_fd=folder)
                except FileNotFoundError:
                    pass  # removed by its user

    @contextmanager
    def quiet(self, uid: int) -> Iterator[bool]:
        """Keep the user's processes from storing meanwhile; False, and no hold, where one is storing now."""
        with self._folder(uid) as folder:
            fd = None
            try:
                if folder is not None:
                    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                    fd = os.open(WRITING_LOCK, flags, 0o600, dir_fd=folder)
                    info = os.fstat(fd)
                    if os.geteuid() == 0 and info.st_uid != uid and info.st_nlink == 1:
                        os.fchown(fd, uid, -1)  # made by us just now: its user must be able to take it
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield fd is not None
            except BlockingIOError:
                yield False
            finally:
                if fd is not None:
                    os.close(fd)

    @contextmanager
    def _folder(self, uid: int, *inner: str) -> Iterator[int | None]:
        fds: list[int] = []
        try:
            fd: int | None = None
            try:
                for name in (str(self._node_folder), str(uid), BLOBS_FOLDER, *inner):
                    flags = _FOLDER if fds else _FOLDER & ~os.O_NOFOLLOW
                    fd = os.open(name, flags, dir_fd=fd)
                    fds.append(fd)
                    if len(fds) > 1 and os.fstat(fd).st_uid != uid:
                        raise FileNotFoundError(name)
            except OSError:
                fd = None
            yield fd
        finally:
            for opened in fds:
                os.close(opened)

    def _open(self, uid: int, sha256: str) -> int | None:
        with self._folder(uid, "sha256", sha256[:2]) as folder:
            if folder is None:
                return None
            try:
                fd = os.open(sha256, _FILE, dir_fd=folder)
            except OSError:
                return None
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_uid != uid:
            os.close(fd)
            return None
        return fd
