"""Collection of blobs beside the journals of this machine's users.

    <blobs>/condemned/<64 digits>      empty: the blob is not needed since this file was made

What makes it safe is a lock: while it is held no process stores (they hold it, shared, until what names their blobs is
in a journal), and the journals were read after it was taken. Nobody is kept waiting for longer than that takes; where
a process is storing now, its folder is left out and told. The grace is for people.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from trainledger_schemas.blobs import WRITING_LOCK

from .needed import Needed
from .report import Policy, Report

__all__ = ["collect_folder", "held_folders"]

CONDEMNED = "condemned"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@contextmanager
def held_folders(folders: list[Path]) -> Iterator[tuple[list[Path], list[Path]]]:
    """Keep everybody from storing in these folders; gives those that are held, and those where somebody stores now.
    Folders that this user may not change are neither."""
    held, busy = [], []
    with ExitStack() as locks:
        for folder in folders:
            if not os.access(folder, os.W_OK | os.X_OK) or not (folder / "sha256").is_dir():
                continue
            owner = folder.stat()
            fd = os.open(folder / WRITING_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            locks.callback(os.close, fd)
            if os.fstat(fd).st_uid != owner.st_uid and os.geteuid() == 0:
                os.fchown(fd, owner.st_uid, owner.st_gid)  # its users must be able to take it
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held.append(folder)
            except BlockingIOError:
                busy.append(folder)
        yield held, busy


def collect_folder(folder: Path, needed: Needed, *, policy: Policy) -> Report:
    """One collection of a folder that is held. Raises OSError; a repeat goes on."""
    report = Report(str(folder))
    if needed.unread:
        report.notes.append(f"{needed.unread} documents that runs name are on other machines")
    for path in sorted((folder / "sha256").glob("??/*")):
        if not _DIGEST.fullmatch(path.name) or path.is_symlink():
            continue
        info = path.stat()
        mark = folder / CONDEMNED / path.name
        if path.name in needed:
            report.kept.add(info.st_size)
            if policy.deletes:
                mark.unlink(missing_ok=True)
            continue
        since_us = _since_us(mark)
        if since_us is None and info.st_mtime_ns // 1000 > policy.young_us:
            report.young.add(info.st_size)
        elif since_us is None or max(since_us, info.st_mtime_ns // 1000) > policy.now_us - policy.grace_us:
            report.condemned.add(info.st_size)
            if policy.deletes and since_us is None:
                _condemn(mark, policy.now_us)
        else:
            report.expired.add(info.st_size)
            if policy.deletes:
                path.unlink(missing_ok=True)
                mark.unlink(missing_ok=True)
                report.deleted.add(info.st_size)
    return report


def _since_us(mark: Path) -> int | None:
    try:
        return mark.lstat().st_mtime_ns // 1000
    except FileNotFoundError:
        return None


def _condemn(mark: Path, now_us: int) -> None:
    mark.parent.mkdir(mode=0o700, exist_ok=True)
    mark.touch(mode=0o600)
    os.utime(mark, ns=(now_us * 1000, now_us * 1000))
