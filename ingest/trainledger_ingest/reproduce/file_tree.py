"""Writing files below a folder, never outside of it, whatever their names and the links on the way say."""

import os
import shutil
import stat
from pathlib import Path

from trainledger_schemas.errors import CorruptDataError

__all__ = ["FileTree"]

EXECUTABLE = "100755"
LINK = "120000"


class FileTree:
    """The files below `top`; paths are relative, as bytes."""

    def __init__(self, top: Path) -> None:
        self._top = os.fsencode(top)

    def place(self, path: bytes) -> bytes:
        """The whole path; raises CorruptDataError for one that leads elsewhere or into a repository's own folder."""
        parts = path.split(b"/")
        if any(part in (b"", b".", b"..") or part.lower() in (b".git", b".svn") for part in parts):
            raise CorruptDataError(
                f"the snapshot has a file {os.fsdecode(path)!r} that may not be written; it is not restored"
            )
        whole = self._top
        for part in parts[:-1]:
            whole += b"/" + part
            if os.path.islink(whole):
                raise CorruptDataError(f"{os.fsdecode(whole)} is a link; nothing is written through it")
        return self._top + b"/" + path

    def remove(self, path: bytes) -> None:
        """Take a file away, and folders that are empty then."""
        whole = self.place(path)
        if not os.path.lexists(whole):
            return
        if os.path.isdir(whole) and not os.path.islink(whole):
            shutil.rmtree(whole)
        else:
            os.unlink(whole)
        folder = os.path.dirname(whole)
        while folder != self._top and not os.listdir(folder):
            os.rmdir(folder)
            folder = os.path.dirname(folder)

    def write(self, path: bytes, data: bytes, mode: str) -> None:
        """Write a file or link anew; `mode` is git's."""
        whole = self.place(path)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        if os.path.lexists(whole):
            os.unlink(whole)
        if mode == LINK:
            os.symlink(data, whole)
            return
        fd = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        with open(fd, "wb") as file:
            file.write(data)
            if mode == EXECUTABLE:
                os.fchmod(fd, os.fstat(fd).st_mode | 0o111)

    def move_here(self, file: Path, path: bytes, mode: str) -> None:
        """Move a new file of the same disk to the place of another; `mode` is git's."""
        if mode == EXECUTABLE:
            file.chmod(file.stat().st_mode | 0o111)
        os.replace(file, self.place(path))

    def read(self, path: bytes) -> tuple[str, bytes] | None:
        """Mode and bytes of what lies there, as git would store them; None for nothing, a folder or a device."""
        whole = self.place(path)
        try:
            status = os.lstat(whole)
        except OSError:
            return None
        if stat.S_ISLNK(status.st_mode):
            return LINK, os.readlink(whole)
        if not stat.S_ISREG(status.st_mode):
            return None
        with open(whole, "rb") as file:
            return (EXECUTABLE if status.st_mode & 0o100 else "100644"), file.read()

    def make_folder(self, path: bytes) -> None:
        """Make a folder; harmless when it is there."""
        os.makedirs(self.place(path), exist_ok=True)
