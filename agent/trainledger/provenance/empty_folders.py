"""Folders without anything in them, which no tree of git can hold and which a run may need."""

import os

from .git import Git
from .selection import passed_over

__all__ = ["find_empty_folders"]

FOLDERS_MAX = 20_000
EMPTY_MAX = 2_000


def find_empty_folders(private: Git, *, never: tuple[bytes, ...] = ()) -> tuple[str, ...]:
    """Empty folders of the work tree that are not ignored, relative to it; of very many folders the first ones.

    Repositories inside are not looked into."""
    top = os.fsencode(private.top)
    empty: list[bytes] = []
    for seen, (folder, names, files) in enumerate(os.walk(top)):
        if seen > FOLDERS_MAX or len(empty) >= EMPTY_MAX:
            break
        relative = os.path.relpath(folder, top)
        if relative != b"." and not names and not files:
            empty.append(relative)
        names[:] = sorted(n for n in names if n != b".git" and not _is_other(folder + b"/" + n, top, never))
    kept = [path for path in empty if path not in passed_over(empty)]
    if not kept:
        return ()
    # The answer is empty, with exit 1, when none is ignored.
    said = private.ask("check-ignore", "-z", "--", *(os.fsdecode(path) for path in kept)) or b""
    ignored = set(said.split(b"\0"))
    return tuple(os.fsdecode(path) for path in kept if path not in ignored)


def _is_other(folder: bytes, top: bytes, never: tuple[bytes, ...]) -> bool:
    relative = os.path.relpath(folder, top) + b"/"
    is_environment = os.path.exists(folder + b"/pyvenv.cfg") or os.path.exists(folder + b"/conda-meta")
    return (
        relative.startswith(never)
        or is_environment
        or os.path.lexists(folder + b"/.git")
        or bool(passed_over([relative]))
    )
