"""Where journals go, and why not elsewhere.

Order: TRAINLEDGER_DIR; the node's folder /var/lib/trainledger/journals, made by the agent's install with mode
1733; $XDG_STATE_HOME/trainledger/journals. The first that can be written wins; each refusal is a reason that a
person can act on. Network file systems are refused unless allowed: a stalled server would stall the training.
"""

import fcntl
import json
import os
import stat
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .settings import Settings

__all__ = ["NODE_FOLDER", "Placement", "choose_folder", "filesystem_type", "lock_owner", "reader_of"]

NODE_FOLDER = Path("/var/lib/trainledger/journals")
READER_LOCK = "reader.lock"

NETWORK = frozenset(
    "nfs nfs4 cifs smb3 smbfs ncpfs ceph lustre 9p afs gpfs beegfs glusterfs ocfs2 gfs2 pvfs2 orangefs panfs "
    "fuse.sshfs fuse.glusterfs fuse.s3fs fuse.gcsfuse fuse.rclone fuse.mountpoint-s3 fuse.ceph fuse.juicefs "
    "fuse.goofys fuse.blobfuse2 fuse.cephfs".split()
)
# Mapped appends are measured on these; all others (FUSE, virtiofs, btrfs, ZFS, unknown) take write calls.
MAPPED = frozenset("ext2 ext3 ext4 xfs f2fs tmpfs overlay".split())

# struct flock of 64-bit Linux: type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi4x")


class Placement(NamedTuple):
    """The chosen folder of this user's journals, or None with the reasons of all refusals.

    `folder` is <node folder>/<uid>; `append_by_write` says which way to append; `reader` names who reads it.
    """

    folder: Path | None = None
    reasons: tuple[str, ...] = ()
    append_by_write: bool = False
    reader: str | None = None


def choose_folder(settings: Settings, failed: Mapping[Path, str] | None = None) -> Placement:
    """Try the places in order and make the user's folder in the first usable one; never raises.

    `failed`: users' folders that were chosen before and could not be written then, with the reasons.
    """
    places = [settings.state_home / "trainledger" / "journals"]
    if os.path.isdir(NODE_FOLDER):
        places.insert(0, NODE_FOLDER)
    if settings.dir is not None:
        places.insert(0, settings.dir)
    reasons: list[str] = []
    for place in places:
        if not place.is_absolute():
            reasons.append(f"{place} is no use: this user has no home folder; set TRAINLEDGER_DIR")
            continue
        kind = filesystem_type(place)
        if kind in NETWORK and not settings.allow_network_disk:
            reasons.append(
                f"{place} is on a network file system ({kind}), whose stalls would stall training: set "
                "TRAINLEDGER_DIR to a local disk, or TRAINLEDGER_ALLOW_NETWORK_DISK=1"
            )
            continue
        try:
            folder = _open_user_folder(place)
        except (OSError, ValueError) as error:
            detail = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            reasons.append(f"{place} cannot be used: {detail}")
            continue
        if failed and folder in failed:
            reasons.append(f"{place} cannot be used: {failed[folder]}")
            continue
        by_write = kind not in MAPPED or not _has_global_lock()
        return Placement(folder, tuple(reasons), by_write, reader_of(place))
    return Placement(None, tuple(reasons))


def filesystem_type(path: Path) -> str:
    """The type of the file system that holds `path` or its nearest existing parent; "unknown" if not told."""
    try:
        lines = (
            Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        )
    except OSError:
        return "unknown"
    real = os.path.realpath(path)
    best, kind = "", "unknown"
    for line in lines:
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = _unescape(fields[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        # Not longer but as long: a later mount on the same point covers the earlier one.
        if inside and len(point) >= len(best):
            best, kind = point, right.split(" ")[0]
    return kind


def reader_of(node_folder: Path) -> str | None:
    """Who reads this node folder now, as words for a person, or None.

    The lock is asked about (F_GETLK), never taken: a reader that starts at this moment is not disturbed.
    """
    path = node_folder / READER_LOCK
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError:
        return "an agent of another user"
    try:
        pid = lock_owner(fd)
        if not pid:
            return None
        return _describe_reader(os.read(fd, 4096), pid)
    except OSError:
        return None
    finally:
        os.close(fd)


def lock_owner(fd: int) -> int:
    """The process that holds a lock on this file, -1 if it cannot be named, 0 if none does. The lock is not taken."""
    asked = fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    held, _, _, _, pid = _FLOCK.unpack(asked)
    return 0 if held == fcntl.F_UNLCK else pid or -1


def _describe_reader(content: bytes, pid: int) -> str:
    try:
        told = json.loads(content)
        return f"{told['kind']}, pid {int(told['pid'])}"
    except (ValueError, KeyError, TypeError):
        return f"pid {pid}"


def _open_user_folder(place: Path) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    folder = place / str(os.geteuid())
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        # In a folder that all may write to, somebody else could have made ours first.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise ValueError(f"{folder} belongs to someone else or may be written by others") from None
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise ValueError(f"{folder} may not be written")
    return folder


def _has_global_lock() -> bool:
    enabled = getattr(sys, "_is_gil_enabled", None)  # from 3.13 on
    return True if enabled is None else bool(enabled())


def _unescape(point: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, char)
    return point
