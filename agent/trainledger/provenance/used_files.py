"""Files that a run uses and its repository may be told to ignore, or does not hold at all.

Taken although they are ignored: files of modules that were loaded when the capture was asked for, small files that the
command line names (a local configuration), and what TRAINLEDGER_INCLUDE matches. Modules that were loaded from outside
of the code: see `outside_files`.

There is no hook on `open`: Python keeps one for the life of the process, and it costs 0.4 us for each file that is
opened and 0.3 us for each class that is unpickled (a fifth of it), long after the start of the run.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

__all__ = ["UsedFiles", "included_files", "named_files", "real_place"]

# A larger file that is named is data.
NAMED_BYTES_MAX = 1 << 20
NAMED_MAX = 200
INCLUDED_MAX = 5000
_LOOKED_AT_MAX = 200_000


@dataclass(frozen=True, slots=True)
class UsedFiles:
    """`loaded`: files of modules; `named`: in the command line; `patterns`: of TRAINLEDGER_INCLUDE; `search`: the
    module path; `declared`: what PYTHONPATH says of it."""

    loaded: tuple[Path, ...] = ()
    named: tuple[Path, ...] = ()
    patterns: tuple[str, ...] = ()
    search: tuple[Path, ...] = ()
    declared: tuple[Path, ...] = ()

    def inside(self, top: Path) -> list[bytes]:
        """Those below `top`, relative to it."""
        return [
            os.fsencode(path.relative_to(top))
            for path in map(real_place, (*self.loaded, *self.named))
            if path.is_relative_to(top)
        ]


def named_files(argv: Sequence[str], cwd: Path) -> tuple[Path, ...]:
    """Small files that a command line names, as a word of its own or behind `=`."""
    found = []
    for word in argv:
        for text in {word, word.partition("=")[2]} - {""}:
            path = cwd / text
            try:
                if len(text) < 4096 and path.is_file() and path.stat().st_size <= NAMED_BYTES_MAX:
                    found.append(path)
            except (OSError, ValueError):
                continue  # no path, but text with a zero byte or the like
    return tuple(found[:NAMED_MAX])


def included_files(top: Path, patterns: Iterable[str]) -> tuple[list[bytes], list[str]]:
    """Files below `top` that match, and what is to be said of patterns that match none or too many."""
    found: list[bytes] = []
    reasons = []
    for pattern in patterns:
        try:
            matches = list(islice(_matches(top, pattern), INCLUDED_MAX + 1))
        except (OSError, ValueError, NotImplementedError, IndexError):
            reasons.append(f"code: TRAINLEDGER_INCLUDE: {pattern!r} is no pattern of paths below {top}")
            continue
        if not matches:
            reasons.append(f"code: TRAINLEDGER_INCLUDE: nothing below {top} matches {pattern!r}")
        if len(matches) > INCLUDED_MAX:
            reasons.append(
                f"code: TRAINLEDGER_INCLUDE: of {pattern!r} only {INCLUDED_MAX} files were looked at"
            )
        found += [os.fsencode(path.relative_to(top)) for path in matches[:INCLUDED_MAX]]
    return found, reasons


def _matches(top: Path, pattern: str) -> Iterator[Path]:
    for path in islice(top.glob(pattern), _LOOKED_AT_MAX):
        if ".." in path.parts:
            raise ValueError(pattern)
        # A folder stands for all that is in it.
        for file in path.rglob("*") if path.is_dir() and not path.is_symlink() else (path,):
            if file.is_file() and ".git" not in file.relative_to(top).parts:
                yield file


def real_place(path: Path) -> Path:
    """The path without links on the way, as git names its folders; the file itself may be one."""
    return Path(os.path.realpath(path.parent)) / path.name
