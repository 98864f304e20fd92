"""The bytes of an artifact as they are when `log_artifact` is called, held until they are stored.

A training may write to the same file as soon as the call returns, so a file is cloned where the file system can do
that, copied when it is small (COPIED_BYTES_MAX together), and else held by a hard link, whose file must not be written
in place before it is stored (a change is noticed, and the artifact told as unstable). Limit: HELD_FILES_MAX files.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from typing import Any

from trainledger_schemas.ids import id_text, random_id

__all__ = ["hold_files"]

COPIED_BYTES_MAX = 64 << 20
HELD_FILES_MAX = 1000
_CLONE = 0x40049409  # FICLONE of linux/fs.h


def hold_files(where: str, folder: str) -> dict[str, Any] | None:
    """Keep the bytes as they are now in a folder of our own; None where they can only be read in place.

    {"folder": a new folder, "linked": [[path in it, inode, size, mtime ns]]}: what is not linked is a copy.
    """
    own = os.path.join(folder, id_text(random_id()))
    os.makedirs(own, mode=0o700)
    room, linked = COPIED_BYTES_MAX, []
    try:
        for number, (inner, source) in enumerate(_files_of(where)):
            if number >= HELD_FILES_MAX:
                _let_go(own)
                return None
            target = os.path.join(own, "x", inner) if inner else os.path.join(own, "x")
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            info = os.lstat(source)
            if stat.S_ISLNK(info.st_mode):
                os.symlink(os.readlink(source), target)
            elif not stat.S_ISREG(info.st_mode):
                continue
            elif not _clone(source, target) and info.st_size > room:
                os.link(source, target, follow_symlinks=False)
                info = os.lstat(target)
                linked.append([os.fsencode(inner).hex(), info.st_ino, info.st_size, info.st_mtime_ns])
            elif not os.path.exists(target):
                room -= info.st_size
                _copy(source, target)
    except OSError:  # another disk, links that the system forbids, no room
        _let_go(own)
        return None
    return {"folder": own, "linked": linked}


def _files_of(where: str) -> Iterator[tuple[str, str]]:
    if not os.path.isdir(where):
        yield "", os.path.realpath(where)
        return
    for folder, folders, names in os.walk(where):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        if not names and not folders:
            raise OSError("an empty folder: read in place")
        for name in (*names, *links):
            path = os.path.join(folder, name)
            yield os.path.relpath(path, where), path


def _clone(source: str, target: str) -> bool:
    with open(source, "rb", buffering=0) as reader, open(target, "xb", buffering=0) as writer:
        try:
            fcntl.ioctl(writer.fileno(), _CLONE, reader.fileno())
        except OSError:
            is_cloned = False
        else:
            is_cloned = True
            os.fchmod(writer.fileno(), os.fstat(reader.fileno()).st_mode & 0o777)
    if not is_cloned:
        os.unlink(target)
    return is_cloned


def _copy(source: str, target: str) -> None:
    with open(source, "rb", buffering=0) as reader, open(target, "xb", buffering=0) as writer:
        while os.sendfile(writer.fileno(), reader.fileno(), None, 1 << 30):
            pass
        os.fchmod(writer.fileno(), os.fstat(reader.fileno()).st_mode & 0o777)


def _let_go(own: str) -> None:
    for folder, folders, names in os.walk(own, topdown=False):
        for name in names:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            inner = os.path.join(folder, name)
            os.unlink(inner) if os.path.islink(inner) else os.rmdir(inner)
    os.rmdir(own)
