"""Giving a repetition the data of the run without letting it change that data.

Small data is copied (cloned where the file system can, which costs no space); what is larger than COPY_BYTES_MAX is
linked, and looked at before and after: a file that was changed, added or removed is told. Where the command would write
over an output of the run, it is not started. Limit: links cannot be made read-only without rights over mounts.
"""

import fcntl
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainledger_schemas.errors import UsageError

from .inputs import PathMapping, map_path

__all__ = ["Guard", "check_outputs", "map_command", "place_data"]

COPY_BYTES_MAX = 1 << 30
FILES_WATCHED_MAX = 200_000
_FICLONE = 0x40049409


@dataclass(frozen=True, slots=True)
class Guard:
    """Files that must stay as they are: path to (size, mtime, inode)."""

    states: Mapping[str, tuple[int, int, int]]
    roots: tuple[str, ...]

    @classmethod
    def over(cls, paths: Iterable[str]) -> "Guard":
        """Look at files and folders, links followed at the top alone; of very many files the first."""
        roots = tuple(os.path.realpath(path) for path in paths if os.path.exists(path))
        return cls(dict(_states(roots)), roots)

    def changes(self) -> list[str]:
        """What is not as it was."""
        now = dict(_states(self.roots))
        return sorted(path for path in {*self.states, *now} if self.states.get(path) != now.get(path))


def place_data(source: Path, target: Path) -> tuple[str, str | None]:
    """Bring `source` to the new path `target`; what was done, and the path to guard where it is a link.

    Raises UsageError when something is there, and OSError."""
    if os.path.lexists(target):
        raise UsageError(f"{target} is in the restored code; data is put only where nothing is")
    target.parent.mkdir(parents=True, exist_ok=True)
    size = _size(source)
    if size > COPY_BYTES_MAX:
        target.symlink_to(source)
        return f"{target} is a link to {source}, {size} bytes", str(source)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=_copy)
    else:
        _copy(str(source), str(target))
    return f"{target} is a copy of {source}, {size} bytes", None


def map_command(argv: Sequence[str], mappings: Sequence[PathMapping]) -> list[str]:
    """Arguments, alone or behind `=`, that are paths below a mapped one."""
    mapped = []
    for argument in argv:
        name, equals, value = argument.partition("=")
        new = map_path(value if equals else argument, mappings)
        mapped.append(argument if new is None else f"{name}={new}" if equals else new)
    return mapped


def check_outputs(outputs: Iterable[Mapping[str, Any]], argv: Sequence[str], *, code: str | None) -> None:
    """Raise UsageError where an argument names an output of the run, or the folder that it is in."""
    named = [os.path.normpath(a.rpartition("=")[2]) for a in argv if os.path.isabs(a.rpartition("=")[2])]
    for written in outputs:
        uri = str(written.get("uri") or "")
        if not os.path.isabs(uri) or not os.path.exists(uri) or _is_below(uri, code):
            continue
        for path in named:
            if path != "/" and _is_below(uri, path):
                raise UsageError(
                    f"the run wrote {uri}, and its command names {path}: a repetition would write over it; give "
                    f"another place with --data {path}=NEW"
                )


def _is_below(path: str, folder: str | None) -> bool:
    return folder is not None and (path == folder or path.startswith(folder.rstrip("/") + "/"))


def _states(roots: Iterable[str]) -> Iterator[tuple[str, tuple[int, int, int]]]:
    count = 0
    for root in roots:
        for path, status in _files(root):
            count += 1
            if count > FILES_WATCHED_MAX:
                return
            yield path, (status.st_size, status.st_mtime_ns, status.st_ino)


def _size(source: Path) -> int:
    return sum(status.st_size for _, status in _files(os.path.realpath(source)))


def _files(root: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        status = os.lstat(root)
        if not stat.S_ISDIR(status.st_mode):
            yield root, status
            return
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError:
        return  # gone, or not to be read: nothing that could be compared
    for entry in entries:
        yield from _files(entry.path)


def _copy(source: str, target: str) -> str:
    with open(source, "rb") as data, open(target, "xb") as sink:
        try:
            fcntl.ioctl(sink, _FICLONE, data.fileno())
        except OSError:
            shutil.copyfileobj(data, sink, 1 << 20)
    shutil.copystat(source, target)
    return target
