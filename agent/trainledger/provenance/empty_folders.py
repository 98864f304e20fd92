"""Folders without anything in them, which no tree of git can hold and which a run may need."""

import os

from .git import Git
from .selection import passed_over

__all__ = ["find_empty_folders"]

FOLDERS_MAX = 20_000
EMPTY_MAX = 2_000


def find_empty_folders(
    private: Git, *, never: tuple[bytes, ...] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Empty folders of the work tree that are not ignored, relative to it; of very many folders the first ones. And
    those that cannot be read, which git passes over.

    Repositories inside are not looked into."""
    top = os.fsencode(private.top)
    empty: list[bytes] = []
    closed: list[bytes] = []

    def note(error: OSError) -> None:
        if isinstance(error, PermissionError):
            closed.append(os.path.relpath(os.fsencode(error.filename), top))

    for seen, (folder, names, files) in enumerate(os.walk(top, onerror=note)):
        if seen > FOLDERS_MAX or len(empty) >= EMPTY_MAX:
            break
        relative = os.path.relpath(folder, top)
        if relative != b"." and not names and not files:
            empty.append(relative)
        names[:] = sorted(n for n in names if n != b".git" and not _is_other(folder + b"/" + n, top, never))
    return _not_ignored(private, empty), _not_ignored(private, closed)


def _not_ignored(private: Git, folders: list[bytes]) -> tuple[str, ...]:
    over = passed_over(folders)
    kept = [path for path in folders[:EMPTY_MAX] if path not in over]
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
