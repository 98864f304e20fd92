"""Which paths can be read as data: regular files and folders that end, and nothing that reading would disturb.

A pipe loses what is read of it, a device may never end, and files of the kernel are made anew by each reading.
"""

import os
import stat

__all__ = ["why_not_kept", "why_not_read"]

_KERNEL_FOLDERS = ("/proc", "/sys")
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def why_not_kept(path: str, own: str | os.PathLike[str]) -> str | None:
    """Why a path that could be read is not stored whole, or None; `own`: where this program keeps what it stores."""
    top = os.path.realpath(path)
    if top == os.sep or os.path.realpath(own).startswith(top + os.sep):
        return f"it holds {os.fspath(own)}, where artifacts are kept: name the folder that the run wrote"
    return None


def why_not_read(path: str) -> str | None:
    """Why what lies here must not be opened, or None; looks without opening. Raises OSError where nothing is."""
    kind = _KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    if kind is not None:
        return f"{kind} is not read: give the file or folder that the data comes from"
    real = os.path.realpath(path)
    for folder in _KERNEL_FOLDERS:
        if real == folder or real.startswith(folder + "/"):
            return f"files below {folder} are made by the kernel when they are read: there is no digest"
    return None
